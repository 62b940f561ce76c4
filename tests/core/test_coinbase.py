import json
from pathlib import Path

import pytest

from k2_core.instruments import Instrument
from k2_core.quotes import VenueQuote, condition, quote_id
from k2_core.trades import BadTrade, VenueTrade
from k2_core.venues import coinbase
from k2_core.venues.replies import Reply
from k2_core.venues.routing import Route
from tests.core.venue_frames import (
    COINBASE_TRADE,
    LEFT_OUT,
    coinbase_frame,
    coinbase_quote,
    coinbase_quotes,
    coinbase_trade,
    coinbase_trades,
    reason_of,
)

T_US = 1_775_572_202_789_012  # 2026-04-07T14:30:02.789012Z


def only_quote(**fields: object) -> VenueQuote:
    found = coinbase.parse_quotes(coinbase_quotes(coinbase_quote(**fields)))
    assert found is not None
    (quote,) = found
    assert isinstance(quote, VenueQuote), quote
    return quote


def test_parse_takes_every_trade_of_the_recorded_frame_field_by_field(recordings: Path) -> None:
    payload = (recordings / "coinbase_advanced_market_trades.json").read_bytes()

    # The venue names the maker's side: the aggressor's is the opposite.
    assert coinbase.parse(payload) == [
        VenueTrade("BTC-USD", "995098700", 995098700, "68900.50", "0.00150000", T_US, T_US, "SELL"),
        VenueTrade("BTC-USD", "995098701", 995098701, "68900.00", "0.05000000", T_US + 10_988, T_US, "BUY"),
    ]
    assert coinbase.route(payload) == Route("trade", "BTC-USD", (("BTC-USD", 995098700, 995098701),), 5)


def test_parse_quotes_takes_the_recorded_frame_field_by_field(recordings: Path) -> None:
    payload = (recordings / "coinbase_advanced_ticker.json").read_bytes()
    identity = quote_id("2026-04-07T14:30:03Z", "68900", "1.5", "68901", "0.5")
    at_us = 1_775_572_203_000_000

    assert coinbase.parse_quotes(payload) == [
        VenueQuote("BTC-USD", identity, None, "68900.00", "1.50000000", "68901.00", "0.50000000", at_us, at_us)
    ]
    assert coinbase.route(payload) == Route("quote", "BTC-USD", (), 12)


@pytest.mark.parametrize(("name", "acknowledged"), [("heartbeats", False), ("subscriptions", True)])
def test_recorded_control_frames_carry_the_connections_count(recordings: Path, name: str, acknowledged: bool) -> None:
    payload = (recordings / f"coinbase_advanced_{name}.json").read_bytes()

    assert coinbase.parse(payload) is None
    assert coinbase.parse_quotes(payload) is None
    assert coinbase.route(payload) == Route("control", connection_sequence=0)
    about = (("trades", "BTC-USD"), ("trades", "ETH-USD"))
    assert coinbase.reply_of(payload) == (Reply(accepted=True, subscriptions=about) if acknowledged else None)


@pytest.mark.parametrize("payload", [b'{"type":"error","message":"rate limit exceeded"}', coinbase_trades()])
def test_an_error_and_a_frame_without_trades_are_control_frames(payload: bytes) -> None:
    assert coinbase.parse(payload) is None
    assert coinbase.route(payload).channel == "control"
    reply = coinbase.reply_of(payload)
    assert reply is None or reply == Reply(accepted=False, text="rate limit exceeded")


def test_all_events_and_symbols_of_a_frame_are_read_in_order() -> None:
    events = [
        {"type": "snapshot", "trades": [coinbase_trade(trade_id=str(each)) for each in (9, 8, 7)]},
        {
            "type": "update",
            "trades": [coinbase_trade(trade_id="4", product_id="ETH-USD"), coinbase_trade(trade_id="10")],
        },
    ]
    payload = coinbase_frame("market_trades", events)

    found = coinbase.parse(payload)
    assert found is not None
    assert [trade.trade_id for trade in found if isinstance(trade, VenueTrade)] == ["9", "8", "7", "4", "10"]
    assert coinbase.route(payload) == Route("trade", "", (("BTC-USD", 7, 10), ("ETH-USD", 4, 4)), 5)


