"""When gold follows silver, and candles follow gold: Dagster's declarative automation. And when a run is over."""

from typing import Final

import dagster as dg

# Not eager(): that never fires for an open day. This one neither loses an update that lands while the asset runs nor
# one that comes before the first evaluation; what it still forgets (a failed run) the backlog sensor finds.
FOLLOW: Final = (
    (
        dg.AutomationCondition.any_deps_updated()
        | (dg.AutomationCondition.missing() & ~dg.AutomationCondition.any_deps_missing()).newly_true()
    ).since(dg.AutomationCondition.newly_requested() & ~dg.AutomationCondition.any_deps_updated())
    & ~dg.AutomationCondition.in_progress()
    & ~dg.AutomationCondition.any_deps_in_progress()
).with_label("follow")

UNFINISHED: Final = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""The states of a run that is not over."""

PARTITION_TAG: Final = "dagster/partition"
"""Carries the day of a run."""

# The queue lets few of these run at once, so that a long backfill never stands before a drain. The backlog sensor asks
# again for the days of one that failed, so that Dagster does not start it again as well.
REFINE_TAGS: Final = {"k2/queue": "refine", "dagster/max_runtime": "1800", "dagster/max_retries": "0"}


def automation_sensor(selection: dg.AssetSelection) -> dg.AutomationConditionSensorDefinition:
    """Return the sensor that evaluates the conditions of ``selection``."""
    return dg.AutomationConditionSensorDefinition(
        "gold_automation",
        target=selection,
        run_tags=REFINE_TAGS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=10,
        description="Asks for each day of gold and of the candles whose sources have news.",
    )
