"""Feed events on their way to their table: as they were published, once, and kept when they cannot be read."""

import io
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from hypothesis import given
from hypothesis import strategies as st

from k2_assets.decode.feed_event_rows import event_rows
from k2_assets.drain.drain_loop import drain
from k2_assets.kafka.topic_reader import Messages, Topic
from k2_assets.kafka.writer_schema import WriterSchema
from k2_assets.lake.commits import arrow_schema
from k2_assets.lake.lake_resource import Lake
from k2_assets.topic_tables import event_tables
from k2_core import topics
from k2_core.lake.catalog import open_catalog
from k2_core.lake.tables import BRONZE_FEED_EVENTS
from k2_core.registry import Registry
from k2_core.settings import Drain, Kafka, Settings
from k2_core.settings import Registry as RegistrySettings
from tests.assets.frames import NOON_MS, NOON_NS, an_envelope
from tests.assets.lakes import Row

OURS, LATER, FRAMES, UNKNOWN = 1, 2, 3, 9
TOPIC = Topic("market.feed.events", "uuid-of-events", (0,))
SCHEMA = arrow_schema(BRONZE_FEED_EVENTS)


def a_later_schema() -> str:
    schema = json.loads(topics.feed_event_schema())
    schema["fields"].append({"name": "host", "type": "string", "default": ""})
    return json.dumps(schema)


SCHEMAS: Mapping[int, WriterSchema] = {
    OURS: WriterSchema(topics.feed_event_schema()),
    LATER: WriterSchema(a_later_schema()),
    FRAMES: WriterSchema(topics.raw_frame_schema()),
    UNKNOWN: WriterSchema(None),
}


def an_event(schema_id: int = OURS, text: str | None = None, **fields: Any) -> bytes:
    """The Kafka value of a gap of two trades."""
    record = {
        "at_ns": NOON_NS,
        "venue": "binance",
        "kind": "gap",
        "symbol": "BTCUSDT",
        "connection_id": "c",
        "details": {"first_missing": "4", "last_missing": "5"},
        "host": "somewhere",
    } | fields
    body = io.BytesIO()
    written = SCHEMAS[schema_id].text if text is None else text
    fastavro.schemaless_writer(body, fastavro.parse_schema(json.loads(written or "")), record)
    return b"\0" + schema_id.to_bytes(4, "big") + body.getvalue()


def rows_of(*values: bytes) -> list[Row]:
    count = len(values)
    read = Messages([0] * count, list(range(count)), [NOON_MS + 5] * count, [b"binance"] * count, list(values))
    found: list[Row] = event_rows(read, TOPIC, SCHEMAS, SCHEMA).to_pylist()
    return found


def test_an_event_becomes_a_row_with_all_that_it_says() -> None:
    (row,) = rows_of(value := an_event())

    assert (row["at_ns"], row["venue"], row["kind"], row["symbol"]) == (NOON_NS, "binance", "gap", "BTCUSDT")
    assert dict(row["details"]) == {"first_missing": "4", "last_missing": "5"}
    assert row["ingestion_timestamp"] == datetime(2024, 8, 9, 12, tzinfo=UTC)
    assert (row["topic"], row["topic_id"], row["kafka_offset"]) == ("market.feed.events", "uuid-of-events", 0)
    assert (row["schema_id"], row["payload"], row["connection_id"]) == (OURS, value, "c")


def test_an_event_of_a_later_schema_is_read_as_well() -> None:
    (row,) = rows_of(an_event(LATER))

    assert (row["kind"], row["schema_id"]) == ("gap", LATER)


def a_schema_with_logical_types() -> str:
    schema = json.loads(topics.feed_event_schema())
    kinds = {
        "at_ns": {"type": "long", "logicalType": "timestamp-micros"},
        "connection_id": {"type": "string", "logicalType": "uuid"},
        "details": {"type": "map", "values": {"type": "string", "logicalType": "uuid"}},
    }
    for each in schema["fields"]:
        each["type"] = kinds.get(each["name"], each["type"])
    return json.dumps(schema)