def test_an_event_that_cannot_be_read_hides_no_other() -> None:
    events = [{"type": "update"}, 7, {"type": "update", "trades": [coinbase_trade()]}]

    found = coinbase.parse(coinbase_frame("market_trades", events))
    assert found is not None
    assert [getattr(item, "reason", "trade") for item in found] == ["missing_field", "wrong_type", "trade"]


def test_digits_beyond_microseconds_are_cut_off() -> None:
    found = coinbase.parse(coinbase_trades(coinbase_trade(time="2026-04-07T14:30:02.789012999Z")))
    assert found is not None
    assert found[0].event_us == T_US


def test_a_trade_without_its_messages_time_or_count_is_still_a_trade() -> None:
    for envelope in ({"timestamp": LEFT_OUT, "sequence_num": LEFT_OUT}, {"timestamp": 7, "sequence_num": "x"}):
        payload = coinbase_trades(coinbase_trade(), **envelope)
        found = coinbase.parse(payload)
        assert found is not None
        assert isinstance(found[0], VenueTrade)
        assert found[0].published_us is None
        assert coinbase.route(payload) == Route("trade", "BTC-USD", (("BTC-USD", 995098700, 995098700),))


@pytest.mark.parametrize("name", list(COINBASE_TRADE))
def test_a_field_of_a_trade_that_is_missing_or_null_or_of_another_type_is_said(name: str) -> None:
    for value, reason in ((LEFT_OUT, "missing_field"), (None, "missing_field"), (1, "wrong_type")):
        payload = coinbase_trades(coinbase_trade(**{name: value}))
        assert reason_of(coinbase.parse, payload) == reason
        (bad,) = coinbase.parse(payload) or ()
        assert isinstance(bad, BadTrade)
        assert f"field {name} " in bad.detail
        assert bad.event_us == (None if name == "time" else T_US)
        assert coinbase.route(payload) == Route("unreadable", connection_sequence=5)


@pytest.mark.parametrize("name", ["product_id", "best_bid", "best_bid_quantity", "best_ask", "best_ask_quantity"])
def test_a_field_of_a_quote_that_is_missing_or_of_another_type_is_said(name: str) -> None:
    for value, reason in ((LEFT_OUT, "missing_field"), (1, "wrong_type")):
        assert reason_of(coinbase.parse_quotes, coinbase_quotes(coinbase_quote(**{name: value}))) == reason


@pytest.mark.parametrize(
    ("time", "reason"), [(LEFT_OUT, "missing_field"), ("", "missing_field"), ("now", "wrong_type")]
)
def test_a_quote_needs_its_messages_time(time: object, reason: str) -> None:
    payload = coinbase_quotes(coinbase_quote(), timestamp=time)

    assert reason_of(coinbase.parse_quotes, payload) == reason
    assert coinbase.route(payload) == Route("unreadable", connection_sequence=5)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "malformed_json"),
        (coinbase_trades(coinbase_trade())[:-5], "malformed_json"),
        (b"[]", "wrong_type"),
        (b"{}", "unknown_event"),
        (b'{"channel":[1]}', "wrong_type"),
        (b'{"channel":"l2_data","events":[]}', "unknown_event"),
        (b'{"channel":"ticker_batch","events":[]}', "unknown_event"),
        (coinbase_quotes(coinbase_quote()), "unknown_event"),
        (b'{"channel":"market_trades"}', "missing_field"),
        (b'{"channel":"market_trades","events":{}}', "wrong_type"),
        (coinbase_trades(7), "wrong_type"),
        (coinbase_trades(coinbase_trade(side="buy")), "wrong_type"),
        (coinbase_trades(coinbase_trade(side="UNKNOWN_ORDER_SIDE")), "wrong_type"),
        (coinbase_trades(coinbase_trade(trade_id="")), "wrong_type"),
        (coinbase_trades(coinbase_trade(trade_id="-1")), "wrong_type"),
        (coinbase_trades(coinbase_trade(trade_id="007")), "wrong_type"),
        (coinbase_trades(coinbase_trade(trade_id="１２")), "wrong_type"),
        (coinbase_trades(coinbase_trade(trade_id=str(1 << 63))), "number_out_of_range"),
        (coinbase_trades(coinbase_trade(trade_id="9" * 5000)), "number_out_of_range"),
        (coinbase_trades(coinbase_trade(trade_id="9" * 5000 + "x")), "wrong_type"),
        (coinbase_trades(coinbase_trade(time="2026-04-07 14:30:02Z")), "wrong_type"),
    ],
)
def test_what_cannot_be_a_trade_is_refused_with_its_reason(payload: bytes, reason: str) -> None:
    assert reason_of(coinbase.parse, payload) == reason


