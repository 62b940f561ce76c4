"""The drain as a kept run, which reports to Dagster what it commits."""

import threading
from collections.abc import Callable, Collection
from functools import partial

import dagster as dg

from k2_assets.drain.drain_loop import drain
from k2_assets.drain.drain_report import Reporter
from k2_assets.kept_runs.kept_job import kept_job
from k2_assets.kept_runs.kept_run import kept_drain
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.check_evaluations import log_events
from k2_core.logs import logger
from k2_core.settings import Settings
from k2_core.venues.venue_protocol import Venue

log = logger(__name__)


def drain_job(settings: Settings, venues: Collection[Venue]) -> dg.JobDefinition:
    """Return the job of the drain that the settings name, which reads these venues' topics."""
    does = "Reads Kafka in large batches and commits bronze, rejected and silver, each with its offsets"
    return kept_job(kept_drain(settings), partial(_drain_until, venues), does)


def _drain_until(
    venues: Collection[Venue], context: dg.OpExecutionContext, lake: Lake, stop: threading.Event
) -> Callable[[], None]:
    reporter = Reporter(lake.settings.drain.report_interval_s)
    for lane, committed in drain(lake, venues, context.run_id, stop):
        reporter.see(lane)
        if committed is not None:
            reporter.add(lane, committed)
            frames, seconds = committed.batch.bronze.num_rows, round(committed.seconds, 3)
            log.info("committed", topic=lane.reader.topic.name, frames=frames, seconds=seconds)
        log_events(context, reporter.due())
    return lambda: log_events(context, reporter.due(now=True))
