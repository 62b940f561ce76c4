"""Retention in Dagster: an asset that shows what would go, and a schedule that removes it every night."""

from collections.abc import Iterator
from typing import Any, Final

import dagster as dg
import polars as pl
from pydantic import Field

from k2_assets.lake.lake_resource import Lake
from k2_assets.maintenance.retention import Removal, TableRetention
from k2_assets.orchestration.asset_metadata import OWNERS, code_reference, markdown_table
from k2_assets.orchestration.run_tags import UNFINISHED
from k2_core.lake.removed_days import RemovedDays
from k2_core.lake.retention_policy import policies
from k2_core.settings import Settings

JOB: Final = "apply_retention"
ASSET: Final = "retention"
COLUMNS: Final = ("table", "days", "rows", "MB", "what becomes of them")
NOTHING: Final = "The profile is archive: everything is kept."


class How(dg.Config):
    """How retention is run."""

    dry_run: bool = Field(default=True, description="only report what would be removed")


def retentions(lake: Lake) -> Iterator[TableRetention]:
    """Yield the retention of each table of which something may be removed, ready to run."""
    for policy in policies(lake.settings.retention):
        yield TableRetention(lake.catalog(), lake.namespace, policy)


def report(removals: list[Removal]) -> pl.DataFrame:
    """Return :data:`COLUMNS`: what goes or went of each table, and what stays although it is old enough, and why."""
    rows = []
    for each in removals:
        outcomes: dict[str, list[Any]] = {}
        for old in each.partitions:
            goes = "removed" if each.done else "would be removed"
            outcomes.setdefault(f"stays: {'; '.join(old.held_by)}" if old.held_by else goes, []).append(old)
        for outcome, found in outcomes.items():
            days = str(RemovedDays(day for old in found for day in old.days))
            size = round(sum(old.size_bytes for old in found) / 1e6, 1)
            rows.append((each.table, days, sum(old.rows for old in found), size, outcome))
    kinds = {"rows": pl.Int64, "MB": pl.Float64}
    return pl.DataFrame(rows, schema={name: kinds.get(name, pl.String) for name in COLUMNS}, orient="row")


@dg.asset(
    key=ASSET,
    group_name="maintenance",
    kinds={"iceberg"},
    owners=OWNERS,
    tags={"layer": "maintenance", "data": "all"},
    metadata=code_reference(TableRetention.run),
    pool=ASSET,
    description="Removes the days of bronze, silver and candles that the `rolling` profile no longer keeps. A run by "
    "hand only reports what would go, unless its config says `dry_run: false`; a schedule removes it every night.",
)
def retention(
    context: dg.AssetExecutionContext, config: How, lake: dg.ResourceParam[Lake]
) -> dg.MaterializeResult[None]:
    """Apply the retention of every table; when one fails, the others are still done and the run fails."""
    removals: list[Removal] = []
    failed: list[str] = []
    for each in retentions(lake):
        try:
            removals.append(each.dry_run() if config.dry_run else each.run())
        except Exception as error:  # the edge of one table's work: logged, and the run fails
            failed.append(f"{each.table}: {error}")
            context.log.exception("retention of %s failed", each.table)
    going = [old for each in removals for old in each.going]
    metadata = {
        "profile": lake.settings.retention.profile,
        "dry run": config.dry_run,
        "rows": sum(old.rows for old in going),
        "bytes": sum(old.size_bytes for old in going),
        "days": markdown_table(report(removals), COLUMNS),
    }
    if failed:
        msg = f"not done: {'; '.join(failed)}"
        raise dg.Failure(msg, metadata=metadata)
    return dg.MaterializeResult(metadata=metadata)


def retention_job() -> Any:
    """Return the job, whose runs remove what is due unless their config says otherwise."""
    return dg.define_asset_job(
        JOB,
        selection=[ASSET],
        config=_config(dry_run=False),
        tags={"k2/queue": ASSET, "dagster/max_runtime": "3600"},
        description="Removes the days of tables that the profile `rolling` no longer keeps.",
    )


def retention_schedule(job: Any, settings: Settings) -> dg.ScheduleDefinition:
    """Return the schedule of the job: every night, unless everything is kept."""

    @dg.schedule(
        name="retention_schedule",
        job=job,
        cron_schedule="40 3 * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Applies retention every night; does nothing while the profile is archive.",
    )
    def every_night(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if settings.retention.profile == "archive":
            return dg.SkipReason(NOTHING)
        unfinished = context.instance.get_runs(dg.RunsFilter(job_name=JOB, statuses=UNFINISHED), limit=1)
        if unfinished:
            return dg.SkipReason(f"run {unfinished[0].run_id[:8]} is {unfinished[0].status.value.lower()}")
        return dg.RunRequest(run_config=_config(dry_run=False))

    return every_night


def _config(*, dry_run: bool) -> dict[str, Any]:
    return {"ops": {ASSET: {"config": {"dry_run": dry_run}}}}
