"""Silver to gold: of several copies of a trade or quote one stays. Pure: Polars frames in and out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from k2_core.table_spec import TableSpec
from k2_core.tables import GOLD_OHLCV_1M, GOLD_QUOTES, GOLD_TRADES
from k2_core.venues.routing import Data

ORIGIN: Final = ("received_ns", "topic_id", "kafka_partition", "kafka_offset", "frame_index")
KEY: Final = ("exchange", "symbol")
# What rises with every new row of an instrument: the venue's id, or the time where there is none.
RANK: Final = pl.coalesce("source_sequence", pl.col("timestamp").to_physical())
STAMPED: Final = pl.col("timestamp") == pl.col("ingestion_timestamp")
"""Rows that may be stamped with the time of receipt: a copy of one may stand in a neighbouring day."""


@dataclass(frozen=True)
class Kind:
    """What differs between trades and quotes.

    Args:
        spec: gold's table.
        content: the columns in which two copies must agree.
        stamped: whether a venue's rows may be stamped with the time of receipt.
        followers: the tables that are made of gold's, and take in the marks of days that were replaced.
    """

    spec: TableSpec
    content: tuple[str, ...]
    stamped: bool
    followers: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Gold's columns."""
        return tuple(column.name for column in self.spec.columns)


KINDS: Final[dict[Data, Kind]] = {
    "trades": Kind(GOLD_TRADES, ("timestamp", "price", "quantity", "side"), False, (GOLD_OHLCV_1M.name,)),
    "quotes": Kind(GOLD_QUOTES, ("bid_price", "bid_quantity", "ask_price", "ask_quantity"), True, ()),
}


@dataclass(frozen=True)
class NewRows:
    """Rows that gold does not have yet, and how many copies differed from the one that stays."""

    rows: pl.DataFrame
    repeated: int
    conflicting: int


def first_copies(kind: Kind, silver: pl.DataFrame) -> NewRows:
    """Keep of each ``message_id`` the copy with the smallest origin; count the others and those that differ.

    Args:
        kind: of the rows.
        silver: rows with at least gold's columns and :data:`ORIGIN`.
    """
    ordered = silver.sort(ORIGIN)
    rows = ordered.unique("message_id", keep="first", maintain_order=True)
    distinct = silver.select("message_id", *kind.content).unique()
    return NewRows(rows, silver.height - rows.height, distinct.height - rows.height)


def without_standing(kind: Kind, new: NewRows, standing: pl.DataFrame) -> NewRows:
    """Drop rows that gold has already; count those whose content differs from what stands.

    Args:
        kind: of the rows.
        new: from :func:`first_copies`.
        standing: rows of gold with ``message_id`` and the content of their kind.
    """
    if standing.is_empty():
        return new
    compared = ("message_id", *kind.content)
    both = new.rows.select(compared).join(standing.select(compared), on="message_id")
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_right")) for name in kind.content)
    conflicting = both.filter(~same).height
    rows = new.rows.join(standing.select("message_id"), on="message_id", how="anti")
    return NewRows(rows, new.repeated + both.height, new.conflicting + conflicting)


def in_gold_order(kind: Kind, rows: pl.DataFrame) -> pl.DataFrame:
    """Return gold's columns, sorted as readers ask for them."""
    return rows.select(kind.columns).sort(kind.spec.sort_by)


def largest_ids(rows: pl.DataFrame) -> dict[str, int]:
    """Return the largest :data:`RANK` of each ``exchange|symbol``."""
    largest = rows.group_by(KEY).agg(RANK.max().alias("rank"))
    return {f"{exchange}|{symbol}": rank for exchange, symbol, rank in largest.iter_rows()}


def may_stand(rows: pl.DataFrame, largest: Mapping[str, int]) -> pl.DataFrame:
    """Return the rows that gold could have already: they do not rank above all that it has of their instrument.

    A row that is stamped at receipt and has no id of the venue's could be any.
    """
    if not largest:
        return rows.clear()
    known = pl.DataFrame(
        {
            "exchange": [key.split("|")[0] for key in largest],
            "symbol": [key.split("|")[1] for key in largest],
            "largest": list(largest.values()),
        },
        schema={"exchange": pl.String, "symbol": pl.String, "largest": pl.Int64},
    )
    beside = rows.join(known, on=KEY, how="inner")
    anything = pl.col("source_sequence").is_null() & STAMPED
    return beside.filter((pl.col("largest") >= RANK) | anything).drop("largest")
