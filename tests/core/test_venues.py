"""What holds for every venue's parsers: any bytes, any JSON, and real frames with anything changed."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k2_core.errors import MalformedFrame
from k2_core.quotes import BadQuote, VenueQuote
from k2_core.trades import REASONS, BadTrade, VenueTrade
from k2_core.venues import VENUES
from k2_core.venues.venue_protocol import Venue
from tests.core.venue_frames import (
    COINBASE_QUOTE,
    COINBASE_TRADE,
    KRAKEN_QUOTE,
    KRAKEN_TRADE,
    coinbase_quote,
    coinbase_quotes,
    coinbase_trade,
    coinbase_trades,
    kraken_quote,
    kraken_quotes,
    kraken_trade,
    kraken_trades,
    recorded,
)

EVERY_VENUE = pytest.mark.parametrize("venue", [pytest.param(module, id=name) for name, module in VENUES.items()])
TOPICS = st.sampled_from(["trade", "ticker", "market_trades", "heartbeats", "update", "BTC-USD", "btcusdt@bookTicker"])
TIMES = st.sampled_from(["2026-04-07T14:30:02.789012Z", "2026-04-07T14:30:02Z", "0001-01-01T00:00:00Z", "now"])
ENVELOPES = [
    "channel",
    "data",
    "events",
    "trades",
    "tickers",
    "stream",
    "e",
    "type",
    "method",
    "sequence_num",
    "timestamp",
]
NAMES = st.sampled_from([*ENVELOPES, *KRAKEN_TRADE, *KRAKEN_QUOTE, *COINBASE_TRADE, *COINBASE_QUOTE, *"uUbBaAstpqTmE"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | TOPICS | TIMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=8),
    max_leaves=16,
)
FRAMES = {
    "binance": [
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,'
        b'"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}',
        b'{"stream":"btcusdt@bookTicker","data":{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000",'
        b'"a":"61837.64000000","A":"1.54698000"}}',
    ],
    "kraken": [kraken_trades(kraken_trade(), kraken_trade(trade_id="9")), kraken_quotes(kraken_quote())],
    "coinbase": [coinbase_trades(coinbase_trade(), coinbase_trade(trade_id="9")), coinbase_quotes(coinbase_quote())],
}
"""A frame of trades and one of quotes of each venue."""


def hold_all(venue: Venue, payload: bytes) -> None:
    """Assert what must hold of any payload whatever."""
    route = venue.route(payload)
    route.symbol.encode()
    reply = venue.reply_of(payload)
    if reply is not None:
        assert reply.accepted <= (not reply.text)
        assert all(data in {"trades", "quotes"} and symbol.encode() is not None for data, symbol in reply.subscriptions)
    assert route.connection_sequence is None or 0 <= route.connection_sequence < 1 << 63
    trades, quotes = outcome(venue.parse, payload), outcome(venue.parse_quotes, payload)
    if isinstance(trades, list):
        _hold_trades(route, trades)
    elif trades is None:
        assert route.channel == "control"
    elif isinstance(quotes, list):
        _hold_quotes(route, quotes)
    elif quotes is None:  # a frame of quotes without any
        assert route.channel == "quote"
    else:
        assert route.channel in {"other", "unreadable"}
    if route.channel != "trade":
        assert route.runs == ()


def outcome(parse: Any, payload: bytes) -> list[Any] | str | None:
    try:
        found: list[Any] | None = parse(payload)
    except MalformedFrame as error:
        assert error.reason in REASONS  # noqa: PT017  # most payloads raise, not all
        error.detail.encode()
        return error.reason
    assert found != []
    return found


def _hold_trades(route: Any, trades: list[VenueTrade | BadTrade]) -> None:
    carried: set[tuple[str, int]] = set()
    for trade in trades:
        if isinstance(trade, BadTrade):
            _hold_bad(trade)
            continue
        assert 0 <= trade.sequence < 1 << 63
        assert trade.trade_id == str(trade.sequence)
        assert 0 <= trade.event_us < 1 << 62
        carried.add((trade.venue_symbol, trade.sequence))
    assert route.channel == ("trade" if carried else "unreadable")
    assert {(symbol, each) for symbol, first, last in route.runs for each in range(first, last + 1)} == carried


def _hold_quotes(route: Any, quotes: list[VenueQuote | BadQuote]) -> None:
    whole = [quote for quote in quotes if isinstance(quote, VenueQuote)]
    for quote in quotes:
        if isinstance(quote, BadQuote):
            _hold_bad(quote)
    for quote in whole:
        quote.quote_id.encode()
        assert quote.event_us is None or 0 <= quote.event_us < 1 << 62
    assert route.channel == ("quote" if whole else "unreadable")


def _hold_bad(item: BadTrade | BadQuote) -> None:
    assert item.reason in REASONS
    assert len(item.detail.encode()) < 2_000


@EVERY_VENUE
@given(payload=st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_and_any_json_are_read_or_refused(venue: Venue, payload: bytes) -> None:
    hold_all(venue, payload)


@EVERY_VENUE
@given(data=st.data())
@settings(max_examples=300)
def test_frames_with_any_value_put_in_are_read_or_refused(venue: Venue, data: st.DataObject) -> None:
    frame = json.loads(data.draw(st.sampled_from(FRAMES[venue.VENUE])))
    for _ in range(data.draw(st.integers(1, 2))):
        holder, key = data.draw(st.sampled_from(places(frame)))
        holder[key] = data.draw(JSON)
    hold_all(venue, json.dumps(frame).encode())


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place within a JSON value, as its holder and the key there."""
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    found = [(value, key) for key in keys]
    return found + [place for key in keys if isinstance(value[key], dict | list) for place in places(value[key])]


