"""Which rows differ from what stands at their place. Pure: a place is (topic id, partition, offset, frame index)."""

from dataclasses import dataclass
from typing import Final

import polars as pl
import pyarrow as pa

FRAME: Final = ("topic_id", "kafka_partition", "kafka_offset")
PLACE: Final = (*FRAME, "frame_index")
_BALANCE: Final = "balance"


@dataclass(frozen=True)
class Differences:
    """What has to be done so that ``new`` stands.

    ``missing`` are new rows at places where nothing stands, ``changed`` those where something else stands; ``stale``
    are the standing rows that have to go: changed ones, doubled ones, and those whose place has no row any more.
    """

    missing: pa.Table
    changed: pa.Table
    stale: pl.DataFrame


def differences(standing: pl.DataFrame, new: pa.Table) -> Differences:
    """Compare rows as multisets, by every column.

    Args:
        standing: the rows that stand of some frames.
        new: the rows that should stand of the same frames, with the same columns.
    """
    wanted = as_frame(new)
    sides = pl.concat(
        [standing.with_columns(pl.lit(-1).alias(_BALANCE)), wanted.with_columns(pl.lit(1).alias(_BALANCE))]
    )
    balance = sides.group_by(standing.columns).agg(pl.col(_BALANCE).sum())
    differing = balance.filter(pl.col(_BALANCE) != 0).select(PLACE).unique()
    stale = standing.join(differing, on=PLACE, how="semi")
    of_new = wanted.select(PLACE).with_row_index("row").join(differing, on=PLACE, how="semi")
    over_another = of_new.join(stale.select(PLACE).unique(), on=PLACE, how="semi")
    beside_none = of_new.join(over_another, on="row", how="anti")
    return Differences(_take(new, beside_none), _take(new, over_another), stale)


def without(rows: pa.Table, places: pl.DataFrame) -> pa.Table:
    """Return ``rows`` but those at ``places``."""
    kept = as_frame(rows.select(list(PLACE))).with_row_index("row").join(places.select(PLACE), on=PLACE, how="anti")
    return rows if kept.height == rows.num_rows else _take(rows, kept)


def as_frame(rows: pa.Table) -> pl.DataFrame:
    """Return an Arrow table as a Polars frame."""
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101  # a table, not a column
    return frame


def _take(rows: pa.Table, chosen: pl.DataFrame) -> pa.Table:
    return rows.take(chosen["row"].sort().to_arrow())
