"""Find the rows that decide candles: those of the touched windows and the bounding ones around them.

The rows are gold's trades, or one-minute candles from which wider ones are made.
"""

from dataclasses import dataclass
from typing import Final

import polars as pl
from pyiceberg.table import Table

from k2_assets.gold.candle_rows import KEY, Span, by_instrument
from k2_assets.lake.row_filters import time_between
from k2_assets.lake.source_files import read_files
from k2_core.lake.manifests import LakeFile

_FIRST_MARGIN_US: Final = 120_000_000
_WIDEN: Final = 8


@dataclass(frozen=True)
class Source:
    """What candles are made from: a table, its live files, the columns to read, and the one of the rows' times."""

    table: Table
    files: list[LakeFile]
    columns: tuple[str, ...]
    time_column: str


@dataclass(frozen=True)
class Touched:
    """The time range of one instrument, in µs and inclusive, in which rows are new."""

    exchange: str
    symbol: str
    first_us: int
    last_us: int


@dataclass(frozen=True)
class BoundedRows:
    """The rows of ``spans``, and of each instrument at least the last one before and the first one after it."""

    rows: pl.DataFrame
    spans: list[Span]


def touched_by(rows: pl.DataFrame, time_column: str) -> list[Touched]:
    """Return the time range of each instrument in ``rows`` (exchange, symbol and their time)."""
    time = pl.col(time_column).to_physical()
    ranges = rows.group_by(KEY).agg(time.min().alias("first"), time.max().alias("last"))
    return [Touched(*row) for row in ranges.sort(KEY).iter_rows()]


def bounded_rows(source: Source, touched: list[Touched], width_us: int) -> BoundedRows:
    """Read the source around the touched ranges, wider and wider until every instrument's bounding rows are found.

    The search goes over midnight and empty days; where it ends without a row, there is none.

    Args:
        source: of trades or of one-minute candles.
        touched: at most one range of each instrument.
        width_us: of a window.
    """
    files, time = source.files, source.time_column
    first = min(each.first_us for each in touched)
    last = max(each.last_us for each in touched)
    back = ahead = _FIRST_MARGIN_US
    while True:
        begin, end = first - first % width_us - back, last - last % width_us + width_us + ahead
        overlapping = [each for each in files if each.last_us >= begin and each.first_us < end]
        rows = read_files(source.table, overlapping, source.columns, time_between(time, max(begin, 0), end))
        parts = by_instrument(rows.select(*KEY, pl.col(time).to_physical()))
        none = pl.Series(time, [], pl.Int64)
        times = (parts[key][time] if (key := (each.exchange, each.symbol)) in parts else none for each in touched)
        found = (_span(of, each, width_us) for of, each in zip(times, touched, strict=True))
        spans, bounded_before, bounded_after = zip(*found, strict=True)
        # Read eight times as far in a direction in which a bounding row lacks and files lie that were not read.
        more_back = not all(bounded_before) and any(each.first_us < begin for each in files)
        more_ahead = not all(bounded_after) and any(each.last_us >= end for each in files)
        if not (more_back or more_ahead):
            return BoundedRows(rows, list(spans))
        back, ahead = back * (_WIDEN if more_back else 1), ahead * (_WIDEN if more_ahead else 1)


def _span(of_instrument: pl.Series, touched: Touched, width_us: int) -> tuple[Span, bool, bool]:
    """Return the span to compute, and whether the instrument's times hold the bounding ones before and after it."""
    times = of_instrument.sort().to_numpy()
    first = touched.first_us - touched.first_us % width_us
    end = touched.last_us - touched.last_us % width_us + width_us
    # New rows are bounding rows of their neighbours. So a span reaches from the window of the last row before the
    # touched windows to that of the first one after them, and the bounding rows of these two windows count, too.
    before = times[: times.searchsorted(first)]
    if len(before):
        first = int(before[-1] - before[-1] % width_us)
    after = times[times.searchsorted(end) :]
    if len(after):
        end = int(after[0] - after[0] % width_us + width_us)
    bounded_before = bool(len(before)) and bool(before[0] < first)
    bounded_after = bool(len(after)) and bool(after[-1] >= end)
    return Span(touched.exchange, touched.symbol, first, end, bounded_after), bounded_before, bounded_after
