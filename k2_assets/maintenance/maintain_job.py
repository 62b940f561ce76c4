"""Maintenance in Dagster: a job every five minutes, one at a time, beside the drain."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

import dagster as dg

from k2_assets.lake.lake_resource import Lake
from k2_assets.maintenance.event_log import forget_old_runs
from k2_assets.maintenance.table_round import Report, TableRound
from k2_assets.orchestration.interruptions import ends_canceled_executor
from k2_assets.orchestration.run_tags import UNFINISHED
from k2_core.lake.tables import all_tables
from k2_core.logs import logger
from k2_core.venues import VENUES

log = logger(__name__)

JOB: Final = "maintain"
_QUEUE: Final = {"k2/queue": JOB}


def rounds(lake: Lake, tables: tuple[str, ...] = ()) -> Iterator[TableRound]:
    """Yield a round of each of ``tables``, by name, or of all; ready to run."""
    for spec in all_tables(tuple(VENUES)):
        if not tables or spec.name in tables:
            yield TableRound(lake.catalog(), lake.namespace, spec, lake.settings.maintenance)


@dg.op(
    name="keep_tables_lean",
    out={"reports": dg.Out(dagster_type=dg.Nothing)},
    description="For each table: joins small files, creates tags, expires snapshots, removes unnamed files.",
)
def keep_tables_lean(context: dg.OpExecutionContext, lake: dg.ResourceParam[Lake]) -> None:
    """Maintain every table; when one fails, the others are still maintained and the run fails."""
    metadata: dict[str, Any] = {}
    failed: list[str] = []
    for each in rounds(lake):
        name = each.report.table
        try:
            report = asdict(each.run())
            done = {fact: found for fact, found in report.items() if fact != "table" and found}
            metadata[name] = dg.MetadataValue.json(done)
        except Exception:  # the edge of one table's work: logged, and the run fails
            failed.append(name)
            context.log.exception("%s was not maintained", name)
            continue
        log.info("maintained", table=name, done=summary(each.report))  # not for the event log
    if failed:
        msg = f"not maintained: {', '.join(failed)}"
        raise dg.Failure(msg, metadata=metadata)
    context.add_output_metadata(metadata, output_name="reports")


def maintain_job() -> dg.JobDefinition:
    """Return the job."""

    @dg.job(
        name=JOB,
        executor_def=ends_canceled_executor,
        description="Keeps commits, queries and pages fast: thins the history of tables and of Dagster, joins files.",
        tags={**_QUEUE, "dagster/max_runtime": "3600"},
    )
    def job() -> None:
        keep_tables_lean()
        forget_old_runs()

    return job


def maintain_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Return the schedule of the job: every five minutes, unless a run has not ended."""

    @dg.schedule(
        name="maintain_schedule",
        job=job,
        cron_schedule="*/5 * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Maintains the tables every five minutes, unless the last run has not ended.",
    )
    def every_five_minutes(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        unfinished = context.instance.get_runs(dg.RunsFilter(job_name=JOB, statuses=UNFINISHED), limit=1)
        if unfinished:
            return dg.SkipReason(f"run {unfinished[0].run_id[:8]} is {unfinished[0].status.value.lower()}")
        return dg.RunRequest()

    return every_five_minutes


def summary(report: Report) -> str:
    """Return a report in one line for a person."""
    parts = [f"snapshots {report.snapshots_before} → {report.snapshots_after}"]
    parts += [f"{report.files_joined} files joined into {report.files_made}"] if report.files_joined else []
    parts += [f"tags made: {', '.join(report.tags_made)}"] if report.tags_made else []
    parts += [f"tags lapsed: {len(report.tags_lapsed)}"] if report.tags_lapsed else []
    removed = report.files_removed + report.orphans_removed
    parts += [f"{removed} files removed"] if removed else []
    parts += [f"left to the next round: {reason}" for reason in report.put_off]
    return "; ".join(parts)
