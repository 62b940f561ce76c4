"""Bring gold's trades or quotes up to what silver holds of one day: read what is new, drop what stands, append."""

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import date, timedelta
from functools import reduce
from typing import Any, Final

import polars as pl
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import BooleanExpression, In, Or
from pyiceberg.table import Table

from k2_assets.gold import deduplicate
from k2_assets.gold.epoch_search import EpochSearch, Found, days_between, hull
from k2_assets.gold.instrument_memory import Memory, may_stand
from k2_assets.gold.taken_in import TakenIn
from k2_assets.lake.commits import ATTEMPTS, Change, arrow_schema, commit_derived
from k2_assets.lake.rebuilt_days import Taken, marked
from k2_assets.lake.row_filters import day_bounds_us, instrument_ids, instrument_times, time_between
from k2_assets.lake.source_files import Seen, live_files, oldest_batch, read_files
from k2_assets.reference.epoch_register import epochs_table, read_epochs, write_epochs
from k2_core import clock
from k2_core.epochs import Epochs, Key
from k2_core.lake.manifests import LakeFile
from k2_core.lake.tables import derived_from
from k2_core.logs import logger
from k2_core.venues.routing import Data

log = logger(__name__)

_BATCH_ROWS: Final = 1_000_000
_in: Final[Any] = In  # its type stub, made by pydantic, knows keywords only


@dataclass(frozen=True)
class Outcome:
    """What a run did, for its operator."""

    rows_added: int = 0
    rows_read: int = 0
    repeated: int = 0
    conflicting: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


