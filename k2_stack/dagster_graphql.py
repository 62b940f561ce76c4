"""Ask Dagster's webserver by the GraphQL of its pages: list assets, launch a backfill, follow its progress."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import httpx

from k2_core.errors import PartAway, PartError
from k2_stack.backfill_chart import Run

_TIMEOUT_S: Final = 300.0  # on a busy machine; a server that is not there refuses at once
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
_RUNS: Final = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { runs { id status tags { key value } assetSelection { path } } }
  }
}
"""
_REPORTED: Final = """
query ($run: ID!) {
  runOrError(runId: $run) { ... on Run { assetMaterializations { partition assetKey { path } } } }
}
"""
_AGAIN: Final = """
mutation ($params: ReexecutionParams!) {
  reexecutePartitionBackfill(reexecutionParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on UnauthorizedError { message }
    ... on PythonError { message }
  }
}
"""
_SELECTED: Final = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { assetSelection { path } } }
}
"""
_TARGETED: Final = """
query ($id: String!, $key: AssetKeyInput!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill {
      partitionsTargetedForAssetKey(assetKey: $key) { partitionKeys ranges { start end } }
    }
  }
}
"""
_REASONS: Final = """
query ($run: ID!, $after: String) {
  logsForRun(runId: $run, afterCursor: $after) {
    ... on EventConnection { cursor hasMore events {
      __typename
      ... on ExecutionStepFailureEvent { stepKey error { message causes { message } } }
      ... on RunFailureEvent { message error { message causes { message } } }
      ... on EngineEvent { message error { message causes { message } } }
    } }
  }
}
"""
_STARTED_AGAIN: Final = "dagster/auto_retry_run_id"
_ENDED: Final = {"SUCCESS", "FAILURE", "CANCELED"}
MAX_RETRIES: Final = "dagster/max_retries"
_RETRIES: Final = 2  # of a run that did not start, or whose process was killed
MARKED_FAILED: Final = "This run has been marked as failed from outside the execution context."
"""Dagster's message for a run that it could not start, or whose process ended; an earlier event holds the reason."""
_CRASH: Final = re.compile(r"Run execution process for \S+ (was terminated by signal \d+ \(\w+\)|.* code -?\d+)")


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


@dataclass(frozen=True)
class Failure:
    """Why a run of a backfill failed."""

    days: str
    step: str
    reason: str


