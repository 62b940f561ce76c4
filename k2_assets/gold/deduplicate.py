"""Silver to gold: of several copies of a trade or quote one stays. Pure: Polars frames in and out."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl

from k2_assets.gold.instrument_rows import KEY, by_instrument, in_order
from k2_core import trades
from k2_core.epochs import BREAK_US, Epochs
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import GOLD_QUOTES, GOLD_TRADES
from k2_core.venues.routing import Data

ORIGIN: Final = ("received_ns", "topic_id", "kafka_partition", "kafka_offset", "frame_index")
# What rises with every new row of an instrument: the venue's id, or the time where there is none.
RANK: Final = pl.coalesce("source_sequence", pl.col("timestamp").to_physical())
time_us: Final = pl.col("timestamp").to_physical()
_BEATEN: Final = ("message_id", pl.col("timestamp_right").alias("timestamp"))
STAMPED: Final = pl.col("timestamp") == pl.col("ingestion_timestamp")
"""Rows that may be stamped with the time of receipt: a copy of one may be in a neighbouring day."""


@dataclass(frozen=True)
class Kind:
    """What differs between trades and quotes.

    Args:
        spec: gold's table.
        content: the columns in which two copies must agree.
        stamped: whether a venue's rows may be stamped with the time of receipt.
        has_epochs: whether ids that begin again make other rows.
    """

    spec: TableSpec
    content: tuple[str, ...]
    stamped: bool
    has_epochs: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """Gold's columns."""
        return tuple(column.name for column in self.spec.columns)


KINDS: Final[dict[Data, Kind]] = {
    "trades": Kind(GOLD_TRADES, ("timestamp", "price", "quantity", "side"), False, True),
    "quotes": Kind(GOLD_QUOTES, ("bid_price", "bid_quantity", "ask_price", "ask_quantity"), True, False),
}


@dataclass(frozen=True)
class NewRows:
    """Rows that gold does not have yet, how many copies were dropped, and how many of them differed.

    ``beaten`` names the rows of gold that they replace, by ``message_id`` and ``timestamp``.
    """

    rows: pl.DataFrame
    repeated: int
    conflicting: int
    beaten: pl.DataFrame = field(default_factory=pl.DataFrame)


def first_copies(kind: Kind, silver: pl.DataFrame) -> NewRows:
    """Keep of each ``message_id`` the copy with the smallest origin; count the others and those that differ.

    Args:
        kind: of the rows.
        silver: rows with at least gold's columns and :data:`ORIGIN`.
    """
    # Few rows are copies: only those whose ids have the same hash are compared.
    again = silver["message_id"].hash().is_duplicated()
    if not again.any():
        return NewRows(silver, 0, 0)
    copies = silver.filter(again)
    ordered = copies.sort(ORIGIN)
    distinct = copies.select("message_id", *kind.content).unique()
    if kind.has_epochs and distinct.height > distinct["message_id"].n_unique():
        # A trade of the same id more than a minute later is another trade, and not the first copy of this one.
        ordered = ordered.filter(time_us <= time_us.min().over("message_id") + BREAK_US)
    first = ordered.unique("message_id", keep="first", maintain_order=True)
    rows = pl.concat([silver.filter(~again), first])
    return NewRows(rows, copies.height - first.height, distinct.height - first.height)


def without_existing(kind: Kind, new: NewRows, existing: pl.DataFrame) -> NewRows:
    """Drop rows that gold has already; count those whose content differs from gold's.

    Args:
        kind: of the rows.
        new: from :func:`first_copies`.
        existing: rows of gold with ``message_id``, ``timestamp`` and the content of their kind.
    """
    if existing.is_empty():
        return new
    both = new.rows.join(existing.select(compared(kind)), on="message_id")
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_right")) for name in kind.content)
    # Whichever was read first, the earlier of two trades of one id stays. So gold's row goes when it is more than a
    # minute later, or of a later day: then it is no copy.
    ours, golds = pl.col("timestamp"), pl.col("timestamp_right")
    later = (golds.to_physical() > ours.to_physical() + BREAK_US) | (golds.dt.date() > ours.dt.date())
    beaten = both.filter(later) if kind.has_epochs else both.clear()
    stays = existing.join(beaten, on="message_id", how="anti").select("message_id")
    rows = new.rows.join(stays, on="message_id", how="anti")
    conflicting = new.conflicting + both.filter(~same).height
    return NewRows(rows, new.repeated + both.height - beaten.height, conflicting, beaten.select(_BEATEN))


def compared(kind: Kind) -> tuple[str, ...]:
    """Return the columns by which new rows are compared with existing ones."""
    return tuple(dict.fromkeys(("message_id", "timestamp", *kind.content)))


def in_gold_order(kind: Kind, rows: pl.DataFrame) -> pl.DataFrame:
    """Return gold's columns, sorted as readers ask for them: by symbol, exchange, and then by time or number."""
    parts, within = by_instrument(rows.select(kind.columns)), kind.spec.sort_by[2:]
    ordered = [in_order(parts[key], within) for key in sorted(parts, key=lambda key: key[::-1])]
    return pl.concat(ordered) if ordered else rows.select(kind.columns)


def identified(kind: Kind, rows: pl.DataFrame, epochs: Epochs) -> pl.DataFrame:
    """Return silver's rows with the ids that ``epochs`` give them; silver may have been written before one was found.

    Args:
        kind: of the rows.
        rows: with at least the columns of gold.
        epochs: as the register has them now.
    """
    if not (kind.has_epochs and epochs):
        return rows
    keys = pl.DataFrame(list(epochs), {"exchange": pl.String, "symbol": pl.String}, orient="row")
    touched = rows.with_row_index("row").join(keys, on=KEY, how="semi")
    if touched.is_empty():
        return rows
    ids = rows["message_id"].to_list()
    for (exchange,), part in touched.group_by("exchange"):
        names = epochs.names(str(exchange), part["symbol"].to_list(), part["timestamp"].to_physical().to_numpy())
        made = np.char.decode(trades.message_ids(str(exchange), names, part["trade_id"].to_list()), "ascii")
        for row, message_id in zip(part["row"].to_list(), made.tolist(), strict=True):
            ids[row] = message_id
    return rows.with_columns(pl.Series("message_id", ids, dtype=pl.String))
