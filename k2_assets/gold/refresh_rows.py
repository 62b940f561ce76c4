"""Bring gold's trades or quotes of one day up to silver: read what is new, drop what gold has already, append."""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import replace
from datetime import date, timedelta
from functools import partial, reduce
from typing import Any, Final

import polars as pl
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import BooleanExpression, In, Or
from pyiceberg.table import Table

from k2_assets.gold import deduplicate
from k2_assets.gold.epoch_evidence import days_between
from k2_assets.gold.epoch_search import EpochSearch, Found, hull
from k2_assets.gold.instrument_memory import Memory, may_exist
from k2_assets.gold.instrument_rows import KEY
from k2_assets.gold.refresh_counts import RowCounts
from k2_assets.gold.restatements import SETTLES, Reason, Restating, differences, restated_days
from k2_assets.gold.taken_in import TakenIn
from k2_assets.lake.commits import ATTEMPTS, Change, arrow_schema
from k2_assets.lake.pending_rows import commit_with_rows
from k2_assets.lake.rebuilt_days import Taken, marked
from k2_assets.lake.row_filters import day_bounds_us, instrument_ids, instrument_times, time_between
from k2_assets.lake.source_files import Seen, live_files, oldest_batch, read_files
from k2_assets.reference.epoch_register import epochs_table, read_epochs, write_epochs
from k2_core import clock
from k2_core.epochs import Epochs, Key
from k2_core.lake.manifests import LakeFile
from k2_core.lake.removed_days import require_kept
from k2_core.lake.tables import GOLD_RESTATEMENTS, derived_from
from k2_core.logs import logger
from k2_core.venues.routing import Data

log = logger(__name__)

_BATCH_ROWS: Final = 1_000_000
Moved = Callable[[], tuple[pl.DataFrame, pl.DataFrame]]
_in: Final[Any] = In  # its type stub, made by pydantic, knows keywords only


