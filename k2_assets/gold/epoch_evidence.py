"""What is known of the trades around an instrument's new ones, and what follows from it for its epochs. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Final

import numpy as np
import polars as pl

from k2_assets.gold.epoch_breaks import Breaks, find_breaks
from k2_core import clock
from k2_core.epochs import Key

FRAME: Final = ("topic_id", "kafka_partition", "kafka_offset")
TRADE: Final = ("exchange", "symbol", "timestamp", "source_sequence", "ingestion_timestamp", "platform_sequence")
"""The columns by which a trade, and the frame that brought it, are judged."""
END_US: Final = clock.to_us(datetime(9999, 1, 1, tzinfo=UTC))
_LOOKED_AT: Final = 1_000  # trades of a new epoch whose frames are looked at; a snapshot has a tenth of it
time_us: Final = pl.col("timestamp").to_physical()


@dataclass(frozen=True)
class Evidence:
    """New trades of one instrument and what was read around them.

    Args:
        key: exchange and symbol.
        news: the new trades, with all their copies.
        existing: what gold has from ``begin_us`` on.
        registered: the starts of its epochs, as the register has them.
        odd_days: the days of its odd trades ("2024-08-09"), as gold remembers them.
        from_us: all that decides is known from here on; None when there is nothing before.
        to_us: all was read up to here; None when that is to the end.
        begin_us: where the reading began.
        copies: more copies, of silver.
    """

    key: Key
    news: pl.DataFrame
    existing: pl.DataFrame
    registered: tuple[int, ...]
    odd_days: tuple[str, ...]
    from_us: int | None
    to_us: int | None
    begin_us: int
    copies: pl.DataFrame | None = None

    @property
    def rows(self) -> pl.DataFrame:
        """All trades that count, a row for each copy; those that only gold has lack where they came from."""
        parts = [self.news, *([] if self.copies is None else [self.copies]), self.existing]
        rows = pl.concat(parts, how="diagonal").filter(time_us >= (0 if self.from_us is None else self.from_us))
        return rows.unique(TRADE, keep="first", maintain_order=True)

    def with_copies(self, copies: pl.DataFrame) -> "Evidence":
        """Return this with more copies."""
        return replace(self, copies=copies if self.copies is None else pl.concat([self.copies, copies]))

    def first_since(self, starts: Iterable[int]) -> pl.DataFrame:
        """Return the first trades from each of ``starts`` on."""
        return pl.concat([self.rows.filter(time_us >= start).sort(time_us).head(_LOOKED_AT) for start in starts])

    def breaks(self, snapshots: pl.DataFrame | None = None) -> Breaks:
        """Return what breaks, by the rule; the frames of ``snapshots`` were not heard as they happened."""
        rows = self.rows
        heard = np.ones(rows.height, dtype=bool)
        if snapshots is not None:
            repeats = rows.with_row_index("row").join(snapshots, on=FRAME, how="semi")["row"]
            heard[repeats.to_numpy()] = False
        frames = rows.select(pl.struct("ingestion_timestamp", "platform_sequence").hash()).to_series().to_numpy()
        times = rows["timestamp"].to_physical().to_numpy()
        return find_breaks(times, rows["source_sequence"].to_numpy(), frames, heard)

    def registered_within(self) -> tuple[int, ...]:
        """Return the registered starts that lie where all was read."""
        first, last = -1 if self.from_us is None else self.from_us, END_US if self.to_us is None else self.to_us
        return tuple(start for start in self.registered if first < start < last)

    def is_settled(self, breaks: Breaks) -> bool:
        """Return whether nothing outside of what was read can change: nothing breaks but where the register says."""
        first, last = _day(self.from_us or 0), _day(END_US if self.to_us is None else self.to_us)
        has_odd = bool(breaks.odd_us) or any(first <= day <= last for day in self.odd_days)
        return not has_odd and breaks.starts == self.registered_within()

    def starts_with(self, breaks: Breaks) -> tuple[int, ...]:
        """Return all starts of the instrument: the registered ones until ``from_us``, and from there on ``breaks``."""
        settled = (start for start in self.registered if self.from_us is not None and start <= self.from_us)
        return *settled, *breaks.starts

    def odd_days_with(self, breaks: Breaks) -> tuple[str, ...]:
        """Return the odd days of the instrument: the remembered ones until ``from_us``, from there on ``breaks``."""
        settled = {day for day in self.odd_days if self.from_us is not None and day < _day(self.from_us)}
        return tuple(sorted(settled | {_day(at) for at in breaks.odd_us}))


def days_between(before: tuple[int, ...], after: tuple[int, ...], days: Iterable[date]) -> set[date]:
    """Return those of ``days`` in which a trade may have another epoch after its instrument's starts changed."""
    differing = set(before) ^ set(after)
    first = min(differing)
    end = min((start for start in after if start in before and start > max(differing)), default=END_US)
    first_day, last_day = (clock.from_us(at).date() for at in (first, end))
    return {day for day in days if first_day <= day <= last_day}


def _day(moment_us: int) -> str:
    return clock.from_us(moment_us).date().isoformat()
