"""What gold remembers of every instrument between its runs, in its table's properties. Pure.

The memory saves reading: most new trades have ids above all that gold has, and need not be looked for in its files.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl
from pyiceberg.table import Table

from k2_assets.gold.deduplicate import RANK, STAMPED, Kind
from k2_assets.gold.instrument_rows import KEY
from k2_core.epochs import Epochs, Key

LARGEST_IDS: Final = "k2.largest_ids"
_NEWEST: Final = "k2.newest_us"
_ODD: Final = "k2.odd_days"


@dataclass(frozen=True)
class Memory:
    """By ``exchange|symbol``.

    Args:
        largest: the largest :data:`RANK` of the newest epoch: gold has nothing above it.
        newest: the newest event time in µs, of trades; a trade up to a minute earlier may still be one that follows.
        odd: the days of trades that break without opening an epoch; gold may lack them, silver holds them.
    """

    largest: Mapping[str, int] = field(default_factory=dict)
    newest: Mapping[str, int] = field(default_factory=dict)
    odd: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, gold: Table) -> "Memory":
        """Read what ``gold`` remembers."""
        largest, newest, odd = (json.loads(gold.properties.get(name, "{}")) for name in (LARGEST_IDS, _NEWEST, _ODD))
        return cls(largest, newest, {key: tuple(days) for key, days in odd.items()})

    @classmethod
    def of_rows(cls, kind: Kind, rows: pl.DataFrame, epochs: Epochs) -> "Memory":
        """Return what is remembered of ``rows`` alone."""
        newest = _largest(rows, pl.col("timestamp").to_physical()) if kind.has_epochs else {}
        if epochs:  # of the newest epoch of each instrument alone
            starts = rows.join(newest_starts(epochs), on=KEY, how="left", maintain_order="left")["newest_start"]
            rows = rows.filter(starts.is_null() | (rows["timestamp"].to_physical() >= starts))
        return cls(_largest(rows, RANK), newest)

    def with_more(self, rows: "Memory") -> "Memory":
        """Return this memory with that of some rows, from :meth:`of_rows`, added."""
        largest, newest = (
            {**known, **{key: max(value, known.get(key, value)) for key, value in found.items()}}
            for known, found in ((self.largest, rows.largest), (self.newest, rows.newest))
        )
        return Memory(largest, newest, self.odd)

    def with_found(self, largest: Mapping[Key, int], odd: Mapping[Key, tuple[str, ...]]) -> "Memory":
        """Return this memory with what a search for epochs found of some instruments, in place of what it had."""
        found = {name(*key): days for key, days in odd.items()}
        kept = {key: days for key, days in {**self.odd, **found}.items() if days}
        return Memory({**self.largest, **{name(*key): rank for key, rank in largest.items()}}, self.newest, kept)

    def to_properties(self, kind: Kind) -> dict[str, str]:
        """Return the properties that carry this memory."""
        stored: dict[str, Any] = {LARGEST_IDS: self.largest}
        if kind.has_epochs:
            stored |= {_NEWEST: self.newest, _ODD: self.odd}
        return {key: json.dumps(value, separators=(",", ":"), sort_keys=True) for key, value in stored.items()}


def name(exchange: str, symbol: str) -> str:
    """Return the name of an instrument in a memory."""
    return f"{exchange}|{symbol}"


def newest_starts(epochs: Epochs) -> pl.DataFrame:
    """Return the start of the newest epoch of every instrument that has one: exchange, symbol, ``newest_start``."""
    rows = [(exchange, symbol, epochs.starts(exchange, symbol)[-1]) for exchange, symbol in epochs]
    return pl.DataFrame(rows, {"exchange": pl.String, "symbol": pl.String, "newest_start": pl.Int64}, orient="row")


def may_exist(rows: pl.DataFrame, memory: Memory, epochs: Epochs) -> pl.DataFrame:
    """Return the rows that gold may have already, and in which copies have to be looked for."""
    if not memory.largest:
        return rows.clear()
    known = pl.DataFrame(
        [(*key.split("|"), rank) for key, rank in memory.largest.items()],
        {"exchange": pl.String, "symbol": pl.String, "largest": pl.Int64},
        orient="row",
    )
    # Gold has nothing above the largest rank of an instrument's newest epoch, so a row above it is new. That rank says
    # nothing of older epochs, nor of a row without an id of the venue's whose time is only the time of receipt.
    anything = pl.col("source_sequence").is_null() & STAMPED
    judged = rows.select(*KEY, "timestamp", RANK.alias("rank"), anything.alias("anything"))
    judged = judged.join(known, on=KEY, how="left", maintain_order="left")
    older = pl.lit(value=False)
    if epochs:
        judged = judged.join(newest_starts(epochs), on=KEY, how="left", maintain_order="left")
        older = (pl.col("timestamp").to_physical() < pl.col("newest_start")).fill_null(value=False)
    may = pl.col("largest").is_not_null() & ((pl.col("largest") >= pl.col("rank")) | pl.col("anything") | older)
    return rows.filter(judged.select(may.fill_null(value=False)).to_series())


def _largest(rows: pl.DataFrame, of: pl.Expr) -> dict[str, int]:
    largest = rows.group_by(KEY).agg(of.max().alias("largest"))
    return {name(exchange, symbol): value for exchange, symbol, value in largest.iter_rows()}
