"""What the feed's tests share: a venue of its own for each test, a simulator in this process, what Kafka holds."""

import asyncio
import io
import json
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import fastavro
from confluent_kafka import Consumer, TopicPartition

from k2_core import topics
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue
from k2_feeds.feed import Feed
from k2_feeds.kafka.feed_events import FeedEvent
from k2_feeds.kafka.provision import Provisioned
from k2_feeds.kafka.publisher import Publisher
from k2_feeds.simulator.frame_sources import Source
from k2_feeds.simulator.server import Hub, serve_venue
from tests.venue_builder import a_venue

EVENT_SCHEMA = fastavro.parse_schema(json.loads(topics.feed_event_schema()))
RAW_SCHEMA = fastavro.parse_schema(json.loads(topics.raw_frame_schema()))


WITHIN_S = 240
DATA: tuple[Data, ...] = ("trades", "quotes")
URL = "ws://127.0.0.1:1"


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not true():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.01)


class Stored(NamedTuple):
    partition: int
    offset: int
    key: bytes
    value: bytes


class RecordingFeed(Feed):
    """A feed that records its events."""

    def __init__(self, venue: Venue, publisher: Publisher) -> None:
        super().__init__(venue, Provisioned("trades", "quotes", 4, {"trades": 1, "quotes": 1}, 2), publisher)
        self.events: list[FeedEvent] = []

    def publish_event(self, event: FeedEvent) -> None:
        self.events.append(event)


def a_fed_venue() -> Venue:
    """Return a venue whose name, and so its topics, are the test's own."""
    return a_venue(VENUE=f"binance_{uuid.uuid4().hex[:8]}")


def a_trade_frame(trade_id: int, symbol: str = "BTCUSDT", price: str = "61837.63000000") -> bytes:
    data = f'"e":"trade","E":1723161255343,"s":"{symbol}","t":{trade_id},"p":"{price}","q":"0.02","T":1723161255342'
    return f'{{"stream":"{symbol.lower()}@trade","data":{{{data},"m":true,"M":true}}}}'.encode()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@asynccontextmanager
async def simulating(source: Source, cut_after_s: float = 3600.0, port: int = 0) -> AsyncIterator[str]:
    """Serve a source in this process; yields ``ws://127.0.0.1:port``."""
    hub = Hub(cut_after_s, source.listings)
    port = port or free_port()
    async with await serve_venue(hub, port, source.status):
        tasks = [asyncio.create_task(each) for each in (source.run(hub), hub.beat())]
        try:
            yield f"ws://127.0.0.1:{port}"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def stored(broker: str, topic: str) -> list[Stored]:
    """Return all that a topic holds, partition by partition in order of offset."""
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "tests", "enable.auto.commit": False})
    found = []
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        for partition in sorted(partitions):
            found += _read(consumer, topic, partition)
    finally:
        consumer.close()
    return found


def _read(consumer: Consumer, topic: str, partition: int) -> list[Stored]:
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
    consumer.assign([TopicPartition(topic, partition, low)])
    found: list[Stored] = []
    while high > low and (not found or found[-1].offset < high - 1):
        for message in consumer.consume(min(10_000, high - low - len(found)), timeout=0.5):
            assert message.error() is None, message.error()
            found.append(Stored(partition, message.offset(), message.key(), message.value()))
    return found


def frames_of(broker: str, topic: str) -> list[dict[str, Any]]:
    """Return a topic's envelopes, read by a standard Avro reader."""
    return [_avro(each.value, RAW_SCHEMA) for each in stored(broker, topic)]


def events_of(broker: str, venue: str) -> list[dict[str, Any]]:
    """Return a venue's feed events."""
    events = [_avro(each.value, EVENT_SCHEMA) for each in stored(broker, topics.FEED_EVENTS)]
    return [event for event in events if event["venue"] == venue]


def _avro(value: bytes, schema: Any) -> Any:
    return fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)
