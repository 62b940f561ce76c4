"""What Dagster's runs on this platform carry: tags, and the states in which they are under way."""

from typing import Final

import dagster as dg

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

RANGE_TAGS: Final = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
"""Carry the first and the last day of a run that has several."""

# The queue lets few of these run at once, so that a drain never waits behind them.
REBUILD_TAGS: Final = {"k2/queue": "rebuild", "dagster/max_runtime": "1800"}