def test_a_logical_type_of_the_writer_changes_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEMAS, 7, WriterSchema(a_schema_with_logical_types()))  # type: ignore[arg-type]  # a dict

    (row,) = rows_of(an_event(7, topics.feed_event_schema()))

    assert (row["at_ns"], row["connection_id"]) == (NOON_NS, "c")
    assert dict(row["details"]) == {"first_missing": "4", "last_missing": "5"}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\1\0\0\0\1",
        an_event()[:-1],
        an_event() + b"\0",
        an_event()[:5],
        b"\0\0\0\0\x09" + an_event()[5:],
        an_envelope(b"{}", schema_id=FRAMES),
        an_event(at_ns=-1),
        an_event(at_ns=(1 << 63) - 1),
    ],
)
def test_what_is_no_event_is_kept_with_kafkas_time_beside_its_neighbours(value: bytes) -> None:
    before, row, after = rows_of(an_event(), value, an_event())

    assert (before["kind"], after["kind"]) == ("gap", "gap")
    assert {row[name] for name in ("at_ns", "venue", "kind", "symbol", "connection_id", "details")} == {None}
    assert row["payload"] == value
    assert row["ingestion_timestamp"] == row["kafka_timestamp"]


@given(st.binary(max_size=80), st.sampled_from([OURS, LATER, FRAMES, UNKNOWN]))
def test_any_bytes_become_a_row(body: bytes, schema_id: int) -> None:
    (row,) = rows_of(b"\0" + schema_id.to_bytes(4, "big") + body)

    assert row["payload"][5:] == body


@pytest.fixture(name="events_topic")
def a_topic(broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A topic of this test's own in the place of the feeds'."""
    name = f"market.feed.events.{time.time_ns()}"  # noqa: TID251
    admin = AdminClient({"bootstrap.servers": broker})
    admin.create_topics([NewTopic(name, 2, 1, config=topics.topic_settings(7))])[name].result(timeout=30)
    monkeypatch.setattr(event_tables.topics, "FEED_EVENTS", name)
    yield name
    admin.delete_topics([name])[name].result(timeout=30)


@pytest.mark.integration
def test_events_are_drained_once_across_lives_of_the_drain(
    broker: str, registry: str, tmp_path: Path, events_topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        home=tmp_path,
        kafka=Kafka(bootstrap_servers=broker),
        registry=RegistrySettings(url=registry),
        drain=Drain(commit_interval_s=0.1, work_minutes=5),
    )
    with Registry(registry) as client:
        schema_id = client.register(topics.subject(events_topic), topics.feed_event_schema())
    sent: Counter[bytes] = Counter()
    for life in range(3):
        head, body = b"\0" + schema_id.to_bytes(4, "big"), [an_event(symbol=f"{life}-{n}")[5:] for n in range(20)]
        sent.update(values := [*(head + each for each in body), f"no event {life}".encode()])
        produce(broker, events_topic, values)
        drain_all(settings, events_topic)

    table = open_catalog(settings).load_table((settings.catalog.namespace, BRONZE_FEED_EVENTS.name))
    rows = table.scan().to_arrow().to_pylist()
    assert Counter(row["payload"] for row in rows) == sent
    assert Counter(row["kind"] for row in rows) == {"gap": 60, None: 3}


def produce(broker: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": broker})
    for place, value in enumerate(values):
        producer.produce(topic, value, partition=place % 2)
    assert producer.flush(30) == 0


def drain_all(settings: Settings, topic: str) -> None:
    stop, deadline = threading.Event(), time.monotonic() + 60  # noqa: TID251
    for lane, _ in drain(Lake(settings), (), "a life", stop):
        assert lane.reader.topic.name == topic
        if lane.reader.lag(lane.layers.drained) == 0:
            stop.set()
        assert time.monotonic() < deadline, lane.layers.drained  # noqa: TID251
