"""Whether each message of bronze is in silver or in rejected, or carries nothing: counted in frames, in DuckDB."""

from datetime import date
from typing import Any, Final

import polars as pl
import pyarrow as pa
from duckdb import DuckDBPyConnection
from pyiceberg.table import Table

from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.row_filters import day_bounds_us, time_between
from k2_assets.lake.source_files import as_frame, live_files
from k2_assets.orchestration.verdict import SAMPLE_ROWS, Verdict, are, counted
from k2_assets.topic_tables.frames_of_day import frames_at
from k2_assets.topic_tables.row_differences import FRAME
from k2_core.errors import MalformedFrame
from k2_core.lake import tables
from k2_core.lake.planned_read import stream
from k2_core.offsets import Offsets
from k2_core.raw_frame import CONTROL
from k2_core.topics import raw_topic
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue

_BRONZE: Final = (*FRAME, "channel", "ingestion_timestamp")
_OF_FRAME: Final = ", ".join(FRAME)


class FrameBalance:
    """The frames of a topic in three tables.

    Args:
        database: in which they are compared; tables of it are made.
        topic: the name of the topic in Kafka.
        vector: offsets at or above it are left out, and all of partitions that it does not know.
        bronze: Arrow rows with ``topic_id``, ``kafka_partition``, ``kafka_offset``, ``channel`` and
            ``ingestion_timestamp``.
        silver: the first three.
        rejected: the same and ``kafka_topic``.
    """

    def __init__(
        self, database: DuckDBPyConnection, topic: str, vector: Offsets, *, bronze: Any, silver: Any, rejected: Any
    ) -> None:
        self._database = database
        ends = [(topic_id, partition, end) for (topic_id, partition), end in vector.items()]
        database.execute("create temp table ends (topic_id text, kafka_partition int, ending bigint)")
        if ends:
            database.executemany("insert into ends values (?, ?, ?)", ends)
        of_topic = "and kafka_topic = $topic"
        for name, rows, more, where in (
            ("bronze", bronze, ", channel, epoch_us(ingestion_timestamp) as ingestion_us", ""),
            ("silver", silver, "", ""),
            ("rejected", rejected, "", of_topic),
        ):
            database.register("arriving", rows)
            database.execute(
                f"create temp table {name} as select {_OF_FRAME}{more}, count(*) as copies from arriving "  # noqa: S608  # no text of others
                f"join ends using (topic_id, kafka_partition) where kafka_offset < ending {where} group by all",
                {"topic": topic} if where else None,
            )
            database.unregister("arriving")

    def unaccounted(self) -> pl.DataFrame:
        """Return the frames that neither silver nor rejected holds, and whose channel is not that of control frames."""
        return self._rows(
            f"select {_OF_FRAME}, channel, ingestion_us from bronze anti join silver using ({_OF_FRAME}) "  # noqa: S608
            f"anti join rejected using ({_OF_FRAME}) where channel is distinct from '{CONTROL}'"
        )

    def verdict(self, day: date, topic: str, lost: pl.DataFrame) -> Verdict:
        """Judge; ``lost`` are those of the :meth:`unaccounted` frames that carry something."""
        [(frames, twice, in_silver, in_rejected, neither)] = self._database.execute(
            f"""select count(*), coalesce(sum(copies - 1), 0)::bigint,
            (select count(*) from bronze semi join silver using ({_OF_FRAME})),
            (select count(*) from bronze semi join rejected using ({_OF_FRAME})),
            (select count(*) from bronze anti join silver using ({_OF_FRAME}) anti join rejected using ({_OF_FRAME}))
            from bronze"""  # noqa: S608
        ).fetchall()
        strangers = self._rows(
            f"select {_OF_FRAME}, 'not in bronze' as fault from (from silver union by name from rejected) "  # noqa: S608
            f"anti join bronze using ({_OF_FRAME})"
        )
        control = neither - lost.height
        said = f"Of {counted(frames, 'message')} of {topic} received on {day}, {in_silver:,} are in silver, "
        said += f"{in_rejected:,} in rejected, and {control:,} are control frames: "
        said += f"{counted(lost.height, 'message')} {are(lost.height)} missing"
        said += f"; {counted(twice, 'message')} {are(twice)} in bronze twice" if twice else ""
        if strangers.height:
            said += (
                f"; {counted(strangers.height, 'message')} of silver or rejected {are(strangers.height)} not in bronze"
            )
        doubled = self._rows(f"select {_OF_FRAME}, 'in bronze twice' as fault from bronze where copies > 1")  # noqa: S608
        samples = [lost.select(*FRAME, pl.lit("neither in silver nor in rejected").alias("fault")), strangers, doubled]
        return Verdict(
            passed=lost.is_empty() and strangers.is_empty() and not twice,
            sentence=f"{said}.",
            counts={
                "in bronze": frames,
                "in silver": in_silver,
                "in rejected": in_rejected,
                "control frames": control,
                "missing": lost.height,
                "in bronze twice": twice,
                "not in bronze": strangers.height,
            },
            samples=pl.concat([each.head(SAMPLE_ROWS) for each in samples], how="vertical_relaxed"),
            severity="error",
        )

    def _rows(self, sql: str) -> pl.DataFrame:
        return as_frame(self._database.sql(sql).to_arrow_table())


def same_as_bronze(venue: Venue, data: Data, lake: Lake, database: DuckDBPyConnection, day: date) -> Verdict:
    """Compare the messages that were received on a day: each is in silver, in rejected, or a control frame."""
    # Silver is loaded first: what lies below its vector is then in the other tables too, as they are loaded.
    silver = lake.table(tables.silver(venue.VENUE, data).name)
    rejected = lake.table(tables.silver_rejected(venue.VENUE).name)
    bronze = lake.table(tables.bronze(venue.VENUE, data).name)
    vector, topic = Offsets.from_properties(silver.properties), raw_topic(venue.ASSET_CLASS, data, venue.VENUE)
    frames = FrameBalance(
        database,
        topic,
        vector,
        bronze=_received(bronze, "ingestion_timestamp", day, _BRONZE),
        silver=_received(silver, "timestamp", day, FRAME),
        rejected=_received(rejected, "ingestion_timestamp", day, (*FRAME, "kafka_topic")),
    )
    lost = unaccounted = frames.unaccounted()
    if unaccounted.height:
        lost = unaccounted.join(_empty(venue, data, bronze, unaccounted, vector), on=FRAME, how="anti")
    return frames.verdict(day, topic, lost)


def _received(table: Table, time_column: str, day: date, columns: tuple[str, ...]) -> pa.RecordBatchReader:
    """Read the rows that were received on a day, of whichever day they are."""
    where = time_between("ingestion_timestamp", *day_bounds_us(day))
    planned = {task.file.file_path for task in table.scan(where, selected_fields=columns).plan_files()}
    return stream(table, [each for each in live_files(table, time_column) if each.path in planned], columns, where)


def _empty(venue: Venue, data: Data, bronze: Table, frames: pl.DataFrame, vector: Offsets) -> pl.DataFrame:
    """Return those frames in which the venue's parser finds nothing: they are control frames on another channel."""
    parse, empty = venue.parse if data == "trades" else venue.parse_quotes, [frames.select(FRAME).clear()]
    for rows in frames_at(bronze, frames, vector):
        for *place, payload in zip(*(rows[name].to_pylist() for name in (*FRAME, "payload")), strict=True):
            try:
                found = parse(payload)
            except MalformedFrame:
                continue
            if not found:
                empty.append(pl.DataFrame([place], schema=frames.select(FRAME).schema, orient="row"))
    return pl.concat(empty)
