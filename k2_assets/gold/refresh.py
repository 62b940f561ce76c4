"""Bring gold's trades or quotes up to what silver holds of one day: read what is new, drop what stands, append."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import reduce
from typing import Final

import polars as pl
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import BooleanExpression, Or
from pyiceberg.table import Table

from k2_assets.gold import copies
from k2_assets.lake_files import LakeFile, Seen, live_files, oldest_batch, read_files
from k2_assets.lake_filters import day_bounds_us, instrument_ids, instrument_times, time_between
from k2_assets.lake_writer.commits import Change, arrow_schema, commit_derived
from k2_assets.rebuilt import Taken, marked
from k2_core.venues.routing import Data

LARGEST_IDS: Final = "k2.largest_ids"
_BATCH_ROWS: Final = 1_000_000


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
        self._kind = copies.KINDS[data]
        self._schema = arrow_schema(self._kind.spec)
        self._outcome = Outcome()
        # What this run has taken in: the table forgets days that are older than its memory is long.
        self._taken = Seen({})
        self._taking = Seen({})

    def append_new(self) -> Outcome:
        """Append the day's rows that gold does not have yet; reading anything again changes nothing.

        A day that silver made anew since is replaced whole.

        Raises:
            CommitConflict: other writers were first again and again.
        """
        total = Outcome()
        while True:
            self._outcome = Outcome()
            _, change = commit_derived(self._load_gold, self._new_rows)
            if change is None:
                return total
            self._taken = self._taking
            total += self._outcome

    def replace_day(self) -> Outcome:
        """Make the day's rows anew from all of silver; nothing is committed when they stand so already.

        Raises:
            CommitConflict: other writers were first again and again.
        """
        commit_derived(self._load_gold, self._whole_day)
        return self._outcome

    def _load_gold(self) -> Table:
        return self._load(self._kind.spec.name)

    def _load(self, name: str) -> Table:
        return self._catalog.load_table((self._namespace, name))

    def _new_rows(self, gold: Table) -> Change | None:
        seen, taken = Seen.of(gold), Taken.of(gold)
        sources = [self._load(name) for name in self._sources]
        if any(self._day in taken.behind(silver) for silver in sources):
            return self._whole_day(gold)
        for silver in sources:
            of_day = live_files(silver, "timestamp", day=self._day)
            batch = oldest_batch(self._taken.newer(silver, seen.newer(silver, of_day)), _BATCH_ROWS)
            if batch:
                self._taking = self._taken.with_files(silver, batch)
                return self._change(gold, silver, batch, seen)
        return None

    def _change(self, gold: Table, silver: Table, batch: list[LakeFile], seen: Seen) -> Change:
        read = read_files(silver, batch, self._kind.columns + copies.ORIGIN)
        largest = _largest_ids(gold)
        new = copies.first_copies(self._kind, read)
        suspects = copies.may_stand(new.rows, largest)
        if not suspects.is_empty():
            new = copies.without_standing(self._kind, new, self._standing(gold, suspects, self._days(suspects)))
        self._outcome = Outcome(new.rows.height, read.height, new.repeated, new.conflicting)
        return Change(self._to_arrow(new.rows), None, _remember(seen.with_files(silver, batch), largest, new.rows))

    def _whole_day(self, gold: Table) -> Change | None:
        seen, taken, self._taking, frames = Seen.of(gold), Taken.of(gold), self._taken, []
        for silver in (self._load(name) for name in self._sources):
            of_day = live_files(silver, "timestamp", day=self._day)
            seen, taken = seen.with_files(silver, of_day), taken.with_day(silver, self._day)
            self._taking = self._taking.with_files(silver, of_day)
            frames.append(read_files(silver, of_day, self._kind.columns + copies.ORIGIN))
        read = pl.concat(frames)
        new = self._elsewhere_too(gold, copies.first_copies(self._kind, read))
        standing = self._to_arrow(read_files(gold, self._gold_files(gold, [self._day]), self._kind.columns))
        rows = self._to_arrow(new.rows)
        remember = _remember(seen, _largest_ids(gold), new.rows) | taken.to_properties()
        same = rows.equals(standing)
        self._outcome = Outcome(0 if same else rows.num_rows, read.height, new.repeated, new.conflicting)
        if same and all(gold.properties.get(name, "{}") == value for name, value in remember.items()):
            return None
        if same:
            return Change(rows.slice(0, 0), None, remember)
        replace = time_between("timestamp", *day_bounds_us(self._day)) if standing.num_rows else None
        followers = [self._load(name) for name in self._kind.followers]
        return Change(rows, replace, remember | marked(gold, [self._day], followers))

    def _elsewhere_too(self, gold: Table, new: copies.NewRows) -> copies.NewRows:
        """Drop what stands in the neighbouring days: a copy that was received beyond midnight."""
        stamped = new.rows.filter(copies.STAMPED) if self._kind.stamped else new.rows.clear()
        if stamped.is_empty():
            return new
        return copies.without_standing(self._kind, new, self._standing(gold, stamped, self._neighbours()))

    def _days(self, suspects: pl.DataFrame) -> list[date]:
        """Return the days in which copies of ``suspects`` may stand."""
        beyond = self._kind.stamped and not suspects.filter(copies.STAMPED).is_empty()
        return [self._day, *(self._neighbours() if beyond else [])]

    def _neighbours(self) -> list[date]:
        return [self._day - timedelta(days=1), self._day + timedelta(days=1)]

    def _gold_files(self, gold: Table, days: Iterable[date]) -> list[LakeFile]:
        return [each for day in days for each in live_files(gold, "timestamp", day=day)]

    def _standing(self, gold: Table, suspects: pl.DataFrame, days: list[date]) -> pl.DataFrame:
        """Read gold's rows of some days whose ids, or times, lie among those of ``suspects``."""
        with_ids, others = suspects.filter(has_id := pl.col("source_sequence").is_not_null()), suspects.filter(~has_id)
        filters: list[BooleanExpression] = [instrument_ids(*row) for row in _ranges(with_ids)]
        first_us, end_us = day_bounds_us(min(days))[0], day_bounds_us(max(days))[1] - 1
        for exchange, symbol, lowest, highest in _ranges(others.filter(~copies.STAMPED)):
            filters.append(instrument_times(exchange, symbol, lowest, highest))
        for exchange, symbol in others.filter(copies.STAMPED).select(copies.KEY).unique().iter_rows():
            filters.append(instrument_times(exchange, symbol, first_us, end_us))
        columns = ("message_id", *self._kind.content)
        return read_files(gold, self._gold_files(gold, days), columns, reduce(Or, filters))

    def _to_arrow(self, rows: pl.DataFrame) -> pa.Table:
        return copies.in_gold_order(self._kind, rows).to_arrow().cast(self._schema)


def _ranges(rows: pl.DataFrame) -> Iterable[tuple[str, str, int, int]]:
    """Return exchange, symbol, the lowest rank and the highest."""
    return rows.group_by(copies.KEY).agg(copies.RANK.min().alias("low"), copies.RANK.max().alias("high")).iter_rows()


def _largest_ids(gold: Table) -> dict[str, int]:
    stored: dict[str, int] = json.loads(gold.properties.get(LARGEST_IDS, "{}"))
    return stored


def _remember(seen: Seen, largest: Mapping[str, int], rows: pl.DataFrame) -> dict[str, str]:
    merged = dict(largest)
    for key, sequence in copies.largest_ids(rows).items():
        merged[key] = max(merged.get(key, sequence), sequence)
    return {**seen.to_properties(), LARGEST_IDS: json.dumps(merged, separators=(",", ":"), sort_keys=True)}
