import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_core.instruments import Instrument
from k2_core.quotes import VenueQuote, condition, quote_id
from k2_core.trades import BadTrade, VenueTrade, check
from k2_core.venues import kraken
from k2_core.venues.replies import Reply
from k2_core.venues.routing import Data, Route
from tests.core.venue_frames import (
    KRAKEN_QUOTE,
    KRAKEN_TRADE,
    LEFT_OUT,
    kraken_quote,
    kraken_quotes,
    kraken_trade,
    kraken_trades,
    reason_of,
)

T_US = 1_696_613_755_440_295  # 2023-10-06T17:35:55.440295Z


def only_trade(**texts: object) -> VenueTrade:
    found = kraken.parse(kraken_trades(kraken_trade(**texts)))
    assert found is not None
    (trade,) = found
    assert isinstance(trade, VenueTrade), trade
    return trade


def only_quote(**texts: object) -> VenueQuote:
    found = kraken.parse_quotes(kraken_quotes(kraken_quote(**texts)))
    assert found is not None
    (quote,) = found
    assert isinstance(quote, VenueQuote), quote
    return quote


def test_parse_takes_every_trade_of_the_recorded_frame_field_by_field(recordings: Path) -> None:
    payload = (recordings / "kraken_v2_trade_update.json").read_bytes()

    assert kraken.parse(payload) == [
        VenueTrade("BTC/USD", "10218208", 10218208, "105944.20", "0.00027625", T_US, None, "BUY"),
        VenueTrade("BTC/USD", "10218209", 10218209, "105910.50", "0.00012460", 1_696_613_756_123_456, None, "SELL"),
    ]
    assert kraken.route(payload) == Route("trade", "BTC/USD", (("BTC/USD", 10218208, 10218209),))


def test_parse_quotes_takes_the_recorded_frame_field_by_field(recordings: Path) -> None:
    payload = (recordings / "kraken_v2_ticker_snapshot.json").read_bytes()
    identity = quote_id("2022-12-25T09:30:59.123456Z", "105944.2", "2.5", "105944.3", "3.2")

    assert kraken.parse_quotes(payload) == [
        VenueQuote("BTC/USD", identity, None, "105944.20", "2.5", "105944.30", "3.2", 1_671_960_659_123_456, None)
    ]
    assert kraken.route(payload) == Route("quote", "BTC/USD")


def test_the_recorded_answer_acknowledges_a_subscription(recordings: Path) -> None:
    payload = (recordings / "kraken_v2_subscribe_response.json").read_bytes()

    assert kraken.reply_of(payload) == Reply(accepted=True, subscriptions=(("quotes", "BTC/USD"),))
    assert kraken.parse(payload) is None
    assert kraken.parse_quotes(payload) is None
    assert kraken.route(payload) == Route("control")


@pytest.mark.parametrize(
    "payload",
    [
        b'{"channel":"heartbeat"}',
        b'{"channel":"status","type":"update","data":[{"api_version":"v2","system":"online","version":"2.0.4"}]}',
        b'{"method":"pong","req_id":1,"time_in":"2023-09-24T14:10:23.799685Z"}',
        b'{"error":"Currency pair not supported FOO/BAR","method":"subscribe","req_id":2,"success":false,'
        b'"symbol":"FOO/BAR","time_in":"2023-09-25T09:04:31.742599Z","time_out":"2023-09-25T09:04:31.742648Z"}',
        b'{"error":"Exceeded msg rate"}',
        b'{"channel":"trade","type":"snapshot","data":[]}',
    ],
)
def test_control_frames_are_neither_trades_nor_an_acknowledgement(payload: bytes) -> None:
    assert kraken.parse(payload) is None
    assert kraken.route(payload) == Route("control")
    reply = kraken.reply_of(payload)
    assert reply is None or not reply.accepted


def test_a_refusal_is_about_all_that_was_asked_for_of_its_symbol() -> None:
    payload = b'{"error":"Currency pair not supported FOO/BAR","method":"subscribe","success":false,"symbol":"FOO/BAR"}'

    about = (("trades", "FOO/BAR"), ("quotes", "FOO/BAR"))
    assert kraken.reply_of(payload) == Reply(False, about, "Currency pair not supported FOO/BAR")