class GoldRefresh:
    """One day's run over all silver tables of trades or quotes."""

    def __init__(self, catalog: Catalog, namespace: str, sources: tuple[str, ...], day: date, data: Data) -> None:
        self._catalog = catalog
        self._namespace = namespace
        self._sources = sources
        self._day = day
        self._beside = [day - timedelta(days=1), day + timedelta(days=1)]
        self._kind = deduplicate.KINDS[data]
        self._schema = arrow_schema(self._kind.spec)
        self._counts = RowCounts()
        # What this run has taken in: the table forgets days that are older than its memory is long.
        self._taken = Seen({})
        self._taking = Seen({})
        self._had_rows: bool | None = None  # whether gold had rows of the day when this run began
        self._read = day_bounds_us(day)  # from which time on and until which gold was read, in µs

    def take_in_news(self) -> RowCounts:
        """Append the day's rows that gold does not have yet; reading anything again changes nothing.

        A day that silver has rebuilt since is replaced whole.

        Raises:
            CommitConflict: other writers were first again and again.
        """
        total = RowCounts()
        while True:
            self._counts = RowCounts()
            if self._commit(self._new_rows) is None:
                return total
            self._taken = self._taking
            total += self._counts

    def replace_day(self, *, attempts: int = ATTEMPTS) -> RowCounts:
        """Rebuild the day's rows from all of silver; nothing is committed when gold has the same rows.

        Raises:
            CommitConflict: other writers were first, ``attempts`` times.
            RemovedByRetention: rows of the day are gone from silver.
        """
        self._commit(self._whole_day, attempts)
        return self._counts

    def _commit(self, compute: Callable[[Table], Change | None], attempts: int = ATTEMPTS) -> Change | None:
        tables = partial(self._load, self._kind.spec.name), partial(self._load, GOLD_RESTATEMENTS.name)
        return commit_with_rows(*tables, compute, attempts=attempts)

    def _load(self, name: str) -> Table:
        return self._catalog.load_table((self._namespace, name))

    def _new_rows(self, gold: Table) -> Change | None:
        seen, taken = Seen.of(gold), Taken.of(gold)
        sources = [self._load(name) for name in self._sources]
        epochs = self._epochs()
        if any(self._day in taken.behind(source) for source in [*sources, *([] if epochs is None else [epochs])]):
            return self._whole_day(gold)
        # One commit takes in the new files of all sources, the oldest of each first, up to a batch of rows.
        self._taking, files, frames, rows_left = self._taken, [], [], _BATCH_ROWS
        for silver in sources:
            of_day = live_files(silver, "timestamp", day=self._day)
            new_files = self._taken.newer(silver, seen.newer(silver, of_day))
            batch = oldest_batch(new_files, rows_left) if rows_left > 0 else []
            if batch:
                rows_left -= sum(each.rows for each in batch)
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
        # Gold may have copies of the suspects: in this day, and of rows stamped at receipt in the days beside it.
        suspects = may_exist(new.rows, memory, register)
        beyond = self._kind.stamped and not suspects.filter(deduplicate.STAMPED).is_empty()
        days = [self._day, *(self._beside if beyond else [])]
        existing = self._existing(gold, suspects, days)
        if self._kind.has_epochs:
            # The search judges all rows but copies of what gold has; where an instrument has odd trades, all its rows.
            odd = pl.concat_str("exchange", "symbol", separator="|").is_in(list(memory.odd))
            numbered = rows.with_row_index("row")
            copies = numbered.join(existing, on=("message_id", "timestamp"), how="semi")["row"]
            unseen = numbered.filter(~pl.col("row").is_in(copies.implode()) | odd).drop("row")
            found = EpochSearch(self._load, gold, register, memory).run(unseen)
            self._read = hull(found.read, self._read)
            if found.starts:
                self._write_epochs(gold, register, found.starts)
                return self._whole_day(gold)
            in_others = self._existing(gold, suspects, sorted(found.days - set(days)))
            existing = pl.concat([existing, in_others])
        new = deduplicate.without_existing(self._kind, new, existing)
        self._counts = RowCounts(new.rows.height, read.height, new.repeated, new.conflicting)
        # Which rows were looked for in gold followed, for every instrument, from the largest id that gold remembers.
        found.by_memory = set(rows.select(KEY).unique().iter_rows())
        taken_in = TakenIn(self._day, files, epochs, found, Memory.of_rows(self._kind, new.rows, register))
        change = self._in_place_of(gold, new.beaten, None, self._to_arrow(new.rows), taken_in)
        reason: Reason = "correction" if new.beaten.height else "late"
        return self._restating(gold, change, lambda: (new.rows, new.rows.clear()), new.beaten, reason)

    def _whole_day(self, gold: Table) -> Change | None:
        self._taking, self._read, files, frames = self._taken, day_bounds_us(self._day), [], []
        for silver in (self._load(name) for name in self._sources):
            what = f"{self._kind.spec.name} of {self._day}"
            require_kept(silver.name()[-1], silver.properties, what, self._day, self._day)
            of_day = live_files(silver, "timestamp", day=self._day)
            files.append((silver, of_day))
            self._taking = self._taking.with_files(silver, of_day)
            frames.append(read_files(silver, of_day, self._kind.columns + deduplicate.ORIGIN))
        read, epochs, found = pl.concat(frames), self._epochs(), Found()
        register = read_epochs(epochs)
        if self._kind.has_epochs:
            found = EpochSearch(self._load, gold, register, Memory.of(gold)).run(read, without=self._day)
            self._read = hull(found.read, self._read)
            if found.starts:
                register, epochs = self._write_epochs(gold, register, found.starts), self._epochs()
        new = deduplicate.first_copies(self._kind, deduplicate.identified(self._kind, read, register))
        # Copies in other days: of trades where the search found them, of quotes stamped at receipt beyond midnight.
        elsewhere = sorted(found.days - {self._day})
        suspects, days = (
            (new.rows.filter(deduplicate.STAMPED), self._beside) if self._kind.stamped else (new.rows, elsewhere)
        )
        new = deduplicate.without_existing(self._kind, new, self._existing(gold, suspects, days))
        before = read_files(gold, live_files(gold, "timestamp", day=self._day), self._kind.columns)
        existing = self._to_arrow(before)
        rows = self._to_arrow(new.rows)
        same = rows.equals(existing) and new.beaten.is_empty()
        self._counts = RowCounts(0 if same else rows.num_rows, read.height, new.repeated, new.conflicting)
        memory = Memory.of_rows(self._kind, new.rows, register)
        taken_in = TakenIn(self._day, files, epochs, found, memory, whole=True)
        if same:
            remember = taken_in.remembered(gold, self._kind)
            nothing_new = all(gold.properties.get(name, "{}") == value for name, value in remember.items())
            return None if nothing_new else self._in_place_of(gold, new.beaten, None, rows.slice(0, 0), taken_in)
        others = time_between("timestamp", *day_bounds_us(self._day)) if existing.num_rows else None
        change = self._in_place_of(gold, new.beaten, others, rows, taken_in)
        return self._restating(gold, change, lambda: differences(before, new.rows), new.beaten, "rebuild")

    def _restating(self, gold: Table, change: Change, moved: Moved, beaten: pl.DataFrame, reason: Reason) -> Change:
        """Return the change with what it restates: of its day, and of days that lose a trade to it.

        Args:
            gold: before the change.
            change: without it.
            moved: returns the rows of the day that come, and those that go.
            beaten: rows of any day that a row of this day replaces.
            reason: of the change.
        """
        seen, now, restated = Seen.of(gold), clock.now(), list[pa.Table]()
        newest, days = seen.newest_day(), {self._day, *(beaten["timestamp"].dt.date() if beaten.height else ())}
        if self._had_rows is None:
            self._had_rows = bool(live_files(gold, "timestamp", day=self._day))
        for day in sorted(days):
            start_us, end_us = day_bounds_us(day)
            bounds = clock.from_us(start_us), clock.from_us(end_us)
            # What this run itself wrote of the day, batch by batch, nobody took for final.
            had_rows = self._had_rows if day == self._day else True
            if not had_rows or newest is None or newest <= day or now < bounds[1] + SETTLES:
                continue
            comes, goes = (rows.select("message_id", "timestamp", *KEY) for rows in moved())
            if beaten.height:
                here = beaten.filter(pl.col("timestamp").dt.date() == day)
                lost = here.join(comes.drop("timestamp"), on="message_id").select(goes.columns)
                goes = pl.concat([goes, lost]) if day == self._day else lost
            comes = comes if day == self._day else comes.clear()
            existing = read_files(gold, live_files(gold, "timestamp", day=day), KEY)
            before = existing.join(pl.concat([comes, goes]), on=KEY, how="semi")
            rows = restated_days(Restating(self._kind.spec.name, reason, now), bounds, before, comes, goes)
            restated += [] if rows is None else [rows]
        return replace(change, other_rows=pa.concat_tables(restated)) if restated else change

    def _write_epochs(self, gold: Table, register: Epochs, starts: Mapping[Key, tuple[int, ...]]) -> Epochs:
        # The days whose trades get other ids are marked: silver and gold then rebuild them.
        tables = [gold, *(self._load(name) for name in self._sources)]
        days = {each.day for table in tables for each in live_files(table, "timestamp")}
        changed = [days_between(register.starts(*key), found, days) for key, found in starts.items()]
        for (exchange, symbol), found in starts.items():
            listed = [clock.from_us(start).isoformat() for start in found]
            log.warning("ids begin again", exchange=exchange, symbol=symbol, epochs=listed)
        return write_epochs(self._catalog, self._namespace, register, starts, sorted(set().union(*changed)))

    def _epochs(self) -> Table | None:
        return epochs_table(self._catalog, self._namespace) if self._kind.has_epochs else None

    def _in_place_of(
        self, gold: Table, beaten: pl.DataFrame, others: BooleanExpression | None, rows: pa.Table, taken_in: TakenIn
    ) -> Change:
        """Return the change that replaces the rows that ``others`` names, and those that are beaten, by ``rows``."""
        days = [self._day] if taken_in.whole and (rows.num_rows or others is not None) else []
        if not beaten.is_empty():
            ids: BooleanExpression = _in("message_id", beaten["message_id"].to_list())
            others = ids if others is None else Or(others, ids)
            days += beaten["timestamp"].dt.date().unique().to_list()
        followers = [self._load(name) for name in derived_from(self._kind.spec.name)] if days else []
        read, register = self._read, _snapshot_id(taken_in.epochs)
        then = copy(gold)  # a commit that fails brings the table that it was given up to date

        def remember(table: Table) -> dict[str, str]:
            return taken_in.remembered(table, self._kind) | (marked(table, days, followers) if days else {})

        def remember_in(newer: Table) -> dict[str, str] | None:
            # The same rows are right in a newer state of gold when all that they were computed from is unchanged.
            unchanged = taken_in.rests_on(newer, read) == taken_in.rests_on(then, read)
            return remember(newer) if unchanged and _snapshot_id(self._epochs()) == register else None

        return Change(rows, others, remember(gold), remember_in)

    def _existing(self, gold: Table, suspects: pl.DataFrame, days: list[date]) -> pl.DataFrame:
        """Read gold's rows of some days that may be copies of ``suspects``."""
        columns = deduplicate.compared(self._kind)
        if suspects.is_empty() or not days:
            return read_files(gold, [], columns)
        first_us, end_us = day_bounds_us(min(days))[0], day_bounds_us(max(days))[1]
        self._read = hull(self._read, (first_us, end_us))
        # A copy has the same id; without an id of the venue's the same time, unless that is the time of receipt. So the
        # range of each instrument's ids is read, or of its times; of rows stamped at receipt, everything.
        with_ids, others = suspects.filter(has_id := pl.col("source_sequence").is_not_null()), suspects.filter(~has_id)
        filters: list[BooleanExpression] = [instrument_ids(*row) for row in _ranges(with_ids)]
        filters += [instrument_times(*row) for row in _ranges(others.filter(~deduplicate.STAMPED))]
        for exchange, symbol in others.filter(deduplicate.STAMPED).select(KEY).unique().iter_rows():
            filters.append(instrument_times(exchange, symbol, first_us, end_us - 1))
        files = [each for day in days for each in live_files(gold, "timestamp", day=day)]
        return read_files(gold, files, columns, reduce(Or, filters))

    def _to_arrow(self, rows: pl.DataFrame) -> pa.Table:
        return deduplicate.in_gold_order(self._kind, rows).to_arrow().cast(self._schema)


def _ranges(rows: pl.DataFrame) -> Iterable[tuple[str, str, int, int]]:
    # Exchange, symbol, the lowest rank and the highest.
    low, high = deduplicate.RANK.min().alias("low"), deduplicate.RANK.max().alias("high")
    return rows.group_by(KEY).agg(low, high).iter_rows()


def _snapshot_id(table: Table | None) -> int | None:
    return None if table is None else table.metadata.current_snapshot_id
