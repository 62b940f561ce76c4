"""How a check stands for a day, as Dagster records it: the drain, refine and runs by hand record the same thing."""

from collections.abc import Callable
from datetime import date
from typing import Any

import dagster as dg

from k2_assets.orchestration.run_days import days_of
from k2_core import clock


def evaluation(key: dg.AssetCheckKey, result: dg.AssetCheckResult, day: date, at_s: float) -> dg.AssetCheckEvaluation:
    """Return a result for the log of a day, with when it was found (seconds since 1970)."""
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


def evaluate_each(
    context: dg.AssetCheckExecutionContext, judge: Callable[[date], dg.AssetCheckResult]
) -> dg.Output[None]:
    """Record how the one check of a step stands for each day of its run.

    Returns:
        An output without a result, which Dagster takes too: of a result it knows the day in a run of one day only.
    """
    (key,) = context.selected_asset_check_keys
    for day in days_of(context.run.tags):
        result = judge(day)
        context.op_execution_context.log_event(evaluation(key, result, day, clock.now_s()))  # type: ignore[arg-type]  # it takes evaluations of checks too
    return dg.Output(None)