@pytest.mark.parametrize("data", ["trades", "quotes"])
def test_a_refusal_that_says_its_request_is_about_the_channel_of_that(data: Data) -> None:
    for frame in kraken.subscribe_frames(("BTC/USD", "FOO/BAR", "ETH/USD"), (data,)):
        asked = json.loads(frame)
        (symbol,) = asked["params"]["symbol"]
        refusal = {"method": "subscribe", "success": False, "error": "no", "symbol": symbol, "req_id": asked["req_id"]}
        assert kraken.reply_of(json.dumps(refusal).encode()) == Reply(False, ((data, symbol),), "no")


@given(st.decimals(min_value=0, max_value=10**15, places=12).filter(lambda number: number > 0), st.integers(-4, 4))
def test_a_number_is_exactly_what_the_venue_wrote(number: Decimal, exponent: int) -> None:
    for text in (f"{number:f}", f"{number:f}e{exponent}", f"{number:f}E{exponent:+03}"):
        trade = only_trade(price=text)
        assert trade.price == text
        assert Decimal(trade.price) == Decimal(text)


def test_a_number_with_an_exponent_can_become_a_row() -> None:
    check(only_trade(price="1.05e-7", qty="1E+3"), Instrument("BTCUSD", "BTC", "USD"), 2 * T_US * 1000)


def test_ids_out_of_order_are_one_run_and_a_hole_within_a_frame_splits_them() -> None:
    trades = [kraken_trade(trade_id=str(each)) for each in (12, 10, 11, 15, 14)]
    other = kraken_trade(symbol='"ETH/USD"', trade_id="3")

    assert kraken.route(kraken_trades(*trades)).runs == (("BTC/USD", 10, 12), ("BTC/USD", 14, 15))
    both = kraken.route(kraken_trades(*trades, other))
    assert both == Route("trade", "", (("BTC/USD", 10, 12), ("BTC/USD", 14, 15), ("ETH/USD", 3, 3)))


def test_a_snapshot_is_read_like_an_update() -> None:
    trades = [kraken_trade(trade_id=str(each)) for each in range(50)]

    found = kraken.parse(kraken_trades(*trades, kind="snapshot"))
    assert found is not None
    assert [trade.sequence for trade in found if isinstance(trade, VenueTrade)] == list(range(50))


@pytest.mark.parametrize("name", [name for name in KRAKEN_TRADE if name != "ord_type"])
def test_a_field_of_a_trade_that_is_missing_or_null_or_of_another_type_is_said(name: str) -> None:
    for text, reason in ((LEFT_OUT, "missing_field"), ("null", "missing_field"), ("[1]", "wrong_type")):
        payload = kraken_trades(kraken_trade(**{name: text}))
        assert reason_of(kraken.parse, payload) == reason
        (bad,) = kraken.parse(payload) or ()
        assert isinstance(bad, BadTrade)
        assert f"field {name} " in bad.detail
        assert bad.event_us == (None if name == "timestamp" else T_US)
        assert kraken.route(payload) == Route("unreadable")


@pytest.mark.parametrize("name", list(KRAKEN_QUOTE))
def test_a_field_of_a_quote_that_is_missing_or_of_another_type_is_said(name: str) -> None:
    if name != "timestamp":  # without which a quote is stamped at its receipt
        assert reason_of(kraken.parse_quotes, kraken_quotes(kraken_quote(**{name: LEFT_OUT}))) == "missing_field"
    assert reason_of(kraken.parse_quotes, kraken_quotes(kraken_quote(**{name: "[1]"}))) == "wrong_type"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "malformed_json"),
        (b'{"channel":"trade","data":[{"price":01}]}', "malformed_json"),
        (kraken_trades(kraken_trade())[:-5], "malformed_json"),
        (b"[]", "wrong_type"),
        (b"{}", "unknown_event"),
        (b'{"channel":null}', "unknown_event"),
        (b'{"channel":[1]}', "wrong_type"),
        (b'{"channel":"book","data":[]}', "unknown_event"),
        (kraken_quotes(kraken_quote()), "unknown_event"),
        (b'{"channel":"trade"}', "missing_field"),
        (b'{"channel":"trade","data":null}', "missing_field"),
        (b'{"channel":"trade","data":{}}', "wrong_type"),
        (b'{"channel":"trade","data":[7]}', "wrong_type"),
        (b'{"channel":"trade","data":null,"data":[]}', "wrong_type"),
        (kraken_trades(kraken_trade(price='"105944.20"')), "wrong_type"),
        (kraken_trades(kraken_trade(price='"\xff"')), "wrong_type"),
        (kraken_trades(kraken_trade(side='"BUY"')), "wrong_type"),
        (kraken_trades(kraken_trade(trade_id="-1")), "wrong_type"),
        (kraken_trades(kraken_trade(trade_id="1.0")), "wrong_type"),
        (kraken_trades(kraken_trade(trade_id=str(1 << 63))), "number_out_of_range"),
        (kraken_trades(kraken_trade(trade_id="9" * 5000)), "number_out_of_range"),
        (kraken_trades(kraken_trade(timestamp='"yesterday"')), "wrong_type"),
        (kraken_trades(kraken_trade(timestamp='"0001-01-01T00:00:00Z"')), "wrong_type"),
    ],
)
def test_what_cannot_be_a_trade_is_refused_with_its_reason(payload: bytes, reason: str) -> None:
    assert reason_of(kraken.parse, payload) == reason


