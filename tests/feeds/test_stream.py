"""What a stream notices of a connection by itself; Kafka is not needed for it, and is not there."""

import json
from types import ModuleType

import pytest

from k2_core.venues import coinbase, kraken
from k2_feeds.feed import Feed
from k2_feeds.feed_events import FeedEvent
from k2_feeds.provision import Provisioned
from k2_feeds.publisher import Publisher
from tests.feeds.rooms import free_port

TIME = "2026-04-07T14:30:02.789012Z"


@pytest.fixture
def nowhere() -> Publisher:
    return Publisher(f"127.0.0.1:{free_port()}")


class Told(Feed):
    """A feed that keeps what it tells."""

    def __init__(self, venue: ModuleType, publisher: Publisher) -> None:
        super().__init__(venue, Provisioned("trades", "quotes", 4, {"trades": 1, "quotes": 1}, 2), publisher)
        self.events: list[FeedEvent] = []

    def publish_event(self, event: FeedEvent) -> None:
        self.events.append(event)


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


def test_a_jump_of_the_connections_own_count_is_told_and_repeats_are_counted(nowhere: Publisher) -> None:
    feed = Told(coinbase, nowhere)
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
    stream = Told(coinbase, nowhere).open("one")
    stream.take(1, tickers(0, "BTC-USD"))
    stream.take(2, tickers(1, "ETH-USD", "SOL-USD"))
    stream.take(3, heartbeat(2))

    assert stream.heard == {("quote", "BTC-USD"): 1, ("quote", "ETH-USD"): 2, ("quote", "SOL-USD"): 2}


def test_every_id_of_a_frame_with_several_symbols_is_followed(nowhere: Publisher) -> None:
    feed = Told(kraken, nowhere)
    stream = feed.open("one")
    stream.take(1, trades(("BTC/USD", 5), ("ETH/USD", 9), ("BTC/USD", 6)))
    stream.take(2, trades(("ETH/USD", 11), ("BTC/USD", 7)))
    feed.tend()

    assert {symbol: seen.expected for symbol, seen in feed.gaps.state().items()} == {"BTC/USD": 8, "ETH/USD": 12}
    (hole,) = feed.gaps.state()["ETH/USD"].holes
    assert (hole.first, hole.last) == (10, 10)
    assert stream.heard == {("trade", "BTC/USD"): 2, ("trade", "ETH/USD"): 2}
