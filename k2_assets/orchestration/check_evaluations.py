"""What is written to the log of a run: events of days, and results of checks, alike for kept runs and runs by hand."""

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

import dagster as dg

from k2_assets.orchestration.asset_metadata import markdown_table
from k2_assets.orchestration.run_days import days_of
from k2_assets.orchestration.verdict import SAMPLE_ROWS, Verdict
from k2_core import clock

Event = dg.AssetMaterialization | dg.AssetCheckEvaluation


def log_events(context: dg.OpExecutionContext, events: Iterable[Event]) -> None:
    """Write events to the log of a run at once: an op that yields them could be interrupted between two."""
    for event in events:
        context.log_event(event)  # type: ignore[arg-type]  # it takes evaluations of checks too


def evaluation(key: dg.AssetCheckKey, result: dg.AssetCheckResult, day: date, at_s: float) -> dg.AssetCheckEvaluation:
    """Return a result as an event of a day, with the time at which it was found (seconds since 1970)."""
    metadata: dict[str, Any] = {**(result.metadata or {}), "evaluated": dg.MetadataValue.timestamp(at_s)}
    return dg.AssetCheckEvaluation(
        asset_key=key.asset_key,
        check_name=key.name,
        partition=day.isoformat(),
        passed=result.passed,
        severity=result.severity,
        description=result.description,
        metadata=metadata,
    )


def result(verdict: Verdict, check_name: str | None = None) -> dg.AssetCheckResult:
    """Return what a check found as Dagster shows it."""
    metadata: dict[str, Any] = dict(verdict.counts)
    if not verdict.samples.is_empty():
        metadata["sample"] = markdown_table(verdict.samples.head(SAMPLE_ROWS), verdict.samples.columns)
    return dg.AssetCheckResult(
        passed=verdict.passed,
        check_name=check_name,
        severity=dg.AssetCheckSeverity.ERROR if verdict.severity == "error" else dg.AssetCheckSeverity.WARN,
        description=verdict.sentence,
        metadata=metadata,
    )


def evaluate_each(
    context: dg.AssetCheckExecutionContext, judge: Callable[[date], dg.AssetCheckResult]
) -> dg.Output[None]:
    """Evaluate the one check of a step for each day of its run, and record the results.

    Returns:
        An output without a result: Dagster knows the day of a returned result only in a run of one day.
    """
    (key,) = context.selected_asset_check_keys
    days = days_of(context.run.tags)
    log_events(context.op_execution_context, (evaluation(key, judge(day), day, clock.now_s()) for day in days))
    return dg.Output(None)
