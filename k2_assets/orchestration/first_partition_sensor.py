"""The sensor that moves the first partition back to the first day of data, and has Dagster's pages show it."""

from functools import cache
from typing import Final

import dagster as dg
import httpx

from k2_assets.lake.first_partition import FirstPartition
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.code_location import DAEMON_ASKS_EVERY_S, CodeLocation
from k2_core import clock

_TIMEOUT_S: Final = 30.0
_DAEMON_KNOWS_S: Final = DAEMON_ASKS_EVERY_S + 8.0  # it looks whether it is time every 5 s
_RELOAD: Final = (
    'mutation { reloadRepositoryLocation(repositoryLocationName: "k2") '
    "{ __typename ... on PythonError { message } ... on RepositoryLocationNotFound { message } } }"
)


def first_partition_sensor(lake: Lake) -> dg.SensorDefinition:
    """Return the sensor; it asks for no runs."""

    @cache
    def first_partition() -> FirstPartition:
        return FirstPartition(lake.catalog(), lake.namespace)

    @dg.sensor(
        name="first_partition_sensor",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
        description="Moves the first partition back when ten or more rows of older data have arrived.",
    )
    def settle_first_partition(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        first, location = first_partition().settle(), context.repository_def
        assert isinstance(location, CodeLocation)  # noqa: S101  # definitions.py makes it
        if location.first != first:
            location.begin_at(first)
        if location.shown != first:
            # The daemon loads the definitions by itself, the webserver when it is asked to. The webserver must not show
            # days that the daemon does not know: a backfill of them fails.
            if clock.monotonic() - location.moved_at < _DAEMON_KNOWS_S:
                return dg.SkipReason(f"the first partition is {first}; the pages show it once the daemon knows it")
            url = f"http://127.0.0.1:{lake.settings.ports.dagster}/graphql"
            try:  # the webserver asks this code server for its definitions then
                answer = httpx.post(url, json={"query": _RELOAD}, timeout=_TIMEOUT_S, trust_env=False)
                found = answer.raise_for_status().json()["data"]["reloadRepositoryLocation"]
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                trouble = str(error) or type(error).__name__
            else:
                trouble = str(found.get("message", ""))
            if trouble:
                return dg.SkipReason(f"the first partition is {first}, but the pages do not show it yet: {trouble}")
            location.shown = first
        return dg.SkipReason(f"the first partition is {first}")

    return settle_first_partition
