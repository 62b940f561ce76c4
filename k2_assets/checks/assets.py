"""The asset checks: shells that read a day, judge it, and say what they found."""

from datetime import date
from typing import Final

import dagster as dg
import polars as pl

from k2_assets.automation import PARTITION_TAG
from k2_assets.checks import gold, silver
from k2_assets.gold.assets import day_of, is_by_machine
from k2_assets.lake_files import LakeFile, live_files, read_files
from k2_assets.presentation import counted, table_metadata
from k2_assets.reference.epochs import epochs_table, read_epochs
from k2_assets.resources.lake import Lake
from k2_core import clock, tables
from k2_core.tables import GOLD, GOLD_OHLCV_1M, GOLD_TRADES
from k2_core.venues.routing import Data

_NEWEST_COMMITS: Final = 10


def gold_checks(days: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """Return the checks of gold's trades, quotes and candles."""
    return [_unique("trades", days), _unique("quotes", days), _ids_go_on(days), _invariants(days)]


def _unique(data: Data, days: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    name, one = GOLD[data].name, data.removesuffix("s")

    @dg.asset_check(
        asset=name,
        name="unique_message_id",
        partitions_def=days,
        description=f"No {one} appears twice: after an automatic run among the newest files of the "
        "day and all that lie in their time range, run by hand in the whole day.",
    )
    def unique_message_id(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        """Count repeated message ids; of a whole day only when a person asks: it may hold a hundred million."""
        day = _day(context)
        table = lake.table(name)
        files = live_files(table, "timestamp", day=day)
        by_machine = is_by_machine(context.run.tags)
        judged = beside_newest(files, _NEWEST_COMMITS) if by_machine else files
        ids = read_files(table, judged, ("message_id",))
        twice = gold.repeated(ids)
        where = f"the newest files of {day} and those beside them" if by_machine else f"the whole of {day}"
        return dg.AssetCheckResult(
            passed=twice == 0,
            description=f"{counted(twice, f'repeated {one}')} among {ids.height:,} in {where}.",
            metadata={"day": day.isoformat(), "rows": ids.height, "repeated": twice},
        )

    return unique_message_id


def _ids_go_on(days: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=GOLD_TRADES.name,
        name="ids_go_on",
        partitions_def=days,
        description="The trade ids of no instrument begin again on the day. Where they do, both trades of an id are "
        "stored, and no candle over the break is complete.",
    )
    def ids_go_on(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        """Warn of the epochs that start on the day."""
        day = _day(context)
        epochs = read_epochs(epochs_table(lake.catalog(), lake.namespace))
        found = {
            f"{exchange} {symbol}": ", ".join(clock.from_us(start).isoformat() for start in starts)
            for exchange, symbol in epochs
            if (starts := [each for each in epochs.starts(exchange, symbol) if clock.from_us(each).date() == day])
        }
        said = "; ".join(f"{name} at {when}" for name, when in sorted(found.items()))
        return dg.AssetCheckResult(
            passed=not found,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"Ids begin again on {day}: {said}." if found else f"No ids begin again on {day}.",
            metadata={"day": day.isoformat(), **found},
        )

    return ids_go_on


def _invariants(days: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=GOLD_OHLCV_1M.name,
        name="candle_invariants",
        partitions_def=days,
        description="low ≤ open, close, vwap ≤ high; positive volume and count; one candle a window.",
    )
    def candle_invariants(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        """Count candles of the day that break an invariant."""
        day = _day(context)
        candles = day_of(lake, GOLD_OHLCV_1M.name, "window_start", day, gold.CANDLE_COLUMNS)
        broken = gold.broken_invariants(candles)
        found = "; ".join(f"{name}: {count:,} not" for name, count in broken.items()) or "every invariant holds"
        return dg.AssetCheckResult(
            passed=not broken,
            description=f"{counted(candles.height, 'candle')} of {day}: {found}.",
            metadata={"day": day.isoformat(), "candles": candles.height, **broken},
        )

    return candle_invariants


def silver_check(venue: str, data: Data, days: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    """Return the check of a venue's silver; the drain evaluates it for every batch it commits as well."""
    name = tables.silver(venue, data).name
    known = ", known sides" if data == "trades" else " where a side is there"

    @dg.asset_check(
        asset=name,
        name=silver.NAME,
        partitions_def=days,
        description=f"Schema, ids, positive prices and sizes{known}. The drain judges every batch; run by hand, it "
        "reads the day.",
    )
    def schema_and_ranges(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        day = _day(context)
        rows = day_of(lake, name, "timestamp", day, tuple(silver.JUDGED[data]))
        return silver_result(rows, day, data)

    return schema_and_ranges


def silver_result(rows: pl.DataFrame, day: date, data: Data = "trades") -> dg.AssetCheckResult:
    """Judge the rows of a day of silver."""
    found = silver.faults(rows, data)
    return dg.AssetCheckResult(
        passed=found.is_empty(),
        check_name=silver.NAME,
        description=silver.sentence(rows.height, int(found["failures"].sum()), f"of {day}"),
        metadata={"day": day.isoformat(), "rows": rows.height, "faults": table_metadata(found, found.columns)},
    )


def beside_newest(files: list[LakeFile], commits: int) -> list[LakeFile]:
    """Return the files of the newest ``commits`` sequence numbers, and all that overlap them in time."""
    newest = max((each.sequence for each in files), default=0)
    recent = [each for each in files if each.sequence > newest - commits]
    first, last = min((r.first_us for r in recent), default=0), max((r.last_us for r in recent), default=0)
    return [each for each in files if each.last_us >= first and each.first_us <= last]


def _day(context: dg.AssetCheckExecutionContext) -> date:
    return date.fromisoformat(context.run.tags[PARTITION_TAG])
