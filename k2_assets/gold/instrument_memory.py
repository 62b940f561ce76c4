"""What gold remembers of every instrument between its runs, in its table's properties. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl
from pyiceberg.table import Table

from k2_assets.gold.deduplicate import KEY, RANK, STAMPED, Kind
from k2_core.epochs import Epochs, Key

LARGEST_IDS: Final = "k2.largest_ids"
_NEWEST: Final = "k2.newest_us"
_ODD: Final = "k2.odd_days"


@dataclass(frozen=True)
class Memory:
    """By ``exchange|symbol``.

    Args:
        largest: the largest :data:`RANK` of the newest epoch; gold has nothing that ranks above.
        newest: the newest event time in µs, of trades; what lies a minute before may change what comes after.
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
        return cls(_largest(of_newest_epochs(rows, epochs), RANK), newest)

    def with_more(self, rows: "Memory") -> "Memory":
        """Return this memory with what is remembered of ``rows``, of :meth:`of_rows`, taken in."""
        return Memory(_merged(self.largest, rows.largest), _merged(self.newest, rows.newest), self.odd)

    def with_found(self, largest: Mapping[Key, int], odd: Mapping[Key, tuple[str, ...]]) -> "Memory":
        """Return this memory with what a search for epochs found in the place of what it had of these instruments."""
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


def of_newest_epochs(rows: pl.DataFrame, epochs: Epochs) -> pl.DataFrame:
    """Return the rows of the newest epoch of their instrument."""
    if not epochs:
        return rows
    starts = rows.join(newest_starts(epochs), on=KEY, how="left", maintain_order="left")["newest_start"]
    return rows.filter(starts.is_null() | (rows["timestamp"].to_physical() >= starts))


def may_stand(rows: pl.DataFrame, memory: Memory, epochs: Epochs) -> pl.DataFrame:
    """Return the rows that gold could have already: all but those above what it has of their newest epoch.

    A row that is stamped at receipt and has no id of the venue's could be any.
    """
    if not memory.largest:
        return rows.clear()
    known = pl.DataFrame(
        [(*key.split("|"), rank) for key, rank in memory.largest.items()],
        {"exchange": pl.String, "symbol": pl.String, "largest": pl.Int64},
        orient="row",
    )
    beside = rows.join(known, on=KEY, how="inner").join(newest_starts(epochs), on=KEY, how="left")
    anything = pl.col("source_sequence").is_null() & STAMPED
    older = (pl.col("timestamp").to_physical() < pl.col("newest_start")).fill_null(value=False)
    return beside.filter((pl.col("largest") >= RANK) | anything | older).drop("largest", "newest_start")


def _largest(rows: pl.DataFrame, of: pl.Expr) -> dict[str, int]:
    largest = rows.group_by(KEY).agg(of.max().alias("largest"))
    return {name(exchange, symbol): value for exchange, symbol, value in largest.iter_rows()}


def _merged(known: Mapping[str, int], found: Mapping[str, int]) -> dict[str, int]:
    return {**known, **{key: max(value, known.get(key, value)) for key, value in found.items()}}
