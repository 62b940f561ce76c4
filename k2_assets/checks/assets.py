"""The asset checks: shells that read a day, judge it, and say what they found."""

from datetime import date
from typing import Final

import dagster as dg
import polars as pl

from k2_assets.checks import gold, silver
from k2_assets.gold.assets import day_of, is_by_machine
from k2_assets.lake_files import LakeFile, live_files, read_files
from k2_assets.presentation import table_metadata
from k2_assets.resources.lake import Lake
from k2_core import tables
from k2_core.tables import GOLD, GOLD_OHLCV_1M
from k2_core.venues.routing import Data

_NEWEST_COMMITS: Final = 10
_PARTITION_TAG: Final = "dagster/partition"


def _unique(data: Data) -> dg.AssetChecksDefinition:
    name = GOLD[data].name

    @dg.asset_check(
        asset=name,
        name="unique_message_id",
        description=f"No {data.removesuffix('s')} stands twice: after an automatic run among the newest files of the "
        "day and all that lie in their time range, run by hand in the whole day.",
    )
    def unique_message_id(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        """Count repeated message ids; of a whole day only when a person asks: it may hold a hundred million."""
        day = _day(context, lake, name, "timestamp")
        table = lake.table(name)
        files = live_files(table, "timestamp", day=day)
        judged = beside_newest(files, _NEWEST_COMMITS) if is_by_machine(context.run.tags) else files
        ids = read_files(table, judged, ("message_id",))
        twice = gold.repeated(ids)
        return dg.AssetCheckResult(
            passed=twice == 0, metadata={"day": day.isoformat(), "rows": ids.height, "repeated": twice}
        )

    return unique_message_id


unique_message_id = _unique("trades")
unique_quote_message_id = _unique("quotes")


@dg.asset_check(
    asset=GOLD_OHLCV_1M.name,
    name="candle_invariants",
    description="low ≤ open, close, vwap ≤ high; positive volume and count; one candle a window.",
)
def candle_invariants(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Count candles of the day that break an invariant."""
    day = _day(context, lake, GOLD_OHLCV_1M.name, "window_start")
    candles = day_of(lake, GOLD_OHLCV_1M.name, "window_start", day, gold.CANDLE_COLUMNS)
    broken = gold.broken_invariants(candles)
    return dg.AssetCheckResult(
        passed=not broken, metadata={"day": day.isoformat(), "candles": candles.height, **broken}
    )


def silver_check(venue: str, data: Data) -> dg.AssetChecksDefinition:
    """Return the check of a venue's silver; the drain evaluates it for every batch it commits as well."""
    name = tables.silver(venue, data).name
    known = ", known sides" if data == "trades" else " where a side is there"

    @dg.asset_check(
        asset=name,
        name=silver.NAME,
        description=f"Schema, ids, positive prices and sizes{known}. The drain judges every batch; run by hand, it "
        "reads the newest day.",
    )
    def schema_and_ranges(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        day = _day(context, lake, name, "timestamp")
        rows = day_of(lake, name, "timestamp", day, tuple(silver.JUDGED[data]))
        return silver_result(rows, {"day": day.isoformat()}, data)

    return schema_and_ranges


def silver_result(rows: pl.DataFrame, metadata: dict[str, str], data: Data = "trades") -> dg.AssetCheckResult:
    """Judge rows of silver."""
    found = silver.faults(rows, data)
    return dg.AssetCheckResult(
        passed=found.is_empty(),
        check_name=silver.NAME,
        metadata={**metadata, "rows": rows.height, "faults": table_metadata(found, found.columns)},
    )


def beside_newest(files: list[LakeFile], commits: int) -> list[LakeFile]:
    """Return the files of the newest ``commits`` sequence numbers, and all that overlap them in time."""
    newest = max((each.sequence for each in files), default=0)
    recent = [each for each in files if each.sequence > newest - commits]
    first, last = min((r.first_us for r in recent), default=0), max((r.last_us for r in recent), default=0)
    return [each for each in files if each.last_us >= first and each.first_us <= last]


def _day(context: dg.AssetCheckExecutionContext, lake: Lake, name: str, time_column: str) -> date:
    """Return the day of the run's partition, or the newest day of the table."""
    if key := context.run.tags.get(_PARTITION_TAG):
        return date.fromisoformat(key)
    days = [each.day for each in live_files(lake.table(name), time_column)]
    return max(days, default=date(1970, 1, 1))
