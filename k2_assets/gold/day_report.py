"""What Dagster shows of a day of gold: what a refresh did, and how the day is now."""

from datetime import date
from typing import Any, Final

import polars as pl

from k2_assets.gold.candle_chart import charted
from k2_assets.gold.gold_day import GoldDay
from k2_assets.gold.refresh_counts import RefreshCounts, RowCounts, WindowCounts
from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.source_files import live_files, read_files
from k2_assets.orchestration.asset_metadata import NEWEST_ROW, ROW_COUNT, markdown_table, microseconds, of_partition
from k2_core.lake.tables import GOLD_TABLES

_NEWEST: Final = (
    *("symbol", "exchange", "window_start", "open_price", "high_price", "low_price", "close_price"),
    *("volume", "trade_count", "is_complete", "missing_trades"),
)
_SHOWN: Final = 3  # each report holds them
SEQUENCE: Final = "sequence number"
"""Named so in what Dagster shows of a day: the largest Iceberg data sequence number of its files. It grows with each
commit of rows of the day."""


def facts(gold: GoldDay, counts: RefreshCounts) -> dict[str, Any]:
    """Return what Dagster shows of the day: what was done, and how it is now."""
    shown: dict[str, Any] = {}
    candles = pl.DataFrame() if gold.spec.timeframe is None else gold.lake.rows_of_day(gold.spec, gold.day, _NEWEST)
    if isinstance(counts, RowCounts):
        shown = {
            "rows added": counts.rows_added,
            "silver rows read": counts.rows_read,
            "repeats dropped": counts.repeated,
            "copies that differ": counts.conflicting,
        }
    elif isinstance(counts, WindowCounts):
        newest = candles.sort("window_start", "symbol", descending=True).head(_SHOWN)
        shown = {
            "windows computed": counts.windows_computed,
            "windows changed": counts.windows_changed,
            "windows not complete": candles.filter(~pl.col("is_complete")).height if candles.height else 0,
            "newest candles": markdown_table(newest, _NEWEST),
        }
    files = live_files(gold.lake.table(gold.table), gold.spec.partition_by, day=gold.day)
    shown |= of_partition(files, gold.spec)
    if gold.spec.partition_unit != "day":
        shown[ROW_COUNT] = candles.height
    if shown[ROW_COUNT]:
        shown[SEQUENCE] = max(each.sequence for each in files)
    if candles.height:
        shown[NEWEST_ROW] = microseconds(max(candles["window_start"].to_physical().to_list()))
        if chart := charted(gold.lake, gold.spec):
            shown["chart"] = chart
    return shown


def sequences(lake: Lake, name: str) -> dict[date, int]:
    """Return the days of a table of gold, and the largest sequence number of the files that hold rows of each one."""
    spec, table, found = GOLD_TABLES[name], lake.table(name), dict[date, int]()
    for each in live_files(table, spec.partition_by):
        days = [each.day]
        if spec.partition_unit != "day":
            days = read_files(table, [each], ("window_date",))["window_date"].unique().to_list()
        found |= {day: max(each.sequence, found.get(day, 0)) for day in days}
    return found
