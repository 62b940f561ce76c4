"""Find the rows that decide candles: those of the touched windows and the bounding ones around them.

The rows are gold's trades, or one-minute candles from which wider ones are made.
"""

from dataclasses import dataclass, replace
from typing import Final

import polars as pl
from pyiceberg.table import Table

from k2_assets.gold.candle_rows import KEY, Span, by_instrument
from k2_assets.lake.row_filters import time_between
from k2_assets.lake.source_files import of_instruments, read_files, read_instruments
from k2_core.epochs import Key
from k2_core.lake.manifests import LakeFile

_FIRST_MARGIN_US: Final = 120_000_000
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

    def without(self, read: list[LakeFile], rows: pl.DataFrame) -> "Source":
        """Return the source of which some files were read already, and gave ``rows``."""
        paths = {each.path for each in read}
        return replace(self, files=[each for each in self.files if each.path not in paths], rows=rows)


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
    # A late row of one instrument must not have the day of all others read: the late ones are looked for by themselves.
    usual = sorted(each.first_us for each in touched)[len(touched) // 2] - _LATE_US
    groups = ([each for each in touched if (each.first_us < usual) is is_late] for is_late in (False, True))
    rows, spans = list[pl.DataFrame](), list[Span]()
    for group in filter(None, groups):
        searched, back, ahead = group, _FIRST_MARGIN_US, _FIRST_MARGIN_US
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
    parts, none = by_instrument(rows.select(*KEY, pl.col(time).to_physical())), pl.Series(time, [], pl.Int64)
    spans, more_back, more_ahead = list[Span](), set[Key](), set[Key]()
    earlier, later = any(each.first_us < begin for each in files), any(each.last_us >= end for each in files)
    for key, each in zip(keys, touched, strict=True):
        span, bounded_before, bounded_after = _span(parts[key][time] if key in parts else none, each, width_us)
        if earlier and not bounded_before:
            more_back.add(key)
        if later and not bounded_after:
            more_ahead.add(key)
        if key not in more_back | more_ahead:
            spans.append(span)
    return rows, spans, more_back, more_ahead


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
