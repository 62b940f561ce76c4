import hashlib
import random
import threading
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from k2_core.raw_frame import MAX_FRAME_BYTES
from k2_core.settings import Settings
from k2_core.venues.venue_protocol import Venue
from k2_feeds.feed import Feed
from k2_feeds.kafka import publisher as publishing
from k2_feeds.kafka.partitioner import partition_of
from k2_feeds.kafka.provision import Provisioned, provision
from k2_feeds.kafka.publisher import Publisher
from tests.feeds.feed_fixtures import DATA, a_fed_venue, a_trade_frame, events_of, frames_of, stored

pytestmark = pytest.mark.integration


@pytest.fixture
def venue() -> Venue:
    return a_fed_venue()


@pytest.fixture
def provisioned(broker: str, registry: str, parts_settings: Settings, venue: Venue) -> Provisioned:
    return provision(parts_settings, venue, DATA, lambda _: None, threading.Event())


@pytest.fixture
def publish(broker: str, venue: Venue, provisioned: Provisioned) -> Callable[[list[bytes]], Feed]:
    def run(frames: list[bytes]) -> Feed:
        publisher = Publisher(broker)
        feed = Feed(venue, provisioned, publisher)
        stream = feed.open("one")
        for number, frame in enumerate(frames):
            stream.take(1_700_000_000_000_000_000 + number, frame)
            while feed.full:
                publisher.retry()
        feed.finish(30)
        assert publisher.flush(30) == 0  # what the first flush gave rise to, such as a gap event
        assert publisher.acknowledged + publisher.failed == publisher.handed
        return feed

    return run


def test_frames_stand_verbatim_in_kafka_with_what_is_known_of_them(
    broker: str, provisioned: Provisioned, publish: Callable[[list[bytes]], Feed]
) -> None:
    sent = [b'{"result":null,"id":1}', a_trade_frame(1), b"\xff not json", a_trade_frame(2, "ETHUSDT")]

    feed = publish(sent)

    found = sorted(frames_of(broker, provisioned.trades_topic), key=lambda frame: int(frame["connection_seq"]))
    assert [frame["payload"] for frame in found] == sent
    assert [frame["channel"] for frame in found] == ["control", "trade", "unreadable", "trade"]
    assert [frame["symbol"] for frame in found] == ["", "BTCUSDT", "", "ETHUSDT"]
    assert {frame["venue"] for frame in found} == {feed.venue.VENUE}
    assert len({frame["connection_id"] for frame in found}) == 1
    assert [frame["received_ns"] % 1000 for frame in found] == [0, 1, 2, 3]
    assert feed.unreadable == 1


def test_keys_and_partitions_follow_the_symbol(
    broker: str, provisioned: Provisioned, publish: Callable[[list[bytes]], Feed]
) -> None:
    symbols = ("BTCUSDT", "ETHUSDT", "PEPEUSDT")
    publish([a_trade_frame(n, symbol) for n in range(10) for symbol in symbols] + [b"{"])

    found = stored(broker, provisioned.trades_topic)
    assert {each.key for each in found} == {b"BTCUSDT", b"ETHUSDT", b"PEPEUSDT", b""}
    assert all(each.partition == partition_of(each.key.decode(), 4) for each in found)


def test_a_missing_id_gives_exactly_one_gap_event(
    broker: str, venue: Venue, publish: Callable[[list[bytes]], Feed]
) -> None:
    feed = publish([a_trade_frame(n) for n in range(100, 200) if n != 150])

    (event,) = events_of(broker, venue.VENUE)
    assert (event["kind"], event["symbol"]) == ("gap", "BTCUSDT")
    assert event["details"]["first_missing"] == event["details"]["last_missing"] == "150"
    assert event["details"]["missing"] == "1"
    assert feed.gaps_found == {("BTCUSDT", "warning"): 1}


def test_an_oversized_frame_is_reported_and_not_published(
    broker: str, venue: Venue, provisioned: Provisioned, publish: Callable[[list[bytes]], Feed]
) -> None:
    large = b'{"stream":"\xff' + b"x" * MAX_FRAME_BYTES
    publish([a_trade_frame(1), large, b"y" * MAX_FRAME_BYTES, a_trade_frame(2)])

    (event,) = events_of(broker, venue.VENUE)
    assert event["kind"] == "oversized"
    assert event["details"]["bytes"] == str(len(large))
    assert event["details"]["sha256"] == hashlib.sha256(large).hexdigest()
    assert event["details"]["head"].startswith('{"stream":"\\xff')
    sizes = sorted(len(frame["payload"]) for frame in frames_of(broker, provisioned.trades_topic))
    assert sizes[-1] == MAX_FRAME_BYTES
    assert len(sizes) == 3


