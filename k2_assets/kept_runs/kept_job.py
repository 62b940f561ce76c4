"""A kept run as a Dagster job: one op that waits for the lease, works until it hands over, and ends itself."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import dagster as dg

from k2_assets.kept_runs.kept_run import KeptRun
from k2_assets.kept_runs.run_lease import leased
from k2_assets.kept_runs.stop_signals import LONGEST, hands_over, signals_set
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.interruptions import ends_canceled_executor
from k2_core.lake.catalog import pointers
from k2_core.logs import also_in, logger

log = logger(__name__)

_GRACE_S: Final = 300
Work = Callable[[dg.OpExecutionContext, Lake, threading.Event], Callable[[], None]]


def kept_job(kept: KeptRun, work: Work, does: str) -> dg.JobDefinition:
    """Return the job of a kept run.

    Args:
        kept: the run.
        work: what it does until the event is set; what it has begun it finishes. It returns what is left to do once
            the next run may work.
        does: the same for people, as in "Moves Kafka into bronze".
    """

    @dg.op(name=kept.label, description=f"{does}.")
    def work_op(context: dg.OpExecutionContext, lake: dg.ResourceParam[Lake]) -> None:
        stop, is_left = threading.Event(), list[Callable[[], None]]()
        with _logged(kept, context.run_id), signals_set(stop):
            _open(lake)
            with leased(kept, context.run_id, stop) as may_work:
                if may_work:
                    with hands_over(kept, stop):
                        is_left.append(work(context, lake, stop))
            for do in is_left:
                do()
        if stop.is_set() and _is_canceled(context):
            raise dg.DagsterExecutionInterruptedError

    @dg.job(
        name=kept.job,
        executor_def=ends_canceled_executor,
        description=f"{does}. Kept alive by its sensor; do not start it by hand.",
        tags={
            "dagster/priority": "10",
            "dagster/max_runtime": str(int(kept.work_s * LONGEST) + _GRACE_S),
        },
    )
    def job() -> None:
        work_op()

    return job


def _open(lake: Lake) -> None:
    """Open the catalog and load its tables, while the run before still works; what is away now is waited out later."""
    try:
        for name in pointers(lake.catalog(), lake.namespace):
            lake.table(name)
    except Exception as error:  # noqa: BLE001  # the work meets it again, and waits it out
        log.info("not opened yet", error=str(error))


def _is_canceled(context: dg.OpExecutionContext) -> bool:
    """Tell whether a person ended this run in Dagster; `k2 down` ends it as planned."""
    run = context.instance.get_run_by_id(context.run_id)
    return run is not None and run.status is dg.DagsterRunStatus.CANCELING


@contextmanager
def _logged(kept: KeptRun, run_id: str) -> Iterator[None]:
    """Keep what such runs log in one file that outlives them; how each run began and ended is in it."""
    with also_in(kept.log):
        log.info("the run begins", run_id=run_id, pid=os.getpid())
        try:
            yield
        except Exception:
            log.exception("an error ended the run", run_id=run_id)
            raise
        log.info("the run has ended", run_id=run_id)
