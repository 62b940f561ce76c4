"""Find the epochs that new trades open, move or close: read as much of the lake around them as decides it.

What gold and the register hold is settled: within an epoch nothing breaks but what is remembered as odd. So new trades
are judged with the trades up to a minute around their neighbours; only where something breaks is more read.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Final

import numpy as np
import polars as pl
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from k2_assets.gold.epoch_breaks import Breaks, breaking
from k2_assets.gold.epoch_evidence import END_US, FRAME, TRADE, Evidence, time_us
from k2_assets.gold.instrument_memory import Memory, name
from k2_assets.gold.instrument_rows import KEY, by_instrument, in_order
from k2_assets.lake.row_filters import day_bounds_us, instrument_ids
from k2_assets.lake.source_files import as_frame, live_files, read_files, read_instruments
from k2_assets.topic_tables.frames_of_day import frames_at
from k2_core import clock
from k2_core.epochs import BREAK_US, Epochs, Key
from k2_core.lake import tables
from k2_core.lake.manifests import LakeFile
from k2_core.offsets import Offsets
from k2_core.venues.routing import is_snapshot

_FIRST_MARGIN_US: Final = 2 * BREAK_US
_WIDEN: Final = 8
_DAY_US: Final = 86_400_000_000


@dataclass
class Found:
    """What a search found of the instruments that it looked at.

    Args:
        starts: all of an instrument's epochs, of those whose register changes.
        odd: the days of trades that break alone.
        largest: the largest id of the newest epoch, where it was read whole.
        days: in which gold has trades with the id of a new one.
        read: from which time on and until which gold was read, in µs.
        by_memory: the instruments that were judged by the largest id and the newest time that gold remembers.
    """

    starts: dict[Key, tuple[int, ...]] = field(default_factory=dict)
    odd: dict[Key, tuple[str, ...]] = field(default_factory=dict)
    largest: dict[Key, int] = field(default_factory=dict)
    days: set[date] = field(default_factory=set)
    read: tuple[int, int] | None = None
    by_memory: set[Key] = field(default_factory=set)


def unusual(news: pl.DataFrame, memory: Memory, register: Epochs) -> list[Key]:
    """Return the instruments whose new trades do not simply follow, by time and id, those that gold has."""
    found: list[Key] = []
    for (exchange, symbol), part in by_instrument(news.select(*KEY, "timestamp", "source_sequence")).items():
        ordered = in_order(part, ("timestamp", "source_sequence"))
        times, ids = ordered["timestamp"].to_physical().to_numpy(), ordered["source_sequence"].to_numpy()
        largest, newest = (of.get(name(exchange, symbol)) for of in (memory.largest, memory.newest))
        # They follow when each id is above all that gold has, and no time is before the newest epoch or more than a
        # minute before gold's newest trade. Then no existing trade breaks, and a new one breaks only over another.
        since = max((*register.starts(exchange, symbol)[-1:], (newest or END_US) - BREAK_US))
        follows = largest is None or (ids.min() > largest and times.min() >= since)
        if not follows or breaking(times, ids).any():
            found.append((exchange, symbol))
    return sorted(found)


class EpochSearch:
    """One search, in the state of the lake that a refresh works from."""

    def __init__(self, load: Callable[[str], Table], gold: Table, register: Epochs, memory: Memory) -> None:
        self._load, self._gold = load, gold
        self._register, self._memory = register, memory
        self._read: tuple[int, int] | None = None

    def run(self, news: pl.DataFrame, without: date | None = None) -> Found:
        """Judge ``news``, of silver: trades of a day that gold does not have, with all their copies.

        Args:
            news: with gold's columns and the origin.
            without: a day of which ``news`` are all trades: what gold has of it does not count.
        """
        found = Found()
        keys = unusual(news, self._memory, self._register)
        found.by_memory = set(news.select(KEY).unique().iter_rows()) - {*keys}
        if not keys:
            return found
        parts = by_instrument(news.select(*TRADE, *FRAME))
        for evidence in self._evidence({key: parts[key] for key in keys}, without):
            judged, breaks = evidence, evidence.breaks()
            if not evidence.is_settled(breaks):
                files = self._files(without)
                judged, breaks = self._look_closely(evidence, files)
                self._change(found, judged, breaks, files)
            twice = judged.existing.join(judged.news, on="source_sequence", how="semi")
            found.days.update(twice["timestamp"].dt.date())
            if judged.to_us is None:  # then the trades since the newest start, or ``from_us``, hold the largest id
                newest = judged.rows.filter(time_us >= (breaks.starts[-1] if breaks.starts else 0))["source_sequence"]
                found.largest[judged.key] = int(newest.max())  # type: ignore[arg-type]  # integers, at least the first
        found.by_memory |= found.largest.keys()
        found.read = self._read
        return found

    def _files(self, without: date | None, days: Iterable[date | None] = (None,)) -> list[LakeFile]:
        """Return gold's files, or those of some days."""
        files = [each for day in days for each in live_files(self._gold, "timestamp", day=day)]
        return [each for each in files if each.day != without]

    def _evidence(self, news: Mapping[Key, pl.DataFrame], without: date | None) -> list[Evidence]:
        """Read gold around ``news``, wider and wider for those instruments for which it was not enough yet."""
        times = pl.concat([part["timestamp"] for part in news.values()]).to_physical()
        first, last = int(times.min()), int(times.max())  # type: ignore[arg-type]  # of integers, at least one
        # The files of the days around are mostly enough. Those of all days, which take long to list, come after them.
        first_day, last_day = (clock.from_us(at).date() for at in (first, last))
        near = sorted({day + timedelta(days=step) for day in (first_day, last_day) for step in (-1, 0, 1)})
        files, all_files = self._files(without, near), False
        lowest, highest = day_bounds_us(near[0])[0], day_bounds_us(near[-1])[1]
        back = ahead = _FIRST_MARGIN_US
        enough: list[Evidence] = []
        while True:
            begin, end = max(first - back, lowest), min(last + ahead, highest)
            existing = by_instrument(self._existing(files, list(news), begin, end))
            reached = [self._reach(key, part, existing.get(key), (begin, end)) for key, part in news.items()]
            lack_back = {each.key for each in reached if each.from_us is None}
            lack_ahead = {
                each.key
                for each in reached
                if each.to_us is None and self._memory.newest.get(name(*each.key), END_US) >= end
            }
            enough += [each for each in reached if each.key not in lack_back | lack_ahead]
            news = {key: part for key, part in news.items() if key in lack_back | lack_ahead}
            more_back = bool(lack_back) and any(each.first_us < begin for each in files)
            more_ahead = bool(lack_ahead) and any(each.last_us >= end for each in files)
            if more_back or more_ahead:
                back, ahead = back * (_WIDEN if more_back else 1), ahead * (_WIDEN if more_ahead else 1)
            elif news and not all_files:
                files, all_files, lowest, highest = self._files(without), True, 0, END_US
            else:
                return enough + [each for each in reached if each.key in news]

    def _existing(self, files: Iterable[LakeFile], keys: list[Key], begin: int, end: int) -> pl.DataFrame:
        self._read = hull(self._read, (begin, end))
        overlapping = [each for each in files if each.last_us >= begin and each.first_us < end]
        return read_instruments(self._gold, overlapping, TRADE, keys, (begin, end))

    def _reach(self, key: Key, news: pl.DataFrame, existing: pl.DataFrame | None, read: tuple[int, int]) -> Evidence:
        """See how far what was read is enough: to a trade before that does not break, and to one after."""
        if existing is None:
            existing = news.clear().select(TRADE)
        (begin, end), new = read, news["timestamp"].to_physical().to_numpy()
        times = existing["timestamp"].to_physical().to_numpy()
        registered, odd_days = self._register.starts(*key), self._memory.odd.get(name(*key), ())
        # A trade breaks over those more than a minute older. So only a trade over a minute from ``news`` shows by
        # itself whether something breaks over older ones too: the trades between may be above it and below those. It
        # must not be near an odd trade or an epoch's start, and all within a minute of it must have been read.
        odd_numbers = [day_bounds_us(date.fromisoformat(day))[0] // _DAY_US for day in odd_days]
        clean = ~np.isin([(times + beside) // _DAY_US for beside in (-BREAK_US, 0, BREAK_US)], odd_numbers).any(axis=0)
        before = clean & (times < new.min() - BREAK_US) & (times - BREAK_US >= begin)
        for start in registered:
            before &= (times < start - BREAK_US) | (times >= start + BREAK_US)
        after = clean & (times > new.max() + BREAK_US) & (times + BREAK_US <= end)
        from_us = int(times[before].max()) - BREAK_US if before.any() else None
        return Evidence(key, news, existing, registered, odd_days, from_us, end if after.any() else None, begin)

    def _look_closely(self, evidence: Evidence, files: list[LakeFile]) -> tuple[Evidence, Breaks]:
        """Judge all trades from ``from_us`` on, with every copy that silver has of the trades in question."""
        existing = self._existing(files, [evidence.key], evidence.begin_us, END_US)
        evidence = self._with_copies(
            replace(evidence, existing=existing, to_us=None), map(date.fromisoformat, evidence.odd_days)
        )
        breaks = evidence.breaks()
        # Where epochs open or close, it counts in how many frames their first trades came, snapshots aside. Gold lacks
        # trades whose id it has in their epoch: that they came decides over an epoch that closes, too.
        changed = sorted({*breaks.starts} ^ {*evidence.registered_within()})
        if changed:
            days = evidence.first_since(changed)["timestamp"].dt.date().unique().to_list()
            evidence = self._with_copies(evidence, days)
            breaks = evidence.breaks(self._snapshots(evidence.key, evidence.first_since(changed)))
        return evidence, breaks

    def _change(self, found: Found, evidence: Evidence, breaks: Breaks, files: list[LakeFile]) -> None:
        """Note the instrument's epochs and odd days, and the days in which gold has the ids of odd trades."""
        starts = evidence.starts_with(breaks)
        if starts != evidence.registered:
            found.starts[evidence.key] = starts
        found.odd[evidence.key] = evidence.odd_days_with(breaks)
        ids = evidence.news.filter(time_us.is_in(list(breaks.odd_us)))["source_sequence"]
        if not ids.is_empty():
            where = instrument_ids(*evidence.key, int(ids.min()), int(ids.max()))  # type: ignore[arg-type]  # integers
            self._read = 0, END_US
            rows = read_files(self._gold, files, ("source_sequence", "timestamp"), where)
            found.days.update(rows.filter(pl.col("source_sequence").is_in(ids.to_list()))["timestamp"].dt.date())

    def _with_copies(self, evidence: Evidence, days: Iterable[date]) -> Evidence:
        """Add every copy that silver has of trades of some days; gold lacks those whose id it had already."""
        silver = self._table(tables.silver_trades(evidence.key[0]).name)
        if silver is None:
            return evidence
        files = [each for day in days for each in live_files(silver, "timestamp", day=day)]
        times = evidence.from_us or 0, END_US
        return evidence.with_copies(read_instruments(silver, files, (*TRADE, *FRAME), [evidence.key], times))

    def _snapshots(self, key: Key, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the frames of ``rows`` that repeat what was before one subscribed, as bronze has them."""
        bronze, silver = (
            self._table(each.name) for each in (tables.bronze_trades(key[0]), tables.silver_trades(key[0]))
        )
        from_silver = rows.filter(pl.col("topic_id").is_not_null())
        frames = from_silver.select(*FRAME, pl.col("ingestion_timestamp").to_physical().alias("ingestion_us")).unique()
        none = frames.clear().select(FRAME)
        if bronze is None or silver is None or frames.is_empty():
            return none
        vector = Offsets.from_properties(silver.properties)
        found = [none]
        for piece in frames_at(bronze, frames, vector):
            held = as_frame(piece.select([*FRAME, "payload"]))
            repeats = [is_snapshot(payload) for payload in held["payload"].to_list()]
            found.append(held.filter(pl.Series(repeats, dtype=pl.Boolean)).select(FRAME))
        return pl.concat(found)

    def _table(self, table: str) -> Table | None:
        try:
            return self._load(table)
        except NoSuchTableError:
            return None


def hull(one: tuple[int, int] | None, other: tuple[int, int]) -> tuple[int, int]:
    """Return the smallest range that holds both."""
    return other if one is None else (min(one[0], other[0]), max(one[1], other[1]))
