"""Find the gold trades that decide candles: those of the touched windows and the bounding trades around them."""

from dataclasses import dataclass
from typing import Final

import polars as pl
from pyiceberg.table import Table

from k2_assets.gold.candle_rows import KEY, TRADE_COLUMNS, Span
from k2_assets.lake.row_filters import time_between
from k2_assets.lake.source_files import read_files
from k2_core.lake.manifests import LakeFile

_FIRST_MARGIN_US: Final = 120_000_000
_WIDEN: Final = 8


@dataclass(frozen=True)
class Touched:
    """The time range of one instrument, in µs and inclusive, in which trades are new."""

    exchange: str
    symbol: str
    first_us: int
    last_us: int


@dataclass(frozen=True)
class BoundingTrades:
    """The trades of ``spans``, and of each instrument at least the last one before and the first one after it."""

    trades: pl.DataFrame
    spans: list[Span]


def touched_by(rows: pl.DataFrame) -> list[Touched]:
    """Return the time range of each instrument in ``rows`` (exchange, symbol, timestamp)."""
    time = pl.col("timestamp").to_physical()
    ranges = rows.group_by(KEY).agg(time.min().alias("first"), time.max().alias("last"))
    return [Touched(*row) for row in ranges.sort(KEY).iter_rows()]


def bounding_trades(gold: Table, files: list[LakeFile], touched: list[Touched], width_us: int) -> BoundingTrades:
    """Read gold around the touched ranges, wider and wider until every instrument's bounding trades are found.

    The search goes over midnight and empty days; where it ends without a trade, there is none in gold.

    Args:
        gold: the table of trades.
        files: its live files.
        touched: at most one range of each instrument.
        width_us: of a window.
    """
    first = min(each.first_us for each in touched)
    last = max(each.last_us for each in touched)
    back = ahead = _FIRST_MARGIN_US
    while True:
        begin, end = first - first % width_us - back, last - last % width_us + width_us + ahead
        overlapping = [each for each in files if each.last_us >= begin and each.first_us < end]
        rows = read_files(gold, overlapping, TRADE_COLUMNS, time_between("timestamp", max(begin, 0), end))
        spans, bounded_before, bounded_after = zip(*(_span(rows, each, width_us) for each in touched), strict=True)
        # Read eight times as far in a direction in which a bounding trade lacks and files lie that were not read.
        more_back = not all(bounded_before) and any(each.first_us < begin for each in files)
        more_ahead = not all(bounded_after) and any(each.last_us >= end for each in files)
        if not (more_back or more_ahead):
            return BoundingTrades(rows, list(spans))
        back, ahead = back * (_WIDEN if more_back else 1), ahead * (_WIDEN if more_ahead else 1)


def _span(rows: pl.DataFrame, touched: Touched, width_us: int) -> tuple[Span, bool, bool]:
    """Return the span to compute, and whether ``rows`` hold the bounding trades before and after it."""
    of_instrument = rows.filter(pl.col("exchange") == touched.exchange, pl.col("symbol") == touched.symbol)
    times = of_instrument["timestamp"].to_physical().sort().to_numpy()
    first = touched.first_us - touched.first_us % width_us
    end = touched.last_us - touched.last_us % width_us + width_us
    # New trades are bounding trades of their neighbours. So a span reaches from the window of the last trade before the
    # touched windows to that of the first one after them, and the bounding trades of these two windows count, too.
    before = times[: times.searchsorted(first)]
    if len(before):
        first = int(before[-1] - before[-1] % width_us)
    after = times[times.searchsorted(end) :]
    if len(after):
        end = int(after[0] - after[0] % width_us + width_us)
    bounded_before = bool(len(before)) and bool(before[0] < first)
    bounded_after = bool(len(after)) and bool(after[-1] >= end)
    return Span(touched.exchange, touched.symbol, first, end), bounded_before, bounded_after
