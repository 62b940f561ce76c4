"""The drain as a Dagster job: one op that works for a quarter of an hour and ends itself."""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import dagster as dg

from k2_assets.drain.drain import drain
from k2_assets.drain.ending import signals_set
from k2_assets.drain.report import Event, Reporter
from k2_assets.drain.sole import alone
from k2_assets.interruptions import ends_canceled_executor
from k2_assets.resources.lake import Lake
from k2_core.logs import also_in, logger
from k2_core.settings import Drain, Settings

log = logger(__name__)

_GRACE_S: Final = 300


def job_name(settings: Drain) -> str:
    """Return the name of a drain's job."""
    return f"{settings.name}_drain"


def lock_file(settings: Settings) -> Path:
    """Return the file that the drain which works holds, and that names its process."""
    return settings.home / "run" / f"{settings.drain.name}.lock"


def drain_job(settings: Drain) -> dg.JobDefinition:
    """Return the job of the drain that the settings name."""

    @dg.op(
        name="drain",
        description="Reads Kafka in large batches and commits bronze, rejected and silver, each with its offsets.",
    )
    def drain_op(context: dg.OpExecutionContext, lake: dg.ResourceParam[Lake]) -> None:
        stop = threading.Event()
        with _logged(lake.settings, context.run_id), signals_set(stop), _alone(lake.settings, stop):
            _drain_until(context, lake.settings, stop)
        if stop.is_set() and _is_canceled(context):
            raise dg.DagsterExecutionInterruptedError

    @dg.job(
        name=job_name(settings),
        executor_def=ends_canceled_executor,
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
            frames, seconds = committed.batch.bronze.num_rows, committed.seconds
            context.log.info("%d frames in %.2f s", frames, seconds)
            log.info("committed", topic=lane.reader.topic.name, frames=frames, seconds=round(seconds, 3))
        _tell(context, reporter.due())
    _tell(context, reporter.due(now=True))


def _tell(context: dg.OpExecutionContext, events: Iterable[Event]) -> None:
    for event in events:
        context.log_event(event)  # type: ignore[arg-type]  # it takes evaluations of checks too


def _is_canceled(context: dg.OpExecutionContext) -> bool:
    """Tell whether a person ended this run in Dagster; `k2 down` ends it as planned."""
    run = context.instance.get_run_by_id(context.run_id)
    return run is not None and run.status is dg.DagsterRunStatus.CANCELING


def _alone(settings: Settings, stop: threading.Event) -> AbstractContextManager[None]:
    return alone(lock_file(settings), stop, settings.drain.dead_after_s)


@contextmanager
def _logged(settings: Settings, run_id: str) -> Iterator[None]:
    """Keep what drains log in one file that outlives their runs; how each run began and ended is in it."""
    with also_in(settings.home / "logs" / "drain.log"):
        log.info("the drain begins", run_id=run_id, pid=os.getpid())
        try:
            yield
        except Exception:
            log.exception("an error ended the drain", run_id=run_id)
            raise
        log.info("the drain has ended", run_id=run_id)
