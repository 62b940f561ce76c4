"""Ask Dagster's webserver what its pages ask it: which assets there are, launch a backfill, how far it is."""

from dataclasses import dataclass
from typing import Any, Final

import httpx

from k2_core.errors import PartError

_TIMEOUT_S: Final = 60.0
_ASSETS: Final = """
query { assetNodes { assetKey { path } isMaterializable isPartitioned dependedByKeys { path } } }
"""
_DAYS: Final = """
query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { partitionKeys } } }
"""
_LAUNCH: Final = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PartitionKeysNotFoundError { message }
    ... on UnauthorizedError { message }
    ... on PythonError { message }
  }
}
"""
_PROGRESS: Final = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename
    ... on PartitionBackfill {
      status
      error { message }
      assetBackfillData { assetBackfillStatuses {
        ... on AssetPartitionsStatusCounts { numPartitionsTargeted numPartitionsMaterialized numPartitionsFailed }
      } }
    }
  }
}
"""
_FAILED: Final = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { runs { id status tags { key value } } }
  }
}
"""
_REASONS: Final = """
query ($run: ID!) {
  logsForRun(runId: $run) {
    ... on EventConnection { events {
      __typename
      ... on ExecutionStepFailureEvent { stepKey error { message causes { message } } }
      ... on RunFailureEvent { message }
    } }
  }
}
"""


@dataclass(frozen=True)
class Asset:
    """An asset that Dagster can materialize by day, and what is derived from it."""

    name: str
    followers: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """How far a backfill is; a partition counts once for each asset."""

    status: str
    targeted: int
    done: int
    failed: int
    error: str

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status.startswith("COMPLETED") or self.status in {"FAILED", "CANCELED"}


@dataclass(frozen=True)
class Failure:
    """Why a run of a backfill failed."""

    day: str
    step: str
    reason: str


class DagsterPages:
    """Dagster's webserver at ``url``."""

    def __init__(self, url: str) -> None:
        self.url = url

    def assets(self) -> dict[str, Asset]:
        """Return the assets that can be materialized by day, by name."""
        found = self._ask(_ASSETS)["assetNodes"]
        return {
            _name(node["assetKey"]): Asset(_name(node["assetKey"]), tuple(map(_name, node["dependedByKeys"])))
            for node in found
            if node["isMaterializable"] and node["isPartitioned"]
        }

    def days(self, asset: str) -> list[str]:
        """Return the days for which an asset has partitions now, oldest first."""
        days: list[str] = self._ask(_DAYS, key=_key(asset))["assetNodeOrError"]["partitionKeys"]
        return days

    def launch(self, assets: list[str], days: list[str]) -> str:
        """Launch a backfill and return its id.

        Raises:
            PartError: Dagster refused it, or does not answer.
        """
        params = {
            "assetSelection": [_key(asset) for asset in assets],
            "partitionNames": days,
        }
        answer = self._ask(_LAUNCH, params=params)["launchPartitionBackfill"]
        if "backfillId" not in answer:
            msg = f"Dagster refuses the backfill: {answer.get('message', answer['__typename'])}"
            raise PartError(msg)
        backfill_id: str = answer["backfillId"]
        return backfill_id

    def progress(self, backfill_id: str) -> Progress:
        """Return how far a backfill is."""
        found = self._ask(_PROGRESS, id=backfill_id)["partitionBackfillOrError"]
        if found["__typename"] != "PartitionBackfill":
            msg = f"Dagster knows no backfill {backfill_id}: somebody has deleted it"
            raise PartError(msg)
        counts = (found["assetBackfillData"] or {"assetBackfillStatuses": []})["assetBackfillStatuses"]
        targeted, done, failed = (
            sum(each.get(f"numPartitions{which}", 0) for each in counts)
            for which in ("Targeted", "Materialized", "Failed")
        )
        error = _sentence((found["error"] or {}).get("message", ""))
        return Progress(found["status"], targeted, done, failed, error)

    def failures(self, backfill_id: str) -> list[Failure]:
        """Return why the failed runs of a backfill failed, by day."""
        runs = self._ask(_FAILED, id=backfill_id)["partitionBackfillOrError"]["runs"]
        failed = [run for run in runs if run["status"] in {"FAILURE", "CANCELED"}]
        return sorted((self._failure(run) for run in failed), key=lambda failure: failure.day)

    def _failure(self, run: dict[str, Any]) -> Failure:
        day = next((tag["value"] for tag in run["tags"] if tag["key"] == "dagster/partition"), "")
        events = self._ask(_REASONS, run=run["id"])["logsForRun"].get("events", [])
        for event in events:
            if error := event.get("error"):
                deepest = [error, *error["causes"]][-1]
                return Failure(day, event["stepKey"], _sentence(deepest["message"]))
        said = [event["message"] for event in events if event["__typename"] == "RunFailureEvent"]
        return Failure(day, "", _sentence(said[-1] if said else run["status"].lower()))

    def _ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = {"query": query, "variables": variables}
        try:
            answer = httpx.post(f"{self.url}/graphql", json=body, timeout=_TIMEOUT_S, trust_env=False)
            found: dict[str, Any] = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            msg = f"Dagster does not answer at {self.url} ({error}): start the platform with k2 up, or see k2 status"
            raise PartError(msg) from None
        if errors := found.get("errors"):
            msg = f"Dagster at {self.url} cannot answer: {_sentence(errors[0]['message'])}"
            raise PartError(msg)
        data: dict[str, Any] = found["data"]
        return data


def _key(asset: str) -> dict[str, list[str]]:
    return {"path": asset.split("/")}


def _name(key: dict[str, list[str]]) -> str:
    return "/".join(key["path"])


def _sentence(message: str) -> str:
    """Return the first line of a message, without the name of the exception's class in front."""
    first = message.strip().partition("\n")[0]
    head, colon, rest = first.partition(": ")
    return rest if colon and head.replace(".", "").replace("_", "").isalnum() and "." in head else first