@EVERY_VENUE
@given(data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_real_frames_with_bytes_changed_are_read_or_refused(
    venue: Venue, recordings: Path, data: st.DataObject
) -> None:
    frame = bytearray(data.draw(st.sampled_from(recorded(recordings, venue.VENUE))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(frame)))
        frame[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4) | TIMES.map(str.encode))
    hold_all(venue, bytes(frame))


@EVERY_VENUE
def test_each_reading_agrees_on_every_real_frame(venue: Venue, recordings: Path) -> None:
    frames = recorded(recordings, venue.VENUE)

    assert len(frames) >= 3
    for frame in frames:
        hold_all(venue, frame)
        assert venue.route(frame).channel in {"trade", "quote", "control", "other"}


@EVERY_VENUE
def test_other_venues_frames_are_never_mistaken_for_this_ones(venue: Venue, recordings: Path) -> None:
    others = [frame for name in VENUES if name != venue.VENUE for frame in recorded(recordings, name)]
    others += [path.read_bytes() for path in sorted(recordings.glob("bybit_*.json"))]

    assert len(others) > 8
    for frame in others:
        assert venue.route(frame).channel in {"other", "unreadable", "control"}, frame


@EVERY_VENUE
@pytest.mark.parametrize("depth", [150, 201, 5_000, 100_000])
def test_a_frame_that_nests_deep_is_refused_and_never_overflows(venue: Venue, depth: int) -> None:
    for frame in FRAMES[venue.VENUE]:
        deep = frame[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}"
        hold_all(venue, deep)
        assert venue.route(deep).channel == ("unreadable" if depth > 200 else venue.route(frame).channel)


@pytest.mark.parametrize("name", ["kraken", "coinbase"])
def test_a_bad_item_never_hides_its_neighbours(name: str) -> None:
    venue = VENUES[name]
    trades = {
        "kraken": kraken_trades(kraken_trade(trade_id="7"), kraken_trade(price='"1"'), "null", kraken_trade()),
        "coinbase": coinbase_trades(coinbase_trade(trade_id="7"), coinbase_trade(price=1), None, coinbase_trade()),
    }[name]

    found = venue.parse(trades)
    assert [type(item).__name__ for item in found] == ["VenueTrade", "BadTrade", "BadTrade", "VenueTrade"]
    assert found[0] != found[3] == venue.parse(FRAMES[name][0])[0]
    hold_all(venue, trades)


@EVERY_VENUE
def test_a_subscription_names_every_symbol_once_for_each_kind_of_data(venue: Venue) -> None:
    for data, count in ((("trades",), 1), (("quotes",), 1), (("trades", "quotes"), 2)):
        text = b"".join(venue.subscribe_frames(("AAA1", "BBB2"), data)).lower()
        assert (text.count(b"aaa1"), text.count(b"bbb2")) == (count, count)