class GoldRefresh:
    """One day's run over all silver tables of trades or quotes."""

    def __init__(self, catalog: Catalog, namespace: str, sources: tuple[str, ...], day: date, data: Data) -> None:
        self._catalog = catalog
        self._namespace = namespace
        self._sources = sources
        self._day = day
        self._kind = deduplicate.KINDS[data]
        self._schema = arrow_schema(self._kind.spec)
        self._outcome = Outcome()
        # What this run has taken in: the table forgets days that are older than its memory is long.
        self._taken = Seen({})
        self._taking = Seen({})
        self._read = day_bounds_us(day)  # from which time on and until which gold was read, in µs

    def append_new(self) -> Outcome:
        """Append the day's rows that gold does not have yet; reading anything again changes nothing.

        A day that silver made anew since is replaced whole.

        Raises:
            CommitConflict: other writers were first again and again.
        """
        total = Outcome()
        while True:
            self._outcome = Outcome()
            change = commit_derived(self._load_gold, self._new_rows)[1]
            if change is None:
                return total
            self._taken = self._taking
            total += self._outcome

    def replace_day(self, *, attempts: int = ATTEMPTS) -> Outcome:
        """Make the day's rows anew from all of silver; nothing is committed when they stand so already.

        Raises:
            CommitConflict: other writers were first, ``attempts`` times.
        """
        commit_derived(self._load_gold, self._whole_day, attempts=attempts)
        return self._outcome

    def _load_gold(self) -> Table:
        return self._load(self._kind.spec.name)

    def _load(self, name: str) -> Table:
        return self._catalog.load_table((self._namespace, name))

    def _new_rows(self, gold: Table) -> Change | None:
        seen, taken = Seen.of(gold), Taken.of(gold)
        sources = [self._load(name) for name in self._sources]
        epochs = self._epochs()
        if any(self._day in taken.behind(source) for source in [*sources, *([] if epochs is None else [epochs])]):
            return self._whole_day(gold)
        self._taking, files, frames, room = self._taken, [], [], _BATCH_ROWS
        for silver in sources:  # of all of them in one commit
            of_day = live_files(silver, "timestamp", day=self._day)
            batch = oldest_batch(self._taken.newer(silver, seen.newer(silver, of_day)), room) if room > 0 else []
            if batch:
                room -= sum(each.rows for each in batch)
                self._taking = self._taking.with_files(silver, batch)
                files.append((silver, batch))
                frames.append(read_files(silver, batch, self._kind.columns + deduplicate.ORIGIN))
        return self._change(gold, pl.concat(frames), files, epochs) if frames else None

    def _change(
        self, gold: Table, read: pl.DataFrame, files: list[tuple[Table, list[LakeFile]]], epochs: Table | None
    ) -> Change | None:
        register, memory, found = read_epochs(epochs), Memory.of(gold), Found()
        self._read = day_bounds_us(self._day)
        rows = deduplicate.identified(self._kind, read, register)
        new = deduplicate.first_copies(self._kind, rows)
        suspects = may_stand(new.rows, memory, register)
        days = self._days(suspects)
        standing = self._standing(gold, suspects, days)
        if self._kind.has_epochs:
            found = EpochSearch(self._load, gold, register, memory).run(_unseen(rows, standing, memory))
            self._read = hull(found.read, self._read)
            if found.starts:
                self._write_epochs(gold, register, found.starts)
                return self._whole_day(gold)
            beside = self._standing(gold, suspects, sorted(found.days - set(days)))
            standing = pl.concat([standing, beside])
        new = deduplicate.without_standing(self._kind, new, standing)
        self._outcome = Outcome(new.rows.height, read.height, new.repeated, new.conflicting)
        # Which rows were looked for in gold followed, for every instrument, from the largest id that gold remembers.
        found.by_memory = set(rows.select(deduplicate.KEY).unique().iter_rows())
        taken_in = TakenIn(self._day, files, epochs, found, Memory.of_rows(self._kind, new.rows, register))
        return self._in_place_of(gold, new.beaten, None, self._to_arrow(new.rows), taken_in)

    def _whole_day(self, gold: Table) -> Change | None:
        self._taking, self._read, files, frames = self._taken, day_bounds_us(self._day), [], []
        for silver in (self._load(name) for name in self._sources):
            of_day = live_files(silver, "timestamp", day=self._day)
            files.append((silver, of_day))
            self._taking = self._taking.with_files(silver, of_day)
            frames.append(read_files(silver, of_day, self._kind.columns + deduplicate.ORIGIN))
        read = pl.concat(frames)
        rows, register, epochs, found = self._settled(gold, read)
        new = deduplicate.first_copies(self._kind, rows)
        new = self._elsewhere_too(gold, new, sorted(found.days - {self._day}))
        standing = self._to_arrow(read_files(gold, self._gold_files(gold, [self._day]), self._kind.columns))
        arrow = self._to_arrow(new.rows)
        same = arrow.equals(standing) and new.beaten.is_empty()
        self._outcome = Outcome(0 if same else arrow.num_rows, read.height, new.repeated, new.conflicting)
        remembered_of_rows = Memory.of_rows(self._kind, new.rows, register)
        taken_in = TakenIn(self._day, files, epochs, found, remembered_of_rows, whole=True)
        if same:
            remember = taken_in.remembered(gold, self._kind)
            nothing_new = all(gold.properties.get(name, "{}") == value for name, value in remember.items())
            return None if nothing_new else self._in_place_of(gold, new.beaten, None, arrow.slice(0, 0), taken_in)
        replace = time_between("timestamp", *day_bounds_us(self._day)) if standing.num_rows else None
        return self._in_place_of(gold, new.beaten, replace, arrow, taken_in)

    def _settled(self, gold: Table, read: pl.DataFrame) -> tuple[pl.DataFrame, Epochs, Table | None, Found]:
        """Return the whole day's rows by their ids, after their epochs were found; the register and its table, too."""
        epochs = self._epochs()
        register = read_epochs(epochs)
        if not self._kind.has_epochs:
            return read, register, epochs, Found()
        search = EpochSearch(self._load, gold, register, Memory.of(gold))
        found = search.run(read, without=self._day)
        self._read = hull(found.read, self._read)
        if found.starts:
            register = self._write_epochs(gold, register, found.starts)
            epochs = self._epochs()
        return deduplicate.identified(self._kind, read, register), register, epochs, found

    def _write_epochs(self, gold: Table, register: Epochs, starts: Mapping[Key, tuple[int, ...]]) -> Epochs:
        """Register epochs; the days whose trades get other ids are marked, for silver and gold to make anew."""
        tables = [gold, *(self._load(name) for name in self._sources)]
        days = {each.day for table in tables for each in live_files(table, "timestamp")}
        changed = [days_between(register.starts(*key), found, days) for key, found in starts.items()]
        for (exchange, symbol), found in starts.items():
            log.warning("ids begin again", exchange=exchange, symbol=symbol, epochs=[_iso(start) for start in found])
        return write_epochs(self._catalog, self._namespace, register, starts, sorted(set().union(*changed)))

    def _epochs(self) -> Table | None:
        return epochs_table(self._catalog, self._namespace) if self._kind.has_epochs else None

    def _in_place_of(
        self, gold: Table, beaten: pl.DataFrame, replace: BooleanExpression | None, rows: pa.Table, taken_in: TakenIn
    ) -> Change:
        """Return the change that puts rows in the place of those that ``replace`` names, and of those they beat."""
        days = [self._day] if taken_in.whole and (rows.num_rows or replace is not None) else []
        if not beaten.is_empty():
            ids: BooleanExpression = _in("message_id", beaten["message_id"].to_list())
            replace = ids if replace is None else Or(replace, ids)
            days += beaten["timestamp"].dt.date().unique().to_list()
        followers = [self._load(name) for name in derived_from(self._kind.spec.name)] if days else []
        read, register = self._read, _state(taken_in.epochs)
        then = copy(gold)  # a commit that fails brings the table that it was given up to date

        def remember(table: Table) -> dict[str, str]:
            return taken_in.remembered(table, self._kind) | (marked(table, days, followers) if days else {})

        def remember_in(newer: Table) -> dict[str, str] | None:
            if _state(self._epochs()) != register or taken_in.rests_on(newer, read) != taken_in.rests_on(then, read):
                return None
            return remember(newer)

        return Change(rows, replace, remember(gold), remember_in)

    def _elsewhere_too(self, gold: Table, new: deduplicate.NewRows, days: list[date]) -> deduplicate.NewRows:
        """Drop what stands in other days: trades in ``days``, and what was received beyond midnight."""
        stamped = new.rows.filter(deduplicate.STAMPED) if self._kind.stamped else new.rows.clear()
        new = deduplicate.without_standing(self._kind, new, self._standing(gold, stamped, self._neighbours()))
        return deduplicate.without_standing(self._kind, new, self._standing(gold, new.rows, days))

    def _days(self, suspects: pl.DataFrame) -> list[date]:
        """Return the days in which copies of ``suspects`` may stand."""
        beyond = self._kind.stamped and not suspects.filter(deduplicate.STAMPED).is_empty()
        return [self._day, *(self._neighbours() if beyond else [])]

    def _neighbours(self) -> list[date]:
        return [self._day - timedelta(days=1), self._day + timedelta(days=1)]

    def _gold_files(self, gold: Table, days: Iterable[date]) -> list[LakeFile]:
        return [each for day in days for each in live_files(gold, "timestamp", day=day)]

    def _standing(self, gold: Table, suspects: pl.DataFrame, days: list[date]) -> pl.DataFrame:
        """Read gold's rows of some days whose ids, or times, lie among those of ``suspects``."""
        with_ids, others = suspects.filter(has_id := pl.col("source_sequence").is_not_null()), suspects.filter(~has_id)
        columns = deduplicate.compared(self._kind)
        if suspects.is_empty() or not days:
            return read_files(gold, [], columns)
        self._read = hull(self._read, (day_bounds_us(min(days))[0], day_bounds_us(max(days))[1]))
        filters: list[BooleanExpression] = [instrument_ids(*row) for row in _ranges(with_ids)]
        first_us, end_us = day_bounds_us(min(days))[0], day_bounds_us(max(days))[1] - 1
        for exchange, symbol, lowest, highest in _ranges(others.filter(~deduplicate.STAMPED)):
            filters.append(instrument_times(exchange, symbol, lowest, highest))
        for exchange, symbol in others.filter(deduplicate.STAMPED).select(deduplicate.KEY).unique().iter_rows():
            filters.append(instrument_times(exchange, symbol, first_us, end_us))
        return read_files(gold, self._gold_files(gold, days), columns, reduce(Or, filters))

    def _to_arrow(self, rows: pl.DataFrame) -> pa.Table:
        return deduplicate.in_gold_order(self._kind, rows).to_arrow().cast(self._schema)


def _ranges(rows: pl.DataFrame) -> Iterable[tuple[str, str, int, int]]:
    """Return exchange, symbol, the lowest rank and the highest."""
    return (
        rows.group_by(deduplicate.KEY)
        .agg(deduplicate.RANK.min().alias("low"), deduplicate.RANK.max().alias("high"))
        .iter_rows()
    )


def _unseen(rows: pl.DataFrame, standing: pl.DataFrame, memory: Memory) -> pl.DataFrame:
    """Return the rows that are no copies of what stands; all of an instrument of which a trade breaks alone."""
    odd = pl.concat_str("exchange", "symbol", separator="|").is_in(list(memory.odd))
    copy = rows.with_row_index("row").join(standing, on=("message_id", "timestamp"), how="semi")["row"]
    return rows.with_row_index("row").filter(~pl.col("row").is_in(copy.implode()) | odd).drop("row")


def _state(table: Table | None) -> int | None:
    return None if table is None else table.metadata.current_snapshot_id


def _iso(start_us: int) -> str:
    return clock.from_us(start_us).isoformat()