@pytest.mark.parametrize(
    ("fields", "sides", "unusual"),
    [
        ({"best_bid": "", "best_bid_quantity": ""}, (None, None, "68901.00", "0.5"), "one_sided"),
        ({"best_ask": "0", "best_ask_quantity": "0.00"}, ("68900.00", "1.5", None, None), "one_sided"),
        ({"best_ask": None, "best_ask_quantity": None}, ("68900.00", "1.5", None, None), "one_sided"),
        ({"best_bid": "68901"}, ("68901", "1.5", "68901.00", "0.5"), "locked"),
        ({"best_bid": "68902"}, ("68902", "1.5", "68901.00", "0.5"), "crossed"),
    ],
)
def test_unusual_quotes_are_kept_and_known(
    fields: dict[str, object], sides: tuple[str | None, ...], unusual: str
) -> None:
    quote = only_quote(**fields)

    assert (quote.bid_price, quote.bid_quantity, quote.ask_price, quote.ask_quantity) == sides
    assert condition(quote) == unusual


def test_quotes_that_differ_only_below_a_microsecond_are_two() -> None:
    first, second = (
        coinbase.parse_quotes(coinbase_quotes(coinbase_quote(), timestamp=f"2026-04-07T14:30:02.78901234{digit}Z"))
        for digit in (5, 6)
    )
    assert first is not None
    assert second is not None
    assert isinstance(first[0], VenueQuote)
    assert isinstance(second[0], VenueQuote)
    assert first[0].event_us == second[0].event_us == T_US
    assert first[0].quote_id != second[0].quote_id


@pytest.mark.parametrize(
    ("venue_symbol", "expected"),
    [
        ("BTC-USD", Instrument("BTCUSD", "BTC", "USD")),
        ("USDT-USDC", Instrument("USDTUSDC", "USDT", "USDC")),
        ("BIT-28JUL23-CDE", None),
        ("BTC-PERP-INTX", None),
        ("BTCUSD", None),
        ("-USD", None),
        ("BTC-", None),
        ("", None),
    ],
)
def test_instrument_of_splits_base_and_quote_or_says_none(venue_symbol: str, expected: Instrument | None) -> None:
    assert coinbase.instrument_of(venue_symbol) == expected


def test_heartbeats_are_always_subscribed_to() -> None:
    frames = [json.loads(frame) for frame in coinbase.subscribe_frames(("BTC-USD", "ETH-USD"), ("trades", "quotes"))]

    assert [frame["channel"] for frame in frames] == ["heartbeats", "market_trades", "ticker"]
    assert frames[1]["product_ids"] == frames[2]["product_ids"] == ["BTC-USD", "ETH-USD"]
    assert coinbase.stream_url("wss://host/") == "wss://host"
