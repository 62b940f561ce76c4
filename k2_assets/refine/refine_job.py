"""Refine as a kept run, which reports to Dagster the days that it refreshes."""

import threading
from collections.abc import Callable
from datetime import date
from functools import partial

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from k2_assets.gold.checks import GoldCheck
from k2_assets.gold.day_report import SEQUENCE
from k2_assets.kept_runs.kept_job import kept_job
from k2_assets.kept_runs.kept_run import kept_refine
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.check_evaluations import log_events
from k2_assets.refine.refine_loop import Refine
from k2_assets.refine.refine_report import Reporter
from k2_assets.rest_routes import RouteReports
from k2_core.logs import logger
from k2_core.settings import Settings

log = logger(__name__)


def refine_job(settings: Settings) -> dg.JobDefinition:
    """Return the job of refine."""
    does = "Brings trades, candles and quotes of every day that has news up to what silver holds, newest day first"
    return kept_job(kept_refine(settings), _refine_until, does)


def has_failed(instance: dg.DagsterInstance, check: GoldCheck, day: date) -> bool:
    """Return whether the last recorded evaluation of a check failed for a day."""
    newest = instance.event_log_storage.get_asset_check_execution_history(
        check.key,
        limit=1,
        partition_filter=PartitionKeyFilter(key=day.isoformat()),
    )
    return bool(newest) and newest[0].status is AssetCheckExecutionRecordStatus.FAILED


def reported(instance: dg.DagsterInstance, table: str) -> dict[date, int | None]:
    """Return the days of a table that were reported to Dagster, each with the sequence number in its last report."""
    log, kind = instance.event_log_storage, dg.DagsterEventType.ASSET_MATERIALIZATION
    newest = log.get_latest_storage_id_by_partition(dg.AssetKey(table), kind).values()
    found: dict[date, int | None] = {}
    for record in log.get_event_records(dg.EventRecordsFilter(event_type=kind, storage_ids=list(newest))):
        report = record.asset_materialization
        if report is not None and report.partition is not None:
            number = report.metadata.get(SEQUENCE)
            found[date.fromisoformat(report.partition)] = (
                number.value if isinstance(number, dg.IntMetadataValue) else None
            )
    return found


def _refine_until(context: dg.OpExecutionContext, lake: Lake, stop: threading.Event) -> Callable[[], None]:
    refine = Refine(lake, context.run_id, stop)
    instance, interval_s = context.instance, lake.settings.refine.report_interval_s
    reporter = Reporter(refine, interval_s, partial(reported, instance), partial(has_failed, instance))
    routes = RouteReports(lake)
    for refreshed in refine.steps():
        if refreshed is not None:
            reporter.add(refreshed)
        log_events(context, reporter.due())
        if refreshed is None:
            try:
                log_events(context, routes.due())
            except Exception:  # as of any report
                log.exception("routes not reported")
    return lambda: log_events(context, reporter.due(now=True))
