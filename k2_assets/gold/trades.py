"""Silver to gold trades. Pure: Polars frames in and out."""

from dataclasses import dataclass
from typing import Final

import polars as pl

from k2_core.tables import TRADE_COLUMNS

COLUMNS: Final = tuple(column.name for column in TRADE_COLUMNS)
ORIGIN: Final = ("received_ns", "topic_id", "kafka_partition", "kafka_offset", "frame_index")
KEY: Final = ("exchange", "symbol")
CONTENT: Final = ("timestamp", "price", "quantity", "side")
_ORDER: Final = ("symbol", "exchange", "timestamp", "source_sequence", "trade_id")


@dataclass(frozen=True)
class NewTrades:
    """Trades that gold does not have yet, and how many copies differed from the one that stays."""

    rows: pl.DataFrame
    repeated: int
    conflicting: int


def first_copies(silver: pl.DataFrame) -> NewTrades:
    """Keep of each ``message_id`` the copy with the smallest origin; count the others and those that differ.

    Args:
        silver: rows with at least :data:`COLUMNS` and :data:`ORIGIN`.
    """
    ordered = silver.sort(ORIGIN)
    rows = ordered.unique("message_id", keep="first", maintain_order=True)
    distinct = silver.select("message_id", *CONTENT).unique()
    return NewTrades(rows, silver.height - rows.height, distinct.height - rows.height)


def without_standing(new: NewTrades, standing: pl.DataFrame) -> NewTrades:
    """Drop trades that gold has already; count those whose content differs from what stands.

    Args:
        new: from :func:`first_copies`.
        standing: rows of gold with ``message_id`` and :data:`CONTENT`.
    """
    if standing.is_empty():
        return new
    both = new.rows.select("message_id", *CONTENT).join(standing.select("message_id", *CONTENT), on="message_id")
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_right")) for name in CONTENT)
    conflicting = both.filter(~same).height
    rows = new.rows.join(standing.select("message_id"), on="message_id", how="anti")
    return NewTrades(rows, new.repeated + both.height, new.conflicting + conflicting)


def in_gold_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Return gold's columns, sorted as readers ask for them."""
    return rows.select(COLUMNS).sort(_ORDER)


def largest_ids(rows: pl.DataFrame) -> dict[str, int]:
    """Return the largest ``source_sequence`` of each ``exchange|symbol``."""
    largest = rows.group_by(KEY).agg(pl.col("source_sequence").max())
    return {f"{exchange}|{symbol}": sequence for exchange, symbol, sequence in largest.iter_rows()}


def may_stand(rows: pl.DataFrame, largest: dict[str, int]) -> pl.DataFrame:
    """Return the trades whose id is not above every id that gold has of their instrument."""
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
    return rows.join(known, on=KEY, how="inner").filter(pl.col("source_sequence") <= pl.col("largest")).drop("largest")
