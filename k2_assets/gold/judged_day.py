"""A day of gold as its checks read it: the newest files once for all of them, or what each one asks for of the day."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Final

import polars as pl
from pyiceberg.table import Table

from k2_assets.gold import candle_checks, quote_checks, row_checks, trade_checks
from k2_assets.gold.bounding_trades import Source, Touched, bounded_rows
from k2_assets.gold.candle_rows import TRADE_COLUMNS, Span, candles
from k2_assets.gold.instrument_rows import KEY
from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.row_filters import day_bounds_us, time_between
from k2_assets.lake.source_files import live_files, newest_and_beside, newest_times, read_files
from k2_assets.reference.epoch_register import epochs_table, read_epochs
from k2_core import clock
from k2_core.epochs import Epochs
from k2_core.lake.manifests import LakeFile
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import GOLD_QUOTES, GOLD_TABLES, GOLD_TRADES
from k2_core.timeframes import MINUTE_US

_EDGE_US: Final = 2_000_000  # ids and times of an instrument may rise in another order, by so much
_PART_US: Final = 60 * MINUTE_US  # of a whole day, as much as is in memory at once
_USUAL_US: Final = 10 * MINUTE_US  # before a part, of which jumps take what is usual
_NEWEST: Final = {
    GOLD_TRADES.name: ("message_id", *trade_checks.PRICES, "ingestion_timestamp"),
    GOLD_QUOTES.name: ("message_id", *quote_checks.SIDES),
}
_CANDLES: Final = tuple(dict.fromkeys((*row_checks.CANDLE_COLUMNS, *candle_checks.REBUILT)))
_SAMPLED: Final = {True: 5, False: 1}


@dataclass(frozen=True)
class JudgedDay:
    """A day of one table, and whether all of it is read, or its newest files and those that overlap them in time."""

    lake: Lake
    table_name: str
    day: date
    whole: bool

    @property
    def spec(self) -> TableSpec:
        return GOLD_TABLES[self.table_name]

    @property
    def where(self) -> str:
        """What is read, for a sentence."""
        return "the whole day" if self.whole else "its newest files and those beside them"

    @cached_property
    def table(self) -> Table:
        return self.lake.table(self.table_name)

    @cached_property
    def files(self) -> list[LakeFile]:
        return live_files(self.table, self.spec.partition_by, day=self.day)

    @property
    def times(self) -> tuple[int, int]:
        """The first and the last µs of which all rows are read."""
        if self.whole:
            first_us, end_us = day_bounds_us(self.day)
            return first_us, end_us - 1
        first_us, last_us = newest_times(self.files)
        return first_us + _EDGE_US, last_us

    @cached_property
    def epochs(self) -> Epochs:
        return read_epochs(epochs_table(self.lake.catalog(), self.lake.namespace))

    def rows(self, columns: tuple[str, ...]) -> pl.DataFrame:
        """Return columns of the rows that are read, of trades or quotes."""
        if self.whole:
            return read_files(self.table, self.files, columns)
        return self._newest.select(columns)

    @cached_property
    def _newest(self) -> pl.DataFrame:
        return read_files(self.table, newest_and_beside(self.files), _NEWEST[self.table_name])

    @cached_property
    def candles(self) -> pl.DataFrame:
        """All candles of the day: they are few."""
        return self.lake.rows_of_day(self.spec, self.day, _CANDLES)

    def jumps(self) -> trade_checks.Found:
        """Return the trades whose price jumps, hour by hour where the day is read whole."""
        if not self.whole:
            return trade_checks.jumps(self.rows(trade_checks.PRICES), self.times[0])
        parts = [
            trade_checks.jumps(self._between(GOLD_TRADES, trade_checks.PRICES, first - _USUAL_US, end), first)
            for first, end in self._parts()
        ]
        return trade_checks.Found.joined(parts, "score")

    def outside_spread(self) -> trade_checks.Found:
        """Return the trades outside the spread, hour by hour where the day is read whole."""
        found = []
        for first, end in self._parts():
            trades = (
                self._between(GOLD_TRADES, trade_checks.PRICES, first, end)
                if self.whole
                else self.rows(trade_checks.PRICES)
            )
            low, high = (first, end) if trades.is_empty() else _bounds(trades)
            quotes = self._between(
                GOLD_QUOTES, trade_checks.QUOTED, low - trade_checks.QUOTE_AGE_US, high + trade_checks.AROUND_US + 1
            )
            found.append(trade_checks.outside_spread(trades, quotes))
        return trade_checks.Found.joined(found, "outside by")

    def last_half_hour(self) -> pl.DataFrame:
        """Return the times of the trades of the half hour before the day's newest one, over midnight."""
        last = max((each.last_us for each in self.files), default=0)
        return self._between(
            GOLD_TRADES, trade_checks.TIMES, last - clock.US_PER_SECOND * trade_checks.SILENCE_S, last + 1
        )

    def newest_us(self) -> int | None:
        """Return the time of the table's newest row, of whichever day."""
        return max((each.last_us for each in live_files(self.table, self.spec.partition_by)), default=None)

    def rebuilt_sample(self) -> tuple[pl.DataFrame, pl.DataFrame, int]:
        """Return the candles of some windows that are over, the same built from gold's trades, and how many windows.

        Of one window that refine chooses, only instruments are built that have trades in the windows beside it.
        """
        assert self.spec.timeframe is not None  # noqa: S101  # of candles
        width_us, start = self.spec.timeframe.width_us, pl.col("window_start")
        beside = [start.shift(step).over(KEY).sub(start).abs().dt.total_microseconds() == width_us for step in (1, -1)]
        settled = clock.from_us(clock.now_us() - width_us - _USUAL_US)
        judged = (
            self.candles.sort(*KEY, "window_start")
            .filter(self.whole or pl.all_horizontal(beside))
            .filter(start < settled)
        )
        starts = candle_checks.sampled_windows(
            judged["window_start"].unique().to_list(), f"{self.table_name} {self.day}", _SAMPLED[self.whole]
        )
        trades = self.lake.table(GOLD_TRADES.name)
        source = Source(trades, live_files(trades, "timestamp"), TRADE_COLUMNS, "timestamp")
        stored = judged.filter(start.is_in(starts)).select(candle_checks.REBUILT)
        rebuilt = [stored.clear()]
        for first_us in (clock.to_us(each) for each in starts):
            keys = judged.filter(start.to_physical() == first_us).select(KEY).sort(KEY).rows()
            end_us = first_us + width_us
            touched = [Touched(exchange, symbol, first_us, end_us - 1) for exchange, symbol in keys]
            spans = [Span(exchange, symbol, first_us, end_us) for exchange, symbol in keys]
            around = bounded_rows(source, touched, MINUTE_US)
            rebuilt.append(candles(around.rows, spans, width_us, self.epochs))
        return stored, pl.concat(rebuilt), len(starts)

    def _parts(self) -> Iterator[tuple[int, int]]:
        """Yield the times that are judged at once: the hours of a whole day that have rows; at least one part."""
        first_us = max(self.times[0], min((each.first_us for each in self.files), default=0))
        last_us = min(self.times[1], max((each.last_us for each in self.files), default=0))
        step = _PART_US if self.whole else max(last_us - first_us + 1, 1)
        begins = range(first_us, last_us + 1, step) or [first_us]
        yield from ((begin, min(begin + step, last_us + 1)) for begin in begins)

    def _between(self, spec: TableSpec, columns: tuple[str, ...], first_us: int, end_us: int) -> pl.DataFrame:
        table = self.table if spec.name == self.table_name else self.lake.table(spec.name)
        near = [
            each for each in live_files(table, spec.partition_by) if each.last_us >= first_us and each.first_us < end_us
        ]
        return read_files(table, near, columns, time_between(spec.partition_by, max(first_us, 0), max(end_us, 0)))


def _bounds(rows: pl.DataFrame) -> tuple[int, int]:
    times = rows["timestamp"].to_physical()
    return int(times.min()), int(times.max())  # type: ignore[arg-type]  # of integers