class DagsterPages:
    """Dagster's webserver at ``url``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(timeout=_TIMEOUT_S, trust_env=False)

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
        days: list[str] = self._ask(_DAYS, key={"path": asset.split("/")})["assetNodeOrError"]["partitionKeys"]
        return days

    def launch(self, assets: list[str], days: list[str]) -> str:
        """Launch a backfill and return its id.

        Raises:
            PartError: Dagster refused it, or does not answer.
        """
        params = {
            "assetSelection": [{"path": asset.split("/")} for asset in assets],
            "partitionNames": days,
            # Dagster starts a run again that did not start, or whose process was killed; not one that failed by itself.
            "tags": [{"key": MAX_RETRIES, "value": str(_RETRIES)}],
        }
        return _launched(self._ask(_LAUNCH, params=params)["launchPartitionBackfill"])

    def launch_failed(self, backfill_id: str) -> str:
        """Launch a backfill of what another one did not rebuild, and return its id.

        Raises:
            PartError: Dagster refused it: there is no such backfill, it still runs, or nothing of it failed.
        """
        params = {"parentRunId": backfill_id, "strategy": "FROM_FAILURE"}
        return _launched(self._ask(_AGAIN, params=params)["reexecutePartitionBackfill"])

    def targeted(self, backfill_id: str) -> dict[str, list[str]]:
        """Return the days that a backfill is to rebuild, of each asset."""
        found = {}
        for key in self._ask(_SELECTED, id=backfill_id)["partitionBackfillOrError"]["assetSelection"]:
            answer = self._ask(_TARGETED, id=backfill_id, key={"path": key["path"]})["partitionBackfillOrError"]
            partitions = answer["partitionsTargetedForAssetKey"] or {}
            days = list(partitions.get("partitionKeys") or ())
            for span in partitions.get("ranges") or ():
                first, last = (date.fromisoformat(span[end]) for end in ("start", "end"))
                days += [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]
            found[_name(key)] = days
        return found

    def runs(self, backfill_id: str, known: Mapping[str, Run]) -> dict[str, Run]:
        """Return the runs of a backfill by their ids, without those that were started again.

        Args:
            backfill_id: of the backfill.
            known: what an earlier call returned: of a run that had ended then nothing is asked.
        """
        found = {}
        for run in self._ask(_RUNS, id=backfill_id)["partitionBackfillOrError"]["runs"]:
            tags, status = {tag["key"]: tag["value"] for tag in run["tags"]}, run["status"]
            if _STARTED_AGAIN in tags:
                continue
            before = known.get(run["id"])
            if before is not None and before.status == status and status in _ENDED:
                found[run["id"]] = before
                continue
            events: list[dict[str, Any]] = []
            if status in {"STARTED", "CANCELING", *_ENDED}:
                events = self._ask(_REPORTED, run=run["id"])["runOrError"].get("assetMaterializations", [])
            reported = frozenset((_name(event["assetKey"]), event["partition"]) for event in events)
            first, last = _days_of(tags)
            assets = tuple(map(_name, run["assetSelection"] or ()))
            found[run["id"]] = Run(run["id"], status, assets, first, last, reported)
        return found

    def progress(self, backfill_id: str) -> Progress:
        """Return how far a backfill is.

        Raises:
            PartError: Dagster does not know it.
        """
        found = self._ask(_PROGRESS, id=backfill_id)["partitionBackfillOrError"]
        if found["__typename"] != "PartitionBackfill":
            msg = f"Dagster knows no backfill {backfill_id}: somebody has deleted it"
            raise PartError(msg)
        # None at first, before the daemon has looked at the backfill.
        counts = (found["assetBackfillData"] or {"assetBackfillStatuses": []})["assetBackfillStatuses"]
        targeted, done, failed = (
            sum(each.get(f"numPartitions{which}", 0) for each in counts)
            for which in ("Targeted", "Materialized", "Failed")
        )
        error = _sentence((found["error"] or {}).get("message", ""))
        return Progress(found["status"], targeted, done, failed, error)

    def failures(self, backfill_id: str) -> list[Failure]:
        """Return why the runs of a backfill failed, in order of their days; without those that were started again."""
        failed = []
        for run in self._ask(_RUNS, id=backfill_id)["partitionBackfillOrError"]["runs"]:
            tags = {tag["key"]: tag["value"] for tag in run["tags"]}
            if run["status"] not in {"FAILURE", "CANCELED"} or _STARTED_AGAIN in tags:
                continue
            first, last = _days_of(tags)
            days = first if first == last else f"{first} to {last}"
            # All pages of its events: the log of many days has thousands, and why it failed comes last.
            events: list[dict[str, Any]] = []
            page: dict[str, Any] = {"cursor": None, "hasMore": True}
            while page.get("hasMore"):
                page = self._ask(_REASONS, run=run["id"], after=page["cursor"])["logsForRun"]
                events += page.get("events", [])
            failed.append(_failure_of(events, days, run["status"].lower()))
        return sorted(failed, key=lambda failure: failure.days)

    def _ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = {"query": query, "variables": variables}
        try:
            answer = self._client.post(f"{self.url}/graphql", json=body)
            found: dict[str, Any] = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            msg = f"Dagster does not answer at {self.url} ({error}): start the platform with k2 up, or see k2 status"
            raise PartAway(msg) from None
        if errors := found.get("errors"):
            msg = f"Dagster at {self.url} cannot answer: {_sentence(errors[0]['message'])}"
            raise PartError(msg)
        data: dict[str, Any] = found["data"]
        return data


def _launched(answer: dict[str, Any]) -> str:
    if "backfillId" not in answer:
        msg = f"Dagster refuses the backfill: {_sentence(answer.get('message', answer['__typename']))}"
        raise PartError(msg)
    backfill_id: str = answer["backfillId"]
    return backfill_id


def _days_of(tags: Mapping[str, str]) -> tuple[str, str]:
    """Return the first and the last day of a run."""
    if day := tags.get("dagster/partition"):
        return day, day
    return tags.get("dagster/asset_partition_range_start", ""), tags.get("dagster/asset_partition_range_end", "")


def _failure_of(events: list[dict[str, Any]], days: str, status: str) -> Failure:
    """Return why a run failed, from the most telling of its events.

    In this order: the error of a step, the error of the run, the end of its process, the error that kept it from
    starting, the message of its end.
    """
    steps, ends, engine = (
        [event for event in events if event["__typename"] == name]
        for name in ("ExecutionStepFailureEvent", "RunFailureEvent", "EngineEvent")
    )
    # A step that failed only because another one did has no error of its own.
    if step := next((event for event in steps if event["error"]), None):
        return Failure(days, step["stepKey"], _deepest(step))
    if ends and ends[-1]["error"]:
        return Failure(days, "", _deepest(ends[-1]))
    # Marked as failed from outside: the reason is in what the daemon and the code server wrote before, newest last.
    message = ends[-1]["message"] if ends else MARKED_FAILED
    if message == MARKED_FAILED:
        if found := next(filter(None, (_CRASH.search(event["message"]) for event in reversed(engine))), None):
            return Failure(days, "", f"its process {found[1]}")
        if unstarted := [event for event in engine if event["error"]]:
            return Failure(days, "", f"it was not started: {_deepest(unstarted[-1])}")
    return Failure(days, "", _sentence(message if ends else status))


def _deepest(event: dict[str, Any]) -> str:
    return _sentence([event["error"], *event["error"]["causes"]][-1]["message"])


def _name(key: dict[str, list[str]]) -> str:
    return "/".join(key["path"])


def _sentence(message: str) -> str:
    """Return the first line of a message, without the name of the exception's class in front."""
    first = message.strip().partition("\n")[0]
    # Dagster writes "k2_core.errors.PartError: a sentence".
    head, colon, rest = first.partition(": ")
    return rest if colon and head.replace(".", "").replace("_", "").isalnum() and "." in head else first
