"""Bring gold_crypto_trades up to what silver holds of one day: read what is new, drop what stands, append the rest."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import Final

import polars as pl
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import BooleanExpression, Or
from pyiceberg.table import Table

from k2_assets.gold import trades
from k2_assets.lake_files import LakeFile, Seen, live_files, oldest_batch, read_files
from k2_assets.lake_filters import day_bounds_us, instrument_ids, time_between
from k2_assets.lake_writer.commits import Change, arrow_schema, commit_derived
from k2_assets.rebuilt import Taken, marked
from k2_core.tables import GOLD_OHLCV_1M, GOLD_TRADES

LARGEST_IDS: Final = "k2.largest_ids"
_BATCH_ROWS: Final = 1_000_000
_FOLLOWERS: Final = (GOLD_OHLCV_1M.name,)  # which take in the marks that a replaced day leaves


@dataclass(frozen=True)
class Outcome:
    """What a run did, for its operator."""

    rows_added: int = 0
    rows_read: int = 0
    repeated: int = 0
    conflicting: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


class TradesRefresh:
    """One day's run over all silver tables."""

    def __init__(self, catalog: Catalog, namespace: str, sources: tuple[str, ...], day: date) -> None:
        self._catalog = catalog
        self._namespace = namespace
        self._sources = sources
        self._day = day
        self._schema = arrow_schema(GOLD_TRADES)
        self._outcome = Outcome()
        # What this run has taken in: the table forgets days that are older than its memory is long.
        self._taken = Seen({})
        self._taking = Seen({})

    def append_new(self) -> Outcome:
        """Append the day's trades that gold does not have yet; reading anything again changes nothing.

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
        """Make the day's trades anew from all of silver; nothing is committed when they stand so already.

        Raises:
            CommitConflict: other writers were first again and again.
        """
        commit_derived(self._load_gold, self._whole_day)
        return self._outcome

    def _load_gold(self) -> Table:
        return self._load(GOLD_TRADES.name)

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
        read = read_files(silver, batch, trades.COLUMNS + trades.ORIGIN)
        largest = _largest_ids(gold)
        new = trades.first_copies(read)
        suspects = trades.may_stand(new.rows, largest)
        if not suspects.is_empty():
            new = trades.without_standing(new, self._standing(gold, suspects))
        self._outcome = Outcome(new.rows.height, read.height, new.repeated, new.conflicting)
        return Change(self._to_arrow(new.rows), None, _remember(seen.with_files(silver, batch), largest, new.rows))

    def _whole_day(self, gold: Table) -> Change | None:
        seen, taken, self._taking, frames = Seen.of(gold), Taken.of(gold), self._taken, []
        for silver in (self._load(name) for name in self._sources):
            of_day = live_files(silver, "timestamp", day=self._day)
            seen, taken = seen.with_files(silver, of_day), taken.with_day(silver, self._day)
            self._taking = self._taking.with_files(silver, of_day)
            frames.append(read_files(silver, of_day, trades.COLUMNS + trades.ORIGIN))
        read = pl.concat(frames)
        new = trades.first_copies(read)
        standing = self._to_arrow(read_files(gold, self._gold_files(gold), trades.COLUMNS))
        rows = self._to_arrow(new.rows)
        remember = _remember(seen, _largest_ids(gold), new.rows) | taken.to_properties()
        same = rows.equals(standing)
        self._outcome = Outcome(0 if same else rows.num_rows, read.height, new.repeated, new.conflicting)
        if same and all(gold.properties.get(name, "{}") == value for name, value in remember.items()):
            return None
        if same:
            return Change(rows.slice(0, 0), None, remember)
        replace = time_between("timestamp", *day_bounds_us(self._day)) if standing.num_rows else None
        followers = [self._load(name) for name in _FOLLOWERS]
        return Change(rows, replace, remember | marked(gold, [self._day], followers))

    def _gold_files(self, gold: Table) -> list[LakeFile]:
        return live_files(gold, "timestamp", day=self._day)

    def _standing(self, gold: Table, suspects: pl.DataFrame) -> pl.DataFrame:
        """Read gold's rows of the day whose ids lie among those of ``suspects``."""
        ranges = suspects.group_by(trades.KEY).agg(
            pl.col("source_sequence").min().alias("lowest"), pl.col("source_sequence").max().alias("highest")
        )
        filters: list[BooleanExpression] = [instrument_ids(*row) for row in ranges.iter_rows()]
        return read_files(gold, self._gold_files(gold), ("message_id", *trades.CONTENT), reduce(Or, filters))

    def _to_arrow(self, rows: pl.DataFrame) -> pa.Table:
        return trades.in_gold_order(rows).to_arrow().cast(self._schema)


def _largest_ids(gold: Table) -> dict[str, int]:
    stored: dict[str, int] = json.loads(gold.properties.get(LARGEST_IDS, "{}"))
    return stored


def _remember(seen: Seen, largest: Mapping[str, int], rows: pl.DataFrame) -> dict[str, str]:
    merged = dict(largest)
    for key, sequence in trades.largest_ids(rows).items():
        merged[key] = max(merged.get(key, sequence), sequence)
    return {**seen.to_properties(), LARGEST_IDS: json.dumps(merged, separators=(",", ":"), sort_keys=True)}
