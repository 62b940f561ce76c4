"""Find the bronze frames of an event day, whenever they were ingested, and read them in pieces."""

from collections.abc import Iterator
from datetime import date
from typing import Any, Final

import polars as pl
import pyarrow as pa
from pyiceberg.expressions import And, BooleanExpression, IsNull, Or
from pyiceberg.table import Table

from k2_assets.decode.bronze_rows import REFINED_FROM
from k2_assets.lake.row_filters import at_least, below, day_bounds_us, time_between
from k2_assets.lake.source_files import as_frame, live_files
from k2_assets.topic_tables.row_differences import FRAME
from k2_core import clock
from k2_core.lake.planned_read import in_pieces
from k2_core.offsets import Offsets
from k2_core.trades import FIRST_DAY_US, MAX_FUTURE_NS

# What a drain commits at once by default; a piece and its rows then fit where a drain fits.
PIECE_ROWS: Final = 250_000
_is_null: Final[Any] = IsNull


def frames_of_day(bronze: Table, day: date, vector: Offsets) -> Iterator[pa.Table]:
    """Yield the bronze rows that may have something to do with ``day``, in pieces, in order of ingestion.

    These are the frames with an event time of the day, and those without any, for which another parser may find one.
    None of the latter was ingested more than five minutes before the day, since a trade's time is at most so much
    later than its receipt. Frames that were received on the day, but have a time after it or before all days, are
    read too: nobody can rebuild the day of an impossible time. Control frames are among them; they become no rows.

    Args:
        bronze: the table as loaded, not before silver.
        day: UTC.
        vector: silver's; frames at or above it are left to the drain.
    """
    start_us, end_us = day_bounds_us(day)
    dated = And(below("min_event_ts", end_us), at_least("max_event_ts", start_us))
    since = at_least("ingestion_timestamp", start_us - MAX_FUTURE_NS // clock.NS_PER_US)
    received = time_between("ingestion_timestamp", start_us, end_us)
    misdated = Or(at_least("max_event_ts", end_us), below("min_event_ts", FIRST_DAY_US))
    yield from _read(bronze, Or(dated, And(_is_null("min_event_ts"), since), And(received, misdated)), vector)


def frames_at(bronze: Table, frames: pl.DataFrame, vector: Offsets) -> Iterator[pa.Table]:
    """Yield the bronze rows of named frames, in pieces.

    Args:
        bronze: the table as loaded.
        frames: with ``topic_id``, ``kafka_partition``, ``kafka_offset`` and ``ingestion_us``; at least one.
        vector: as above.
    """
    first, last = (int(each) for each in frames.select(low=pl.min("ingestion_us"), high=pl.max("ingestion_us")).row(0))
    for rows in _read(bronze, time_between("ingestion_timestamp", first, last + 1), vector):
        places = as_frame(rows.select(list(FRAME))).with_row_index("row").join(frames, on=FRAME, how="semi")
        if places.height:
            yield rows.take(places["row"].sort().to_arrow())


def origins(rows: pa.Table) -> pl.DataFrame:
    """Return where bronze rows came from: topic_id, kafka_partition, kafka_offset, and ingestion_us."""
    columns = as_frame(rows.select([*FRAME, "ingestion_timestamp"]))
    return columns.select(*FRAME, pl.col("ingestion_timestamp").to_physical().alias("ingestion_us"))


def _read(bronze: Table, where: BooleanExpression, vector: Offsets) -> Iterator[pa.Table]:
    tasks = bronze.scan(where, selected_fields=REFINED_FROM).plan_files()
    planned = {task.file.file_path for task in tasks}
    files = sorted(live_files(bronze, "ingestion_timestamp"), key=lambda each: each.first_us)
    chosen = [each for each in files if each.path in planned]
    # Only frames below silver's vector: those above it, and all of partitions that it does not know, are the drain's.
    ends = pl.DataFrame(
        [(topic_id, partition, end) for (topic_id, partition), end in vector.items()],
        schema={"topic_id": pl.String, "kafka_partition": pl.Int32, "end": pl.Int64},
        orient="row",
    )
    for rows in in_pieces(bronze, chosen, REFINED_FROM, where, PIECE_ROWS):
        places = as_frame(rows.select(list(FRAME))).with_row_index("row")
        drained = places.join(ends, on=("topic_id", "kafka_partition")).filter(pl.col("kafka_offset") < pl.col("end"))
        if drained.height:
            yield rows if drained.height == rows.num_rows else rows.take(drained["row"].sort().to_arrow())
