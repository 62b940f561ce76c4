"""Find the gold trades that decide candles: those of the touched windows and the bounding ones around them."""

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
class Surroundings:
    """Trades enough to judge ``spans``."""

    trades: pl.DataFrame
    spans: list[Span]


def touched_by(rows: pl.DataFrame) -> list[Touched]:
    """Return the time range of each instrument in ``rows`` (exchange, symbol, timestamp)."""
    time = pl.col("timestamp").to_physical()
    ranges = rows.group_by(KEY).agg(time.min().alias("first"), time.max().alias("last"))
    return [Touched(*row) for row in ranges.sort(KEY).iter_rows()]


def surroundings(gold: Table, files: list[LakeFile], touched: list[Touched], width_us: int) -> Surroundings:
    """Read gold around what was touched, wider and wider until every instrument's bounding trades are in hand.

    A span reaches from the window of the previous trade, whose completeness is decided anew, to that of the next one.
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
        reached = [_reach(rows, each, width_us) for each in touched]
        more_back = any(not r.back for r in reached) and any(each.first_us < begin for each in files)
        more_ahead = any(not r.ahead for r in reached) and any(each.last_us >= end for each in files)
        if not (more_back or more_ahead):
            return Surroundings(rows, [r.span for r in reached])
        back, ahead = back * (_WIDEN if more_back else 1), ahead * (_WIDEN if more_ahead else 1)


@dataclass(frozen=True)
class _Reach:
    """A span as far as it is known, and whether the bounding trades of both its ends are in hand."""

    span: Span
    back: bool
    ahead: bool


def _reach(rows: pl.DataFrame, touched: Touched, width_us: int) -> _Reach:
    of_instrument = rows.filter(pl.col("exchange") == touched.exchange, pl.col("symbol") == touched.symbol)
    times = of_instrument["timestamp"].to_physical().sort().to_numpy()
    first = touched.first_us - touched.first_us % width_us
    end = touched.last_us - touched.last_us % width_us + width_us
    before = times[: times.searchsorted(first)]
    if len(before):
        first = int(before[-1] - before[-1] % width_us)
    after = times[times.searchsorted(end) :]
    if len(after):
        end = int(after[0] - after[0] % width_us + width_us)
    has_back = bool(len(before)) and bool(before[0] < first)
    has_ahead = bool(len(after)) and bool(after[-1] >= end)
    return _Reach(Span(touched.exchange, touched.symbol, first, end), has_back, has_ahead)
