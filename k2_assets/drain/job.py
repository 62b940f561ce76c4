"""The drain as a Dagster job: one op that works for a quarter of an hour and ends itself."""

import threading
from collections.abc import Iterator

import dagster as dg

from k2_assets.drain.drain import drain
from k2_assets.drain.report import Event, Reporter
from k2_assets.drain.supervision import record_process
from k2_assets.resources.lake import Lake
from k2_core.settings import Drain

_GRACE_S = 300


def job_name(settings: Drain) -> str:
    """Return the name of a drain's job."""
    return f"{settings.name}_drain"


def drain_job(settings: Drain) -> dg.JobDefinition:
    """Return the job of the drain that the settings name."""

    @dg.op(
        name="drain",
        out={},
        description="Reads Kafka in large batches and commits bronze, rejected and silver, each with its offsets.",
    )
    def drain_op(context: dg.OpExecutionContext, lake: dg.ResourceParam[Lake]) -> Iterator[Event]:
        record_process(context.instance, context.run_id)
        reporter = Reporter(settings.report_interval_s)
        for lane, committed in drain(lake.settings, context.run_id, threading.Event()):
            if committed is not None:
                reporter.add(lane, committed)
                context.log.info("%d frames in %.2f s", committed.batch.bronze.num_rows, committed.seconds)
            yield from reporter.due()
        yield from reporter.due(now=True)

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
