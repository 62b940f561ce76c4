"""Kafka messages to bronze rows. Pure: messages and known schemas in, Arrow out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k2_assets.decode.envelopes import Envelopes, decode_all
from k2_assets.kafka.topic_reader import Messages, Topic
from k2_assets.kafka.writer_schema import WriterSchema
from k2_core.errors import MalformedFrame, readable

TIMESTAMP = pa.timestamp("us", tz="UTC")
_NO_TIME = np.iinfo(np.int64).min
_LEARNED_SINCE = MalformedFrame("unknown_schema", "the registry did not know the schema id when the frame was read")
_COLON: Final = ": "
# These columns stay when a message cannot be stored as it was read: its bytes, and where and when they came from.
_KEPT: Final = frozenset(
    (
        *("topic", "topic_id", "kafka_partition", "kafka_offset", "kafka_timestamp", "key"),
        *("received_ns", "payload", "ingestion_timestamp"),
    )
)
REFINED_FROM: Final = (
    "topic",
    "topic_id",
    "kafka_partition",
    "kafka_offset",
    "received_ns",
    "payload",
    "ingestion_timestamp",
    "unread",
)
"""Columns of bronze from which rejected and silver follow."""
SchemasOf = Callable[[list[bytes]], Mapping[int, WriterSchema]]
"""Returns the schema of every id in the headers of Kafka values."""


@dataclass(frozen=True)
class Frames:
    """What silver follows from, in the order of the messages: bronze rows without their event times.

    ``errors`` maps a position to why nothing was read from it; where its envelope could not be decoded, its payload is
    the whole Kafka value.
    """

    topic: str
    topic_id: str
    partitions: Sequence[int]
    offsets: Sequence[int]
    received_ns: npt.NDArray[np.int64]
    ingestion_us: npt.NDArray[np.int64]
    payloads: list[bytes]
    errors: dict[int, MalformedFrame]

    def __len__(self) -> int:
        return len(self.payloads)

    def part(self, start: int, end: int) -> "Frames":
        return Frames(
            self.topic,
            self.topic_id,
            self.partitions[start:end],
            self.offsets[start:end],
            self.received_ns[start:end],
            self.ingestion_us[start:end],
            self.payloads[start:end],
            {position - start: error for position, error in self.errors.items() if start <= position < end},
        )


def decode_messages(messages: Messages, topic: Topic, schemas: Mapping[int, WriterSchema]) -> tuple[Frames, Envelopes]:
    """Decode the envelopes of one batch of messages."""
    envelopes = decode_all(messages.values, schemas)
    ingestion_us = envelopes.received_ns // 1000
    for position in envelopes.errors:
        ingestion_us[position] = messages.timestamps_ms[position] * 1000
    frames = Frames(
        topic.name,
        topic.topic_id,
        messages.partitions,
        messages.offsets,
        envelopes.received_ns,
        ingestion_us,
        envelopes.payloads,
        envelopes.errors,
    )
    return frames, envelopes


def bronze_rows(
    messages: Messages,
    frames: Frames,
    envelopes: Envelopes,
    event_us: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    schema: pa.Schema,
) -> pa.Table:
    """Return the bronze rows of one batch.

    Args:
        messages: as read from Kafka.
        frames: the same messages decoded.
        envelopes: their envelopes' other columns.
        event_us: earliest and latest event time of each frame, µs; the smallest int64 where a frame has none.
        schema: Arrow schema of the bronze table.
    """
    count = len(frames)
    bad = np.zeros(count, dtype=bool)
    bad[list(frames.errors)] = True
    # Distinct streams are few: each is spread into columns once, and the rows take from these by its number.
    index: dict[tuple[str, str, str, str], int] = {}
    codes = pa.array([index.setdefault(stream, len(index)) for stream in envelopes.streams], pa.int32(), mask=bad)
    streams = {
        name: pa.array([stream[place] for stream in index], pa.string()).take(codes)
        for place, name in enumerate(("venue", "channel", "symbol", "connection_id"))
    }
    unread: list[str | None] = [None] * count
    for position, error in frames.errors.items():
        unread[position] = f"{error.reason}{_COLON}{readable(error.detail)}"
    columns: dict[str, Any] = {
        "topic": pa.repeat(frames.topic, count),
        "topic_id": pa.repeat(frames.topic_id, count),
        "kafka_partition": pa.array(messages.partitions, pa.int32()),
        "kafka_offset": pa.array(messages.offsets, pa.int64()),
        "kafka_timestamp": pa.array(np.array(messages.timestamps_ms, dtype=np.int64) * 1000, TIMESTAMP),
        "key": pa.array(messages.keys, pa.binary()),
        "schema_id": pa.array(envelopes.schema_ids, pa.int32()),
        **streams,
        "connection_seq": pa.array(envelopes.connection_seqs, pa.int64(), mask=bad),
        "received_ns": pa.array(envelopes.received_ns, pa.int64(), mask=bad),
        "payload": pa.array(envelopes.payloads, pa.binary()),
        "min_event_ts": pa.array(event_us[0], TIMESTAMP, mask=event_us[0] == _NO_TIME),
        "max_event_ts": pa.array(event_us[1], TIMESTAMP, mask=event_us[1] == _NO_TIME),
        "ingestion_timestamp": pa.array(frames.ingestion_us, TIMESTAMP),
        "unread": pa.array(unread, pa.string()),
    }
    return pa.table([columns[name] for name in schema.names], schema=schema)


def rows_of_bytes(messages: Messages, topic: Topic, unread: Mapping[int, str], schema: pa.Schema) -> pa.Table:
    """Return rows of a bronze table that hold messages as bytes, and nothing else about them.

    Args:
        messages: as read from Kafka.
        topic: that they were read from.
        unread: why, by position; of every message.
        schema: Arrow schema of the table.
    """
    count = len(messages)
    appended = pa.array(np.array(messages.timestamps_ms, dtype=np.int64) * 1000, TIMESTAMP)
    columns: dict[str, Any] = {
        "topic": pa.repeat(topic.name, count),
        "topic_id": pa.repeat(topic.topic_id, count),
        "kafka_partition": pa.array(messages.partitions, pa.int32()),
        "kafka_offset": pa.array(messages.offsets, pa.int64()),
        "kafka_timestamp": appended,
        "key": pa.array(messages.keys, pa.binary()),
        "payload": pa.array(messages.values, pa.binary()),
        "ingestion_timestamp": appended,
        "unread": pa.array([unread[position] for position in range(count)], pa.string()),
    }
    return pa.table([columns.get(f.name, pa.nulls(count, f.type)) for f in schema], schema=schema)


def without_texts(rows: pa.Table, unread: Mapping[int, str]) -> pa.Table:
    """Return bronze rows after some were reduced to their bytes, where these came from, and why they are unread.

    Args:
        rows: of bronze, with any of its columns.
        unread: why, by position; other rows stay as they are.
    """
    chosen = np.zeros(rows.num_rows, dtype=bool)
    chosen[list(unread)] = True
    mask = pa.array(chosen)
    for place, field in enumerate(rows.schema):
        if field.name == "unread":
            texts = pa.array([unread.get(position) for position in range(rows.num_rows)], pa.string())
            rows = rows.set_column(place, field, pc.if_else(mask, texts, rows[field.name]))
        elif field.name not in _KEPT:
            rows = rows.set_column(place, field, pc.if_else(mask, pa.scalar(None, field.type), rows[field.name]))
    return rows


def frames_of_bronze(rows: pa.Table, schemas_of: SchemasOf) -> Frames:
    """Return the frames of bronze rows of one topic, to make silver from them again.

    A row that was not read at first stays so, whatever the registry has learned since. Rows that are older than the
    column of the reason are decoded once more, so that their errors are the same as at first.
    """
    payloads = rows["payload"].to_pylist()
    errors: dict[int, MalformedFrame] = {}
    for position, text in enumerate(rows["unread"].to_pylist()):
        if text is not None:
            reason, _, detail = text.partition(_COLON)
            errors[position] = MalformedFrame(reason, detail)
    undecoded = np.flatnonzero(rows["received_ns"].is_null().to_numpy()).tolist()
    if without_reason := [position for position in undecoded if position not in errors]:
        values = [payloads[position] for position in without_reason]
        again = decode_all(values, schemas_of(values))
        errors |= {position: again.errors.get(place, _LEARNED_SINCE) for place, position in enumerate(without_reason)}
    first = rows.slice(0, 1)
    return Frames(
        "".join(first["topic"].to_pylist()),
        "".join(first["topic_id"].to_pylist()),
        rows["kafka_partition"].to_pylist(),
        rows["kafka_offset"].to_pylist(),
        rows["received_ns"].fill_null(0).to_numpy(),
        rows["ingestion_timestamp"].cast(pa.int64()).to_numpy(),
        payloads,
        errors,
    )
