"""What happens to a feed, in the words of ``schemas/feed_event.avsc``, as Kafka values."""

import io
import json
import struct
from typing import Any, Final, Literal, NamedTuple

import fastavro
from fastavro.types import Schema

from k2_core import topics
from k2_core.raw_frame import CONFLUENT_MAGIC

Kind = Literal[
    "connect", "subscribe", "ack", "refused", "alias", "gap", "silence", "stale", "lag", "skew", "sequence_break",
    "rotation", "handover", "disconnect", "dropped", "oversized", "loss_accepted", "recovered",
    "ids_begin_again",
]  # fmt: skip
HEAD_BYTES: Final = 1024
_SCHEMA: Final[Schema] = fastavro.parse_schema(json.loads(topics.feed_event_schema()))
_HEADER: Final = struct.Struct(">bI")


class FeedEvent(NamedTuple):
    """One event. ``details`` are texts, such as first_missing, last_missing, reason."""

    at_ns: int
    venue: str
    kind: Kind
    symbol: str
    connection_id: str
    details: dict[str, str]


class EventEncoder:
    """Encode feed events in Confluent's wire format: a 0 byte, the schema id, the Avro record."""

    def __init__(self, schema_id: int) -> None:
        self._header = _HEADER.pack(CONFLUENT_MAGIC, schema_id)

    def encode(self, event: FeedEvent) -> bytes:
        out = io.BytesIO(self._header)
        out.seek(len(self._header))
        fastavro.schemaless_writer(out, _SCHEMA, event._asdict())
        return out.getvalue()


def read_event(value: bytes) -> FeedEvent | None:
    """Return the event of a Kafka value; None when it is none."""
    try:
        record: Any = fastavro.schemaless_reader(io.BytesIO(value[_HEADER.size :]), _SCHEMA, None)
        return FeedEvent(**record)
    except (EOFError, IndexError, KeyError, TypeError, ValueError, struct.error):
        return None
