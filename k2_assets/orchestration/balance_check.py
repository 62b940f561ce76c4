"""Checks that compare a whole day of two layers as sets, in DuckDB: by hand, and once for each day that is over."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import dagster as dg
from dagster_duckdb import DuckDBResource
from duckdb import DuckDBPyConnection

from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.check_evaluations import evaluate_each, result
from k2_assets.orchestration.run_tags import PARTITION_TAG
from k2_assets.orchestration.verdict import Verdict
from k2_core import clock
from k2_core.settings import Settings

JOB: Final = "balance"
_MEMORY: Final = "1GB"  # beyond it DuckDB goes on with files in the folder that it is given


@dataclass(frozen=True)
class BalanceCheck:
    """A check of one table against what it was made from.

    Args:
        table: that it judges.
        name: of the check.
        description: what holds when it passes.
        judge: evaluates it for a day, in a database of its own.
    """

    table: str
    name: str
    description: str
    judge: Callable[[Lake, DuckDBPyConnection, date], Verdict]

    def definition(self, days: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
        """Return the check for Dagster."""

        @dg.asset_check(  # type: ignore[arg-type]  # it takes outputs too
            asset=self.table, name=self.name, partitions_def=days, description=self.description
        )
        def balance(
            context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake], duckdb: DuckDBResource
        ) -> dg.Output[None]:
            def judge(day: date) -> dg.AssetCheckResult:
                with duckdb.get_connection() as connection:
                    return result(self.judge(lake, connection, day))

            return evaluate_each(context, judge)

        return balance


def duckdb_resource(settings: Settings) -> DuckDBResource:
    """Return the resource that gives each check a database in memory, which may use a folder of the home."""
    folder = str(settings.home / "run" / "duckdb")
    config: dict[str, Any] = {"memory_limit": _MEMORY, "threads": 1, "temp_directory": folder}
    return DuckDBResource(database=":memory:", connection_config=config | {"preserve_insertion_order": False})


def balance_job(checks: Sequence[dg.AssetChecksDefinition]) -> Any:
    """Return the job of the checks."""
    return dg.define_asset_job(
        JOB,
        dg.AssetSelection.checks(*checks),
        tags={"k2/queue": "maintain", "dagster/max_runtime": "7200"},
        description="Compares a day of each layer with the layer below: messages, trades, quotes, volumes.",
    )


def balance_schedule(job: Any) -> dg.ScheduleDefinition:
    """Return the schedule of the job: every night, for the day before."""

    # A run of its own: reading two layers of a day takes minutes, in which refine would refresh nothing.
    @dg.schedule(
        name="balance_schedule",
        job=job,
        cron_schedule="40 0 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Compares the layers of the day before, every night.",
    )
    def every_night(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        at = context.scheduled_execution_time if context._scheduled_execution_time else clock.now()  # noqa: SLF001  # it raises when there is none
        day = (at.date() - timedelta(days=1)).isoformat()
        return dg.RunRequest(run_key=f"{JOB} {day}", tags={PARTITION_TAG: day})

    return every_night