def test_nothing_is_lost_or_reordered_when_the_producers_queue_is_always_full(
    broker: str, provisioned: Provisioned, publish: Callable[[list[bytes]], Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {**publishing.producer_settings(broker), "queue.buffering.max.messages": 10, "linger.ms": 0}
    monkeypatch.setattr(publishing, "producer_settings", lambda *_: small)
    sent = [a_trade_frame(n) for n in range(3_000)]

    publish(sent)

    assert [frame["payload"] for frame in frames_of(broker, provisioned.trades_topic)] == sent


def test_a_frame_that_kafka_refuses_is_counted_and_recorded_as_a_gap(
    broker: str, venue: Venue, provisioned: Provisioned, publish: Callable[[list[bytes]], Feed]
) -> None:
    admin = AdminClient({"bootstrap.servers": broker})
    smaller = ConfigEntry("max.message.bytes", "2000", incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ResourceType.TOPIC, provisioned.trades_topic, incremental_configs=[smaller])
    admin.incremental_alter_configs([topic])[topic].result(timeout=10)
    incompressible = random.Random(1).randbytes(3000).hex()

    feed = publish([a_trade_frame(7), a_trade_frame(8, price=incompressible)])

    events = events_of(broker, venue.VENUE)
    assert {event["kind"] for event in events} == {"gap"}
    assert all(event["details"]["reason"].startswith("Kafka refused the frame: ") for event in events)
    refused = {int(event["details"]["first_missing"]) for event in events}
    there = {7 + int(frame["connection_seq"]) for frame in frames_of(broker, provisioned.trades_topic)}
    assert 8 in refused  # and 7, if both were in one batch: Kafka refuses a batch as a whole
    assert (refused | there, refused & there) == ({7, 8}, set())
    assert feed.gaps_found.total() == len(events)


def test_all_frames_of_a_symbol_stand_in_one_partition(
    broker: str, provisioned: Provisioned, publish: Callable[[list[bytes]], Feed]
) -> None:
    publish([a_trade_frame(n) for n in range(500)])

    found = stored(broker, provisioned.trades_topic)
    assert (len(found), {each.partition for each in found}) == (500, {0})


def a_quote_frame(number: int, symbol: str = "BTCUSDT") -> bytes:
    data = f'"u":{number},"s":"{symbol}","b":"61837.63","B":"3.7","a":"61837.64","A":"1.5"'
    return f'{{"stream":"{symbol.lower()}@bookTicker","data":{{{data}}}}}'.encode()


def test_quotes_go_to_a_topic_of_their_own_and_all_else_to_that_of_trades(
    broker: str, provisioned: Provisioned, publish: Callable[[list[bytes]], Feed]
) -> None:
    publish([b'{"result":null,"id":1}', a_trade_frame(1), a_quote_frame(7), b"{", a_quote_frame(9, "ETHUSDT")])

    quotes = frames_of(broker, provisioned.quotes_topic)
    assert [(each["channel"], each["symbol"]) for each in quotes] == [("quote", "BTCUSDT"), ("quote", "ETHUSDT")]
    assert [each["payload"] for each in quotes] == [a_quote_frame(7), a_quote_frame(9, "ETHUSDT")]
    assert all(
        each.partition == partition_of(each.key.decode(), 4) for each in stored(broker, provisioned.quotes_topic)
    )
    trades = frames_of(broker, provisioned.trades_topic)
    assert sorted(each["channel"] for each in trades) == ["control", "trade", "unreadable"]


def test_streams_are_numbered_alone_and_their_ids_are_followed_together(
    broker: str, venue: Venue, provisioned: Provisioned
) -> None:
    feed = Feed(venue, provisioned, Publisher(broker))
    one, two = feed.open("one"), feed.open("two")
    for number in range(10):
        if number != 4:
            one.take(number, a_trade_frame(number))
        if number not in {3, 4}:
            two.take(100 + number, a_trade_frame(number))
    one.close()
    two.take(200, a_trade_frame(10))
    assert feed.finish(30) == 0

    frames = frames_of(broker, provisioned.trades_topic)
    assert sorted(each["connection_seq"] for each in frames if each["connection_id"] == "one") == list(range(9))
    assert sorted(each["connection_seq"] for each in frames if each["connection_id"] == "two") == list(range(9))
    (gap,) = [event["details"] for event in events_of(broker, venue.VENUE) if event["kind"] == "gap"]
    assert (gap["first_missing"], gap["last_missing"]) == ("4", "4")
    assert (feed.messages, feed.last_received_ns, feed.gaps.duplicates) == (18, 200, 8)
    assert two.heard == {("trade", "BTCUSDT"): 200}
