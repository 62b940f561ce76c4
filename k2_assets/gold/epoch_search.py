"""Find the epochs that new trades open, move or close: read as much of the lake around them as decides it.

What gold and the register hold is settled: within an epoch nothing breaks but what is remembered as odd. So new trades
are judged with what lies a minute around their neighbours; only where something breaks is more read.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions import BooleanExpression, Or
from pyiceberg.table import Table

from k2_assets.gold.deduplicate import KEY
from k2_assets.gold.epoch_breaks import Breaks, breaking, find_breaks
from k2_assets.gold.instrument_memory import Memory, name
from k2_assets.lake.row_filters import day_bounds_us, instrument_ids, instrument_times, time_between
from k2_assets.lake.source_files import live_files, read_files
from k2_assets.topic_tables.frames_of_day import frames_at
from k2_core import clock
from k2_core.epochs import BREAK_US, Epochs, Key
from k2_core.lake import tables
from k2_core.lake.manifests import LakeFile
from k2_core.offsets import Offsets
from k2_core.venues.routing import is_snapshot

FRAME: Final = ("topic_id", "kafka_partition", "kafka_offset")
_SEEN: Final = (*KEY, "timestamp", "source_sequence", "ingestion_timestamp", "platform_sequence")
_FIRST_MARGIN_US: Final = 2 * BREAK_US
_WIDEN: Final = 8
_END_US: Final = clock.to_us(datetime(9999, 1, 1, tzinfo=UTC))
_DAY_US: Final = 86_400_000_000
_LOOKED_AT: Final = 1_000  # trades of a new epoch whose frames are looked at; a snapshot has a tenth of it
_NAMED: Final = 16  # instruments that a filter names; of more, all rows are read
_Ints = npt.NDArray[np.int64]
time_us: Final = pl.col("timestamp").to_physical()


@dataclass
class Found:
    """What a search found of the instruments that it looked at.

    Args:
        starts: all of an instrument's epochs, of those whose register changes.
        odd: the days of trades that break alone.
        largest: the largest id of the newest epoch, where it was read whole.
        days: in which gold has the id of a new trade, too.
        read: from which time on and until which gold was read, in µs.
        by_memory: the instruments for which it counted what gold remembers of their largest id and newest time.
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
    for (exchange, symbol), part in news.partition_by(KEY, as_dict=True).items():
        times, ids = _times(part), part["source_sequence"].to_numpy()
        order = np.lexsort((ids, times))
        largest, newest = (of.get(name(exchange, symbol)) for of in (memory.largest, memory.newest))
        since = max((*register.starts(exchange, symbol)[-1:], (newest or _END_US) - BREAK_US))
        follows = largest is None or (ids.min() > largest and times.min() >= since)
        if not follows or breaking(times[order], ids[order]).any():
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
        parts = news.select(*_SEEN, *FRAME).partition_by(KEY, as_dict=True)
        for around in self._around({key: parts[key] for key in keys}, without):
            breaks = around.breaks()
            if self._is_settled(around, breaks):
                self._take(found, around, breaks)
            else:
                self._look_closely(found, around, self._files(without))
        found.by_memory |= found.largest.keys()
        found.read = self._read
        return found

    def _files(self, without: date | None, days: Iterable[date | None] = (None,)) -> list[LakeFile]:
        """Return gold's files, or those of some days."""
        files = [each for day in days for each in live_files(self._gold, "timestamp", day=day)]
        return [each for each in files if each.day != without]

    def _around(self, news: Mapping[Key, pl.DataFrame], without: date | None) -> list["_Around"]:
        """Read gold around ``news``, wider and wider for those instruments for which it was not enough yet.

        The files of the days around are mostly enough; those of all days take long to list.
        """
        times = np.concatenate([_times(part) for part in news.values()])
        first, last = int(times.min()), int(times.max())
        first_day, last_day = (clock.from_us(at).date() for at in (first, last))
        near = sorted({day + timedelta(days=step) for day in (first_day, last_day) for step in (-1, 0, 1)})
        files, all_files = self._files(without, near), False
        lowest, highest = day_bounds_us(near[0])[0], day_bounds_us(near[-1])[1]
        back = ahead = _FIRST_MARGIN_US
        enough: list[_Around] = []
        while True:
            begin, end = max(first - back, lowest), min(last + ahead, highest)
            known = self._known(files, list(news), begin, end).partition_by(KEY, as_dict=True)
            reached = [self._reach(key, part, known.get(key), (begin, end)) for key, part in news.items()]
            lack_back = {each.key for each in reached if each.from_us is None}
            lack_ahead = {each.key for each in reached if each.to_us is None and self._goes_on(each.key, end)}
            enough += [each for each in reached if each.key not in lack_back | lack_ahead]
            news = {key: part for key, part in news.items() if key in lack_back | lack_ahead}
            more_back = bool(lack_back) and any(each.first_us < begin for each in files)
            more_ahead = bool(lack_ahead) and any(each.last_us >= end for each in files)
            if not (more_back or more_ahead) and (all_files or not news):
                return enough + [each for each in reached if each.key in news]
            if not (more_back or more_ahead):
                files, all_files, lowest, highest = self._files(without), True, 0, _END_US
            back, ahead = back * (_WIDEN if more_back else 1), ahead * (_WIDEN if more_ahead else 1)

    def _goes_on(self, key: Key, end: int) -> bool:
        """Tell whether gold may have trades of an instrument from ``end`` on."""
        newest = self._memory.newest.get(name(*key))
        return newest is None or newest >= end

    def _known(self, files: Iterable[LakeFile], keys: list[Key], begin: int, end: int) -> pl.DataFrame:
        self._read = hull(self._read, (begin, end))
        overlapping = [each for each in files if each.last_us >= begin and each.first_us < end]
        return _of(keys, read_files(self._gold, overlapping, _SEEN, _times_of(keys, begin, end)))

    def _reach(self, key: Key, news: pl.DataFrame, known: pl.DataFrame | None, read: tuple[int, int]) -> "_Around":
        """See how far what was read is enough: to a trade before that does not break, and to one after.

        A trade breaks over those more than a minute older. So only over a minute from ``news`` does a trade show by
        itself whether something breaks over older ones too: the trades between may be above it and below those.
        """
        if known is None:
            known = news.clear().select(_SEEN)
        (begin, end), times, new = read, _times(known), _times(news)
        odd_days = [_day_number(day) for day in self._memory.odd.get(name(*key), ())]
        clean = ~np.isin([(times + beside) // _DAY_US for beside in (-BREAK_US, 0, BREAK_US)], odd_days).any(axis=0)
        before = clean & (times < new.min() - BREAK_US) & (times - BREAK_US >= begin)
        for start in self._register.starts(*key):
            before &= (times < start - BREAK_US) | (times >= start + BREAK_US)
        after = times[clean & (times > new.max() + BREAK_US) & (times + BREAK_US <= end)]
        from_us = int(times[before].max()) - BREAK_US if before.any() else None
        return _Around(key, news, known, from_us, end if len(after) else None, begin)

    def _is_settled(self, around: "_Around", breaks: Breaks) -> bool:
        """Tell whether nothing beyond what was read can change: nothing breaks but where the register says."""
        first, last = (
            clock.from_us(default if at is None else at).date().isoformat()
            for at, default in ((around.from_us, 0), (around.to_us, _END_US))
        )
        if breaks.odd_us or any(first <= day <= last for day in self._memory.odd.get(name(*around.key), ())):
            return False
        return breaks.starts == around.within(self._register.starts(*around.key))

    def _look_closely(self, found: Found, around: "_Around", files: list[LakeFile]) -> None:
        """Judge all that came since, with every copy that silver has of the trades in question."""
        known = self._known(files, [around.key], around.begin_us, _END_US)
        around = _Around(around.key, around.news, known, around.from_us, None, around.begin_us)
        odd_days = [date.fromisoformat(day) for day in self._memory.odd.get(name(*around.key), ())]
        around = self._with_copies(around, odd_days)
        breaks = around.breaks()
        # Gold lacks trades whose id it has in their epoch; that they came decides over an epoch that closes, too.
        changed = sorted({*breaks.starts} ^ {*around.within(self._register.starts(*around.key))})
        if changed:
            asked = [around.rows.filter(time_us >= start).sort(time_us).head(_LOOKED_AT) for start in changed]
            days = pl.concat(asked)["timestamp"].dt.date().unique().to_list()
            around = self._with_copies(around, days)
            asked = [around.rows.filter(time_us >= start).sort(time_us).head(_LOOKED_AT) for start in changed]
            breaks = around.breaks(self._snapshots(around.key, pl.concat(asked)))
        self._take(found, around, breaks)
        self._change(found, around, breaks)
        odd = around.news.filter(time_us.is_in(list(breaks.odd_us)))
        if not odd.is_empty():
            ids = odd["source_sequence"]
            where = instrument_ids(*around.key, int(ids.min()), int(ids.max()))  # type: ignore[arg-type]  # integers
            self._read = 0, _END_US
            rows = read_files(self._gold, files, ("source_sequence", "timestamp"), where)
            found.days.update(rows.filter(pl.col("source_sequence").is_in(ids.to_list()))["timestamp"].dt.date())

    def _take(self, found: Found, around: "_Around", breaks: Breaks) -> None:
        """Note the largest id of an instrument's newest epoch, and the days in which gold has ids of ``news``."""
        twice = around.known.join(around.news, on="source_sequence", how="semi")
        found.days.update(twice["timestamp"].dt.date())
        if around.to_us is None:  # then the trades since the newest start, or since ``from_us``, hold the largest id
            newest = around.rows.filter(time_us >= (breaks.starts[-1] if breaks.starts else 0))["source_sequence"]
            found.largest[around.key] = int(newest.max())  # type: ignore[arg-type]  # of integers, at least the first

    def _change(self, found: Found, around: "_Around", breaks: Breaks) -> None:
        """Put what breaks since ``from_us`` in the place of what the register and gold's memory have since then."""
        standing, since = self._register.starts(*around.key), around.from_us
        starts = (*(start for start in standing if since is not None and start <= since), *breaks.starts)
        if starts != standing:
            found.starts[around.key] = starts
        since_day = "" if since is None else clock.from_us(since).date().isoformat()
        before = {day for day in self._memory.odd.get(name(*around.key), ()) if day < since_day}
        odd = {clock.from_us(at).date().isoformat() for at in breaks.odd_us}
        found.odd[around.key] = tuple(sorted(before | odd))

    def _with_copies(self, around: "_Around", days: Iterable[date]) -> "_Around":
        """Add every copy that silver has of trades of some days; gold lacks those whose id it had already."""
        silver = self._table(tables.silver_trades(around.key[0]).name)
        if silver is None:
            return around
        files = [each for day in days for each in live_files(silver, "timestamp", day=day)]
        begin = 0 if around.from_us is None else around.from_us
        rows = _of([around.key], read_files(silver, files, (*_SEEN, *FRAME), _times_of([around.key], begin, _END_US)))
        return around.with_rows(rows)

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
            held = pl.from_arrow(piece.select([*FRAME, "payload"]))
            assert isinstance(held, pl.DataFrame)  # noqa: S101  # a table, not a column
            repeats = [is_snapshot(payload) for payload in held["payload"].to_list()]
            found.append(held.filter(pl.Series(repeats, dtype=pl.Boolean)).select(FRAME))
        return pl.concat(found)

    def _table(self, table: str) -> Table | None:
        try:
            return self._load(table)
        except NoSuchTableError:
            return None


@dataclass(frozen=True)
class _Around:
    """New trades of one instrument and what was read around them.

    Args:
        key: of the instrument.
        news: the new trades, with all their copies.
        known: what gold has from ``begin_us`` on.
        from_us: from here on all is known that decides; None when there is nothing before.
        to_us: up to here all was read; None when that is to the end.
        begin_us: where the reading began.
        copies: more copies, of silver.
    """

    key: Key
    news: pl.DataFrame
    known: pl.DataFrame
    from_us: int | None
    to_us: int | None
    begin_us: int
    copies: pl.DataFrame | None = None

    @property
    def rows(self) -> pl.DataFrame:
        """All trades that count, a row for each copy; those that only gold has lack where they came from."""
        parts = [self.news, *([] if self.copies is None else [self.copies]), self.known]
        rows = pl.concat(parts, how="diagonal").filter(time_us >= (0 if self.from_us is None else self.from_us))
        return rows.unique(_SEEN, keep="first", maintain_order=True)

    def with_rows(self, copies: pl.DataFrame) -> "_Around":
        """Return this with more copies."""
        together = copies if self.copies is None else pl.concat([self.copies, copies])
        return _Around(self.key, self.news, self.known, self.from_us, self.to_us, self.begin_us, together)

    def within(self, starts: tuple[int, ...]) -> tuple[int, ...]:
        """Return the starts that lie where all was read."""
        return tuple(
            each
            for each in starts
            if (self.from_us is None or each > self.from_us) and (self.to_us is None or each < self.to_us)
        )

    def breaks(self, snapshots: pl.DataFrame | None = None) -> Breaks:
        """Return what breaks, by the rule."""
        rows = self.rows
        heard = np.ones(rows.height, dtype=bool)
        if snapshots is not None:
            repeats = rows.with_row_index("row").join(snapshots, on=FRAME, how="semi")["row"]
            heard[repeats.to_numpy()] = False
        frames = rows.select(pl.struct("ingestion_timestamp", "platform_sequence").hash()).to_series().to_numpy()
        return find_breaks(_times(rows), rows["source_sequence"].to_numpy(), frames, heard)


def hull(one: tuple[int, int] | None, other: tuple[int, int]) -> tuple[int, int]:
    """Return the smallest range that holds both."""
    return other if one is None else (min(one[0], other[0]), max(one[1], other[1]))


def _of(keys: list[Key], rows: pl.DataFrame) -> pl.DataFrame:
    wanted = pl.DataFrame(keys, {"exchange": pl.String, "symbol": pl.String}, orient="row")
    return rows.join(wanted, on=KEY, how="semi")


def _times_of(keys: list[Key], begin: int, end: int) -> BooleanExpression:
    if len(keys) > _NAMED:
        return time_between("timestamp", begin, end)
    return reduce(Or, [instrument_times(*key, begin, end - 1) for key in keys])


def _times(rows: pl.DataFrame) -> _Ints:
    found: _Ints = rows["timestamp"].to_physical().to_numpy()
    return found


def _day_number(day: str) -> int:
    return (date.fromisoformat(day) - date(1970, 1, 1)).days


def days_between(before: tuple[int, ...], after: tuple[int, ...], days: Iterable[date]) -> set[date]:
    """Return those of ``days`` in which a trade may have another epoch after its instrument's starts changed."""
    differing = set(before) ^ set(after)
    first = min(differing)
    end = min((start for start in after if start in before and start > max(differing)), default=_END_US)
    first_day, last_day = (clock.from_us(at).date() for at in (first, end))
    return {day for day in days if first_day <= day <= last_day}
