"""The drain as a Dagster job: one op that works for a quarter of an hour and ends itself."""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import dagster as dg

from k2_assets.drain.drain import drain
from k2_assets.drain.ending import signals_set
from k2_assets.drain.report import Event, Reporter
from k2_assets.drain.sole import alone
from k2_assets.resources.lake import Lake
from k2_core.settings import Drain, Settings

_GRACE_S: Final = 300


def job_name(settings: Drain) -> str:
    """Return the name of a drain's job."""
    return f"{settings.name}_drain"


def drain_job(settings: Drain) -> dg.JobDefinition:
    """Return the job of the drain that the settings name."""

    @dg.op(
        name="drain",
        description="Reads Kafka in large batches and commits bronze, rejected and silver, each with its offsets.",
    )
    def drain_op(context: dg.OpExecutionContext, lake: dg.ResourceParam[Lake]) -> None:
        stop = threading.Event()
        with signals_set(stop), alone(_lock(lake.settings), stop, lake.settings.drain.dead_after_s):
            _drain_until(context, lake.settings, stop)
        if stop.is_set() and _is_canceled(context):
            raise dg.DagsterExecutionInterruptedError

    @dg.job(
        name=job_name(settings),
        executor_def=dg.in_process_executor,
        description="Moves Kafka into bronze, rejected and silver. Kept alive by its sensor; do not start it by hand.",
        tags={
            "dagster/priority": "10",
            "dagster/max_runtime": str(int(settings.work_minutes * 60) + _GRACE_S),
            "dagster/max_retries": "0",
        },
    )
    def job() -> None:
        drain_op()

    return job


def _drain_until(context: dg.OpExecutionContext, settings: Settings, stop: threading.Event) -> None:
    """Drain, and tell Dagster at once of what was committed: an op that yields could be broken off between two."""
    reporter = Reporter(settings.drain.report_interval_s)
    for lane, committed in drain(settings, context.run_id, stop):
        if committed is not None:
            reporter.add(lane, committed)
            context.log.info("%d frames in %.2f s", committed.batch.bronze.num_rows, committed.seconds)
        _tell(context, reporter.due())
    _tell(context, reporter.due(now=True))


def _tell(context: dg.OpExecutionContext, events: Iterable[Event]) -> None:
    for event in events:
        context.log_event(event)  # type: ignore[arg-type]  # it takes evaluations of checks too


def _is_canceled(context: dg.OpExecutionContext) -> bool:
    """Tell whether a person ended this run in Dagster; `k2 down` ends it as planned."""
    run = context.instance.get_run_by_id(context.run_id)
    return run is not None and run.status is dg.DagsterRunStatus.CANCELING


def _lock(settings: Settings) -> Path:
    return settings.home / "run" / f"{settings.drain.name}.lock"
