"""Feed events to rows. Pure: messages and known schemas in, Arrow out; what cannot be read is kept all the same."""

import json
from collections.abc import Mapping
from typing import Any, Final

import fastavro
import pyarrow as pa

from k2_assets.decode.envelopes import LARGEST_SCHEMA_ID, record_of
from k2_assets.kafka.kafka_topic import Topic
from k2_assets.kafka.topic_reader import Messages
from k2_assets.kafka.writer_schema import WriterSchema
from k2_core import topics
from k2_core.errors import MalformedFrame
from k2_core.raw_frame import schema_id_of

Event = dict[str, Any]

_READER_SCHEMA: Final = fastavro.parse_schema(json.loads(topics.feed_event_schema()))
_FIELDS: Final = ("at_ns", "venue", "kind", "symbol", "connection_id", "details")
_NS_BELOW: Final = 1 << 62  # the year 2116


def event_rows(messages: Messages, topic: Topic, schemas: Mapping[int, WriterSchema], schema: pa.Schema) -> pa.Table:
    """Return a row for each message; the fields of a value that is no feed event are null.

    Args:
        messages: as read from Kafka.
        topic: that they were read from.
        schemas: the schema of every id in the values.
        schema: Arrow schema of the table.
    """
    events: list[Event | None] = []
    schema_ids: list[int | None] = []
    for value in messages.values:
        schema_id, event = None, None
        try:
            schema_id = schema_id_of(value)
            event = record_of(value, schemas[schema_id], _READER_SCHEMA)
        except MalformedFrame:
            pass  # the row keeps its bytes
        schema_ids.append(schema_id if schema_id is not None and schema_id <= LARGEST_SCHEMA_ID else None)
        events.append(event if event is not None and 0 <= event["at_ns"] < _NS_BELOW else None)
    appended_us = [moment_ms * 1000 for moment_ms in messages.timestamps_ms]
    times = [us if event is None else event["at_ns"] // 1000 for event, us in zip(events, appended_us, strict=True)]
    columns: dict[str, list[Any]] = {
        "topic": [topic.name] * len(messages),
        "topic_id": [topic.topic_id] * len(messages),
        "kafka_partition": messages.partitions,
        "kafka_offset": messages.offsets,
        "kafka_timestamp": appended_us,
        "key": messages.keys,
        "schema_id": schema_ids,
        **{name: [None if event is None else event[name] for event in events] for name in _FIELDS},
        "payload": messages.values,
        "ingestion_timestamp": times,
    }
    columns["details"] = [None if details is None else list(details.items()) for details in columns["details"]]
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