@pytest.mark.parametrize(
    ("texts", "sides", "unusual"),
    [
        ({"bid": "null", "bid_qty": "null"}, (None, None, "105944.30", "3.2"), "one_sided"),
        ({"ask": "0", "ask_qty": "0.0"}, ("105944.20", "2.5", None, None), "one_sided"),
        ({"bid": "105944.31"}, ("105944.31", "2.5", "105944.30", "3.2"), "crossed"),
        ({"bid": "105944.3"}, ("105944.3", "2.5", "105944.30", "3.2"), "locked"),
        ({}, ("105944.20", "2.5", "105944.30", "3.2"), None),
    ],
)
def test_unusual_quotes_are_kept_and_known(
    texts: dict[str, str], sides: tuple[str | None, ...], unusual: str | None
) -> None:
    quote = only_quote(**texts)

    assert (quote.bid_price, quote.bid_quantity, quote.ask_price, quote.ask_quantity) == sides
    assert condition(quote) == unusual


@pytest.mark.parametrize(
    ("venue_symbol", "expected"),
    [
        ("BTC/USD", Instrument("BTCUSD", "BTC", "USD")),
        ("XBT/USD", Instrument("BTCUSD", "BTC", "USD")),
        ("XDG/XBT", Instrument("DOGEBTC", "DOGE", "BTC")),
        ("1INCH/EUR", Instrument("1INCHEUR", "1INCH", "EUR")),
        ("BTCUSD", None),
        ("/USD", None),
        ("BTC/", None),
        ("A/B/C", None),
        ("A|B/USD", None),
        ("", None),
    ],
)
def test_instrument_of_splits_base_and_quote_or_says_none(venue_symbol: str, expected: Instrument | None) -> None:
    assert kraken.instrument_of(venue_symbol) == expected


def test_each_symbol_is_subscribed_to_by_a_frame_of_its_own() -> None:
    frames = [json.loads(frame) for frame in kraken.subscribe_frames(("BTC/USD", "ETH/USD"), ("trades", "quotes"))]

    assert [frame["req_id"] for frame in frames] == [1, 3, 2, 4]
    assert frames[0]["params"] == {"channel": "trade", "symbol": ["BTC/USD"], "snapshot": True}
    quotes = {"channel": "ticker", "symbol": ["ETH/USD"], "event_trigger": "bbo", "snapshot": True}
    assert frames[3]["params"] == quotes
    assert kraken.stream_url("wss://host/") == "wss://host/v2"


@pytest.mark.parametrize("timestamp", [LEFT_OUT, "null"])
def test_a_quote_without_a_time_is_stamped_at_receipt_and_known_by_all_that_it_says(timestamp: str) -> None:
    def read(**fields: str) -> VenueQuote:
        payload = kraken_quotes(kraken_quote(timestamp=timestamp, **fields))
        assert kraken.route(payload).channel == "quote"
        (quote,) = kraken.parse_quotes(payload) or ()
        assert isinstance(quote, VenueQuote)
        return quote

    one = read()
    assert (one.event_us, one.published_us, one.sequence) == (None, None, None)
    assert read().quote_id == one.quote_id
    assert read(bid="1.25").quote_id != one.quote_id
    assert read(volume="99.5").quote_id != one.quote_id  # the same sides after others are another quote
