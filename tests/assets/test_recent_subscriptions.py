"""A subscription that is in Kafka, and not yet in the lake, is known to a drain."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import fastavro
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic

from k2_assets.drain.topic_lane import Lane
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.kafka.topic_reader import KafkaReader, describe_topic
from k2_assets.reference.recent_subscriptions import RecentSubscriptions
from k2_assets.topic_tables.event_tables import EventLayers
from k2_assets.topic_tables.frame_tables import Layers
from k2_core import topics
from k2_core.lake.tables import BRONZE_FEED_EVENTS, REFERENCE_INSTRUMENTS
from k2_core.registry import Registry
from tests.assets.frames import NOON_NS, a_frame, an_envelope, messages
from tests.assets.lakes import to_arrow
from tests.assets.own_topic import NEVER_S, OwnTopic, read_all

pytestmark = pytest.mark.integration

EVENT = fastavro.parse_schema(json.loads(topics.feed_event_schema()))
LISTED = {
    "venue_symbol": "BTCUSDT", "symbol": "BTCUSDT", "base": "BTC", "quote": "USDT", "tick_size": None,
    "lot_size": None, "status": "trading", "venue_status": "TRADING", "tier": 1, "asset_class": "crypto",
    "valid_from": datetime(2020, 1, 1, tzinfo=UTC), "valid_to": None, "fetched_at": datetime(2020, 1, 1, tzinfo=UTC),
    "source": "a test",
}  # fmt: skip


class EventsTopic(OwnTopic):
    """A topic with a register, in which ODDCOIN is not listed, and with the topic of events."""

    def __post_init__(self) -> None:
        super().__post_init__()
        new = NewTopic(topics.FEED_EVENTS, 4, 1, config=topics.topic_settings(7))  # as a feed would: others share it
        if topics.FEED_EVENTS not in self.admin.list_topics(timeout=30).topics:
            self.admin.create_topics([new])[topics.FEED_EVENTS].result(timeout=30)
        with Registry(self.registry_url) as registry:
            subject = topics.subject(topics.FEED_EVENTS)
            self.event_schema_id = registry.register(subject, topics.feed_event_schema())
        table = self.catalog.load_table((self.namespace, REFERENCE_INSTRUMENTS.name))
        table.append(to_arrow(REFERENCE_INSTRUMENTS, [LISTED | {"exchange": self.venue.VENUE}]))

    def tell(self, kind: str, symbol: str, at_ns: int) -> None:
        """Write an event of this topic's venue."""
        value = io.BytesIO()
        value.write(b"\0" + self.event_schema_id.to_bytes(4, "big"))
        event = {"at_ns": at_ns, "venue": self.venue.VENUE, "kind": kind, "symbol": symbol}
        fastavro.schemaless_writer(value, EVENT, event)
        producer = Producer({"bootstrap.servers": self.broker, "log_level": 2})
        producer.produce(topics.FEED_EVENTS, value.getvalue(), partition=at_ns % 2)
        assert producer.flush(30) == 0

    def drain_events(self) -> None:
        """Take Kafka's messages into the lake."""
        layers = EventLayers(self.catalog, self.namespace)
        reader = KafkaReader(self.broker, describe_topic(self.broker, topics.FEED_EVENTS), "tests")
        with Registry(self.registry_url) as registry:
            lane = Lane(layers, reader, SchemaLookup(registry), 500_000, NEVER_S)
            try:
                lane.start()
                read_all(lane)
                lane.finish()
            finally:
                lane.close()


@pytest.fixture(name="own_topic")
def _own_topic(broker: str, registry: str, tmp_path: Path) -> EventsTopic:
    return EventsTopic(broker, registry, tmp_path / "home")


@pytest.fixture(name="schemas")
def _schemas(own_topic: EventsTopic) -> Iterator[SchemaLookup]:
    with Registry(own_topic.registry_url) as registry:
        yield SchemaLookup(registry)


def became(own_topic: EventsTopic, layers: Layers, schemas: SchemaLookup, *received_ns: int) -> tuple[int, int]:
    """How many frames of ODDCOIN, received then, became silver, and how many were rejected."""
    frame = a_frame(s="ODDCOIN")
    read = messages(*(an_envelope(frame, received_ns=at, schema_id=own_topic.schema_id) for at in received_ns))
    (made,) = layers.rows_of(read, own_topic.described, schemas)
    rows = made.by_layer
    assert set(rows["rejected"]["reason"].to_pylist()) <= {"unknown_symbol"}
    return rows["silver"].num_rows, rows["rejected"].num_rows


def test_subscriptions_are_known_before_they_stand_in_the_lake(own_topic: EventsTopic, schemas: SchemaLookup) -> None:
    recent = RecentSubscriptions(own_topic.broker, schemas)
    layers = Layers(own_topic.catalog, own_topic.namespace, own_topic.venue, recent=recent.read)
    try:
        own_topic.tell("refused", "ODDCOIN", NOON_NS)
        assert became(own_topic, layers, schemas, NOON_NS + 1) == (0, 1)

        own_topic.tell("subscribe", "ODDCOIN", NOON_NS + 3)
        assert became(own_topic, layers, schemas, NOON_NS + 2, NOON_NS + 3, NOON_NS + 4) == (2, 1)

        own_topic.tell("subscribe", "ODDCOIN", NOON_NS)
        assert became(own_topic, layers, schemas, NOON_NS - 1, NOON_NS + 2) == (1, 1)
    finally:
        recent.close()


def test_what_was_known_from_kafka_is_the_same_from_the_lake(own_topic: EventsTopic, schemas: SchemaLookup) -> None:
    own_topic.tell("subscribe", "ODDCOIN", NOON_NS)
    own_topic.drain_events()
    own_topic.tell("subscribe", "ELSECOIN", NOON_NS + 1)

    table = own_topic.catalog.load_table((own_topic.namespace, BRONZE_FEED_EVENTS.name))
    recent = RecentSubscriptions(own_topic.broker, schemas)
    try:
        ours = [row for row in recent.read(table).iter_rows() if row[0] == own_topic.venue.VENUE]
    finally:
        recent.close()
    assert ours == [(own_topic.venue.VENUE, "subscribe", "ELSECOIN", NOON_NS + 1)]

    layers = Layers(own_topic.catalog, own_topic.namespace, own_topic.venue)
    assert became(own_topic, layers, schemas, NOON_NS - 1, NOON_NS) == (1, 1)
