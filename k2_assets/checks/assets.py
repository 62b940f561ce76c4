"""The asset checks in Dagster. What those of gold judge is in :mod:`k2_assets.checks.gold_day`."""

from datetime import date

import dagster as dg
import polars as pl

from k2_assets.checks import silver
from k2_assets.checks.evaluations import evaluate_each
from k2_assets.checks.gold_day import GOLD_CHECKS, GoldCheck
from k2_assets.gold.day import day_of
from k2_assets.presentation import table_metadata
from k2_assets.resources.lake import Lake
from k2_core import tables
from k2_core.venues.routing import Data


def gold_checks(days: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """Return the checks of gold's trades, quotes and candles; a person runs them of a whole day."""
    return [_check(each, days) for each in GOLD_CHECKS]


def _check(judged: GoldCheck, days: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    @dg.asset_check(  # type: ignore[arg-type]  # it takes outputs too
        asset=judged.table,
        name=judged.name,
        partitions_def=days,
        description=judged.description,
        blocking=judged.blocking,
    )
    def gold_check(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.Output[None]:
        return evaluate_each(context, lambda day: judged.judge(lake, day, True))

    return gold_check


def silver_check(venue: str, data: Data, days: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    """Return the check of a venue's silver; the drain evaluates it for every batch it commits as well."""
    name = tables.silver(venue, data).name
    known = ", known sides" if data == "trades" else " where a side is there"

    @dg.asset_check(  # type: ignore[arg-type]  # it takes outputs too
        asset=name,
        name=silver.NAME,
        partitions_def=days,
        description=f"Schema, ids, positive prices and sizes{known}. The drain judges every batch; run by hand, it "
        "reads the day.",
    )
    def schema_and_ranges(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.Output[None]:
        def judge(day: date) -> dg.AssetCheckResult:
            rows = day_of(lake, name, "timestamp", day, tuple(silver.JUDGED[data]))
            return silver_result(rows, day, data)

        return evaluate_each(context, judge)

    return schema_and_ranges


def silver_result(rows: pl.DataFrame, day: date, data: Data = "trades") -> dg.AssetCheckResult:
    """Judge the rows of a day of silver."""
    found = silver.faults(rows, data)
    return dg.AssetCheckResult(
        passed=found.is_empty(),
        check_name=silver.NAME,
        description=silver.sentence(rows.height, int(found["failures"].sum()), f"of {day}"),
        metadata={"rows": rows.height, "faults": table_metadata(found, found.columns)},
    )
