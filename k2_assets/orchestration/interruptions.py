"""Runs that the end of the platform interrupts: they are canceled, never failed, and queued again at the next start.

Dagster calls an interrupted run failed, unless somebody asked for its end. Only runs of a person or a backfill are
queued again: sensors and schedules ask for theirs again by themselves.
"""

from collections.abc import Iterator
from typing import Any, Final

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.in_process import InProcessExecutor

from k2_assets.orchestration.run_processes import orphaned_runs
from k2_core.logs import logger

log = logger(__name__)

_GOES_ON: Final = "k2/goes_on"
_WAITS, _QUEUED = "at the next start", "again"
_WHY: Final = "The platform ended while this run was working."
_ASKED_FOR_AGAIN: Final = {"dagster/sensor_name", "dagster/schedule_name"}
_BACKFILL: Final = "dagster/backfill"


@dg.executor(name="in_process")
def ends_canceled_executor(_context: dg.InitExecutorContext) -> "_EndsCanceled":
    """Run all steps in one process; a run that a signal interrupts is canceled."""
    return _EndsCanceled(retries=RetryMode.ENABLED)


class _EndsCanceled(InProcessExecutor):
    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[DagsterEvent]:
        try:
            yield from super().execute(plan_context, execution_plan)
        except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
            _interrupted(plan_context.instance, plan_context.run_id)
            raise  # Dagster cancels what is canceling


def settle_interrupted_runs(instance: dg.DagsterInstance, now_s: float) -> None:
    """Cancel the runs that were interrupted and could not record it, and queue again those that are to go on.

    Args:
        instance: of Dagster; no other part of the platform runs yet.
        now_s: seconds since 1970; runs that were handed to a process before have none any more.
    """
    for record in orphaned_runs(instance, now_s):
        run_id = record.dagster_run.run_id
        _interrupted(instance, run_id)
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            instance.report_run_canceled(run, _WHY)
    waiting = dg.RunsFilter(statuses=[dg.DagsterRunStatus.CANCELED], tags={_GOES_ON: _WAITS})
    for run in instance.get_runs(waiting):
        instance.add_run_tags(run.run_id, {_GOES_ON: _QUEUED})
        instance.report_dagster_event(DagsterEvent.job_enqueue(run), run_id=run.run_id)
        log.info("an interrupted run is queued again", run_id=run.run_id, job=run.job_name)


def _interrupted(instance: dg.DagsterInstance, run_id: str) -> None:
    """Have a run end canceled, and note whether it is to be queued again; one that a person cancels is not."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished or run.status is dg.DagsterRunStatus.CANCELING:
        return
    asked_once = _BACKFILL in run.tags or _ASKED_FOR_AGAIN.isdisjoint(run.tags)
    if asked_once and run.remote_job_origin is not None:  # without it, no daemon could start it
        instance.add_run_tags(run_id, {_GOES_ON: _WAITS})
    instance.report_run_canceling(run, _WHY)
