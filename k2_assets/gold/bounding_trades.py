"""Find the rows that decide candles: those of the touched windows and the bounding ones around them.

The rows are gold's trades, or one-minute candles from which wider ones are made.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from pyiceberg.table import Table

from k2_assets.gold.candle_rows import TRADE_COLUMNS, Span
from k2_assets.gold.instrument_rows import KEY, by_instrument
from k2_assets.lake.row_filters import time_between
from k2_assets.lake.source_files import of_instruments, read_files, read_instruments
from k2_core.epochs import BREAK_US, Key
from k2_core.lake.manifests import LakeFile
from k2_core.timeframes import MINUTE_US

_WIDEN: Final = 8
_LATE_US: Final = 3_600_000_000  # a row so long before those of most instruments is late


@dataclass(frozen=True)
class Source:
    """What candles are made from: a table, its live files, the columns to read, and the one of the rows' times.

    ``rows`` are those of the files that were read already, whole, and that are no longer among ``files``.
    """

    table: Table
    files: list[LakeFile]
    columns: tuple[str, ...]
    time_column: str
    rows: pl.DataFrame | None = None

    @property
    def reach_us(self) -> int:
        """How far from bounding rows their ids may be looked for: they are out of order by a minute, or begin again."""
        return BREAK_US if self.columns == TRADE_COLUMNS else BREAK_US + MINUTE_US  # of the trades of a minute


@dataclass(frozen=True)
class Touched:
    """The time range of one instrument, in µs and inclusive, in which rows are new."""

    exchange: str
    symbol: str
    first_us: int
    last_us: int


@dataclass(frozen=True)
class BoundedRows:
    """The rows of ``spans``, of each instrument the last one before and the first one after, and those near the two."""

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
    # A late row of one instrument must not have the day of all others read: the late ones are looked for by themselves.
    usual = sorted(each.first_us for each in touched)[len(touched) // 2] - _LATE_US
    groups = ([each for each in touched if (each.first_us < usual) is is_late] for is_late in (False, True))
    rows, spans = list[pl.DataFrame](), list[Span]()
    for group in filter(None, groups):
        searched, back, ahead = group, 3 * source.reach_us, 3 * source.reach_us
        while searched:
            read, found, more_back, more_ahead = _searched(
                source, searched, width_us, (back, ahead), everyone=len(searched) == len(touched)
            )
            spans += found
            # Of those whose bounding rows were not found, eight times as much is read, and of nobody else.
            lacking = more_back | more_ahead
            again = pl.DataFrame(sorted(lacking), dict.fromkeys(KEY, pl.String), orient="row")
            rows.append(read.join(again, on=KEY, how="anti") if lacking else read)
            searched = [each for each in searched if (each.exchange, each.symbol) in lacking]
            back, ahead = back * (_WIDEN if more_back else 1), ahead * (_WIDEN if more_ahead else 1)
    return BoundedRows(pl.concat(rows), spans)


def _searched(
    source: Source, touched: list[Touched], width_us: int, margins: tuple[int, int], *, everyone: bool
) -> tuple[pl.DataFrame, list[Span], set[Key], set[Key]]:
    """Return rows, the spans that they bound, and the instruments of which rows lack before and after theirs."""
    files, time = source.files, source.time_column
    first, last = min(each.first_us for each in touched), max(each.last_us for each in touched)
    begin, end = max(first - first % width_us - margins[0], 0), last - last % width_us + width_us + margins[1]
    overlapping = [each for each in files if each.last_us >= begin and each.first_us < end]
    keys = [(each.exchange, each.symbol) for each in touched]
    if everyone:  # the rows of others do no harm
        rows = read_files(source.table, overlapping, source.columns, time_between(time, begin, end))
        rows = rows if source.rows is None else pl.concat([rows, source.rows])
    else:
        rows = read_instruments(source.table, overlapping, source.columns, keys, (begin, end), time_column=time)
        if source.rows is not None:
            rows = pl.concat([rows, of_instruments(source.rows, keys)])
    parts, none = by_instrument(rows.select(*KEY, pl.col(time).to_physical())), np.array([], np.int64)
    spans, more_back, more_ahead = list[Span](), set[Key](), set[Key]()
    earlier, later = any(each.first_us < begin for each in files), any(each.last_us >= end for each in files)
    for key, each in zip(keys, touched, strict=True):
        times = parts[key][time].sort().to_numpy() if key in parts else none
        span = _span(times, each, width_us, source.reach_us)
        before, after = times[times < span.first_us], times[times >= span.end_us]
        bounded_before = len(before) and before[-1] - source.reach_us >= begin
        bounded_after = len(after) and after[0] + source.reach_us < end
        if earlier and not bounded_before:
            more_back.add(key)
        if later and not bounded_after:
            more_ahead.add(key)
        if key not in more_back | more_ahead:
            spans.append(span)
    return rows, spans, more_back, more_ahead


def _span(times: npt.NDArray[np.int64], touched: Touched, width_us: int, reach_us: int) -> Span:
    """Return the span to compute of an instrument, whose rows have these times."""
    first = touched.first_us - touched.first_us % width_us
    end = touched.last_us - touched.last_us % width_us + width_us
    if len(times):
        # New rows decide the windows of which they are bounding rows, and of which a bounding row is near them: their
        # ids may be among those that it bounds.
        before = max(int(times.searchsorted(touched.first_us - reach_us)) - 1, 0)
        after = min(int(times.searchsorted(touched.last_us + reach_us, "right")), len(times) - 1)
        first = min(first, int(times[before] // width_us * width_us))
        end = max(end, int(times[after] // width_us * width_us + width_us))
    return Span(touched.exchange, touched.symbol, first, end, len(times) > 0 and bool(times[-1] >= end))
