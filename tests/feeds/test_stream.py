"""What a stream notices of a connection by itself; Kafka is not needed for it, and is not there."""

import json

import pytest

from k2_core.raw_frame import MAX_FRAME_BYTES
from k2_core.venues import coinbase, kraken
from k2_feeds.kafka.publisher import Publisher
from tests.feeds.feed_fixtures import RecordingFeed, free_port

TIME = "2026-04-07T14:30:02.789012Z"


@pytest.fixture
def nowhere() -> Publisher:
    return Publisher(f"127.0.0.1:{free_port()}")


def heartbeat(number: int) -> bytes:
    return json.dumps({"channel": "heartbeats", "timestamp": TIME, "sequence_num": number, "events": []}).encode()


def tickers(number: int, *products: str) -> bytes:
    sides = {"best_bid": "1", "best_bid_quantity": "1", "best_ask": "2", "best_ask_quantity": "1"}
    events = [{"type": "update", "tickers": [{"product_id": each, **sides} for each in products]}]
    return json.dumps({"channel": "ticker", "timestamp": TIME, "sequence_num": number, "events": events}).encode()


def trades(*each: tuple[str, int]) -> bytes:
    data = [
        {
            "symbol": symbol,
            "side": "buy",
            "price": 1.0,
            "qty": 1.0,
            "ord_type": "limit",
            "trade_id": n,
            "timestamp": TIME,
        }
        for symbol, n in each
    ]
    return json.dumps({"channel": "trade", "type": "update", "data": data}).encode()


def test_a_jump_of_the_connections_own_count_is_reported_and_repeats_are_counted(nowhere: Publisher) -> None:
    feed = RecordingFeed(coinbase, nowhere)
    stream, other = feed.open("one"), feed.open("two")
    for number in (0, 1, 2, 6, 7, 7, 5, 8):
        stream.take(number, heartbeat(number))
    for number in (0, 1):
        other.take(number, heartbeat(number))

    (event,) = feed.events
    assert (event.kind, event.connection_id) == ("sequence_break", "one")
    assert event.details == {"expected": "3", "found": "6"}
    assert (feed.sequence_breaks, feed.sequence_repeats) == (1, 2)


def test_every_symbol_of_a_frame_with_several_is_heard(nowhere: Publisher) -> None:
    stream = RecordingFeed(coinbase, nowhere).open("one")
    stream.take(1, tickers(0, "BTC-USD"))
    stream.take(2, tickers(1, "ETH-USD", "SOL-USD"))
    stream.take(3, heartbeat(2))

    assert stream.heard == {("quote", "BTC-USD"): 1, ("quote", "ETH-USD"): 2, ("quote", "SOL-USD"): 2}


def test_every_id_of_a_frame_with_several_symbols_is_followed(nowhere: Publisher) -> None:
    feed = RecordingFeed(kraken, nowhere)
    stream = feed.open("one")
    stream.take(1, trades(("BTC/USD", 5), ("ETH/USD", 9), ("BTC/USD", 6)))
    stream.take(2, trades(("ETH/USD", 11), ("BTC/USD", 7)))
    feed.tend()

    assert {symbol: seen.expected for symbol, seen in feed.gaps.state().items()} == {"BTC/USD": 8, "ETH/USD": 12}
    (hole,) = feed.gaps.state()["ETH/USD"].holes
    assert (hole.first, hole.last) == (10, 10)
    assert stream.heard == {("trade", "BTC/USD"): 2, ("trade", "ETH/USD"): 2}


def test_a_snapshot_is_taken_and_is_no_sign_of_life(nowhere: Publisher) -> None:
    feed = RecordingFeed(kraken, nowhere)
    stream, other = feed.open("one"), RecordingFeed(coinbase, nowhere).open("two")
    stream.take(1, trades(("BTC/USD", 5)).replace(b'"update"', b'"snapshot"'))
    stream.take(2, trades(("BTC/USD", 6), ("ETH/USD", 9)).replace(b'"update"', b'"snapshot"'))
    other.take(3, tickers(0, "BTC-USD").replace(b'"update"', b'"snapshot"'))

    assert stream.heard == other.heard == {}
    assert {symbol: seen.expected for symbol, seen in feed.gaps.state().items()} == {"BTC/USD": 7, "ETH/USD": 10}


def test_an_oversized_frame_has_its_place_in_the_connections_count(nowhere: Publisher) -> None:
    feed = RecordingFeed(coinbase, nowhere)
    stream = feed.open("one")
    stream.take(1, heartbeat(0))
    stream.take(2, heartbeat(1)[:-1] + b" " * MAX_FRAME_BYTES + b"}")
    stream.take(3, heartbeat(2))

    assert [event.kind for event in feed.events] == ["oversized"]
    assert (feed.oversized, feed.sequence_breaks) == (1, 0)


def test_the_newest_frame_stays_the_newest_when_its_connection_ends(nowhere: Publisher) -> None:
    feed = RecordingFeed(coinbase, nowhere)
    older, newer = feed.open("one"), feed.open("two")
    assert feed.last_received_ns == 0
    older.take(7, heartbeat(0))
    newer.take(50, heartbeat(0))
    newer.close()

    assert feed.last_received_ns == 50
