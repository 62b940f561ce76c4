"""Texts, numbers and times that no venue should send, committed to real tables: every message is stored."""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k2_core.lake.catalog import ensure_tables
from k2_core.lake.tables import all_tables, bronze, silver, silver_rejected
from k2_core.raw_frame import Encoder
from k2_core.venues import VENUES
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue
from tests.assets.drained import DrainedLake
from tests.assets.frames import NOON_NS, OURS

FRAMES: dict[tuple[str, Data], dict[str, Any]] = {
    ("binance", "trades"): {
        "stream": "btcusdt@trade",
        "data": {
            "e": "trade",
            "E": 1723204800001,
            "s": "BTCUSDT",
            "t": 1,
            "p": "61837.63",
            "q": "0.02",
            "T": 1723204800000,
            "m": True,
        },
    },
    ("binance", "quotes"): {
        "stream": "btcusdt@bookTicker",
        "data": {"u": 1, "s": "BTCUSDT", "b": "1.5", "B": "2", "a": "1.6", "A": "3"},
    },
    ("kraken", "trades"): {
        "channel": "trade",
        "type": "update",
        "data": [
            {
                "symbol": "BTC/USD",
                "side": "buy",
                "price": 1.5,
                "qty": 1,
                "ord_type": "limit",
                "trade_id": 1,
                "timestamp": "2024-08-09T12:00:00.000000Z",
            }
        ],
    },
    ("kraken", "quotes"): {
        "channel": "ticker",
        "type": "update",
        "data": [
            {
                "symbol": "BTC/USD",
                "bid": 1.5,
                "bid_qty": 2.5,
                "ask": 1.6,
                "ask_qty": 3.2,
                "last": 1.5,
                "timestamp": "2024-08-09T12:00:00.000000Z",
            }
        ],
    },
    ("coinbase", "trades"): {
        "channel": "market_trades",
        "client_id": "",
        "timestamp": "2024-08-09T12:00:00Z",
        "sequence_num": 1,
        "events": [
            {
                "type": "update",
                "trades": [
                    {
                        "trade_id": "1",
                        "product_id": "BTC-USD",
                        "price": "1.5",
                        "size": "2",
                        "side": "BUY",
                        "time": "2024-08-09T12:00:00Z",
                    }
                ],
            }
        ],
    },
    ("coinbase", "quotes"): {
        "channel": "ticker",
        "client_id": "",
        "timestamp": "2024-08-09T12:00:00Z",
        "sequence_num": 1,
        "events": [
            {
                "type": "update",
                "tickers": [
                    {
                        "type": "ticker",
                        "product_id": "BTC-USD",
                        "price": "1.5",
                        "best_bid": "1.4",
                        "best_bid_quantity": "1",
                        "best_ask": "1.6",
                        "best_ask_quantity": "1",
                    }
                ],
            }
        ],
    },
}
EDGES = [
    *("", "\0", "\ud7ff", "\ue000", "\U0010ffff", "Z" * 15 + "\ud7ff" + "X", "\U0010ffff" * 40, "é" * 5_000, "\ud800"),
    *("-1", "1e400", "NaN", "9" * 400, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "10000-01-01T00:00:00Z"),
    *("2010-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2024-08-09T12:00:00." + "9" * 300 + "Z"),
]
NUMBERS = [
    0,
    -1,
    1,
    (1 << 62),
    (1 << 63) - 1,
    1 << 63,
    1 << 70,
    -(1 << 63),
    -(1 << 70),
    10**15,
    253402300800000,
    10**18,
]
TEXTS = st.sampled_from(EDGES) | st.text(st.characters(codec=None), max_size=40)
VALUES = TEXTS | st.sampled_from(NUMBERS) | st.integers() | st.none() | st.floats() | st.booleans()


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from _leaves(each, (*path, key))
    if not isinstance(value, dict | list):
        yield path


@st.composite
def nasty(draw: st.DrawFn, frame: dict[str, Any]) -> bytes:
    """A good frame with nasty values in some of its fields, as JSON of either spelling."""
    changed = json.loads(json.dumps(frame))
    for path in draw(st.lists(st.sampled_from(list(_leaves(frame))), min_size=1, max_size=2, unique=True)):
        at = changed
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = draw(VALUES)
    return json.dumps(changed, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


@st.composite
def envelope(draw: st.DrawFn, frame: dict[str, Any]) -> bytes:
    """A frame in an envelope whose texts are a feed's, or anything that is UTF-8."""
    text = st.sampled_from(["trade", "BTCUSDT"]) | st.sampled_from(EDGES[:8]) | st.text(max_size=30)
    encoder = Encoder(OURS, draw(text), draw(text))
    received_ns = draw(st.sampled_from([NOON_NS, NOON_NS, NOON_NS, 0, 1, (1 << 62) - 1]))
    return encoder.encode(received_ns, draw(st.integers(0, 1 << 40)), draw(text), draw(text), draw(nasty(frame)))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrainedLake]:
    made = DrainedLake(tmp_path_factory.mktemp("nasty"))
    ensure_tables(made.catalog, made.namespace, all_tables(tuple(VENUES)))
    yield made
    made.catalog.close()


partitions = count()


@pytest.mark.parametrize(("venue", "data"), FRAMES, ids=str)
def test_every_message_is_stored(lake: DrainedLake, venue: str, data: Data) -> None:
    module: Venue = VENUES[venue]

    @given(st.lists(envelope(FRAMES[venue, data]), min_size=40, max_size=40))
    @settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
    def stored(values: list[bytes]) -> None:
        partition = next(partitions)

        lake.drain(*values, partition=partition, venue=module, data=data)

        found = [row for row in lake.rows(bronze(venue, data)) if row["kafka_partition"] == partition]
        assert len(found) == len(values)
        reasons = [row["reason"] for row in lake.rows(silver_rejected(venue)) if row["kafka_partition"] == partition]
        assert not {"not_storable", "parser_failed"} & set(reasons), "it is stored as it was read"
        assert all(row["message_id"] for row in lake.rows(silver(venue, data)))

    stored()
