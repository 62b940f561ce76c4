"""Which rows differ from the existing ones. Pure. A row's place is (topic id, partition, offset, frame index)."""

from dataclasses import dataclass
from typing import Final

import polars as pl
import pyarrow as pa

from k2_assets.lake.source_files import as_frame

FRAME: Final = ("topic_id", "kafka_partition", "kafka_offset")
PLACE: Final = (*FRAME, "frame_index")
_BALANCE: Final = "balance"


@dataclass(frozen=True)
class Differences:
    """What has to be done so that a table holds the new rows.

    ``missing`` are new rows at places without a row, ``changed`` those at places of other rows. ``stale`` are the
    existing rows that have to go: changed ones, doubled ones, and those whose place has no row any more.
    """

    missing: pa.Table
    changed: pa.Table
    stale: pl.DataFrame


def differences(existing: pl.DataFrame, new: pa.Table) -> Differences:
    """Compare rows as multisets, by every column.

    Args:
        existing: the stored rows of some frames.
        new: the rows of the same frames that should be stored, with the same columns.
    """
    # Each existing row counts -1 and each new one +1. Equal rows cancel out; a place is to be replaced where some sum
    # of its rows is not zero, and then as a whole.
    wanted = as_frame(new)
    sides = pl.concat(
        [existing.with_columns(pl.lit(-1).alias(_BALANCE)), wanted.with_columns(pl.lit(1).alias(_BALANCE))]
    )
    balance = sides.group_by(existing.columns).agg(pl.col(_BALANCE).sum())
    differing = balance.filter(pl.col(_BALANCE) != 0).select(PLACE).unique()
    stale = existing.join(differing, on=PLACE, how="semi")
    of_new = wanted.select(PLACE).with_row_index("row").join(differing, on=PLACE, how="semi")
    replacing = of_new.join(stale.select(PLACE).unique(), on=PLACE, how="semi")
    missing = of_new.join(replacing, on="row", how="anti")
    return Differences(_take(new, missing), _take(new, replacing), stale)


def without(rows: pa.Table, places: pl.DataFrame) -> pa.Table:
    """Return ``rows`` but those at ``places``."""
    kept = as_frame(rows.select(list(PLACE))).with_row_index("row").join(places.select(PLACE), on=PLACE, how="anti")
    return rows if kept.height == rows.num_rows else _take(rows, kept)


def _take(rows: pa.Table, chosen: pl.DataFrame) -> pa.Table:
    return rows.take(chosen["row"].sort().to_arrow())
