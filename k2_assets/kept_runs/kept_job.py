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
        work: what it does until the event is set; it finishes what it has begun. It returns what is left to do after
            the next run may work.
        does: the same for people, as in "Moves Kafka into bronze".
    """

    @dg.op(name=kept.label, description=f"{does}.")
    def work_op(context: dg.OpExecutionContext, lake: dg.ResourceParam[Lake]) -> None:
        stop, is_left = threading.Event(), list[Callable[[], None]]()
        with _logged(kept, context.run_id), signals_set(stop):
            try:  # the catalog and its tables are opened while the run before still works
                for name in pointers(lake.catalog(), lake.namespace):
                    lake.table(name)
            except Exception as error:  # noqa: BLE001  # the work meets it again, and waits for what is away
                log.info("not opened yet", error=str(error))
            with leased(kept, context.run_id, stop) as may_work:
                if may_work:
                    with hands_over(kept, stop):
                        is_left.append(work(context, lake, stop))
            for do in is_left:
                do()
        # A person canceled it in Dagster. `k2 down` ends a run too, and then it succeeds.
        run = context.instance.get_run_by_id(context.run_id) if stop.is_set() else None
        if run is not None and run.status is dg.DagsterRunStatus.CANCELING:
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


@contextmanager
def _logged(kept: KeptRun, run_id: str) -> Iterator[None]:
    """Write what such runs log to one file that outlives them, with how each run began and ended."""
    with also_in(kept.log):
        log.info("the run begins", run_id=run_id, pid=os.getpid())
        try:
            yield
        except Exception:
            log.exception("an error ended the run", run_id=run_id)
            raise
        log.info("the run has ended", run_id=run_id)
