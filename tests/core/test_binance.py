import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from k2_core.errors import MalformedFrame
from k2_core.instruments import Instrument
from k2_core.quotes import BadQuote, VenueQuote, condition
from k2_core.trades import REASONS, BadTrade, VenueTrade
from k2_core.venues import binance
from k2_core.venues.replies import Reply
from k2_core.venues.routing import Route
from tests.core.venue_frames import recorded

T_MS = 1_723_161_255_342
TRADE = {"e": "trade", "E": T_MS + 1, "s": "BTCUSDT", "t": 7, "p": "61837.63", "q": "0.02", "T": T_MS, "m": True}


def a_frame(stream: str = "btcusdt@trade", **fields: Any) -> bytes:
    return json.dumps({"stream": stream, "data": TRADE | fields}).encode()


def without(name: str) -> bytes:
    return json.dumps(
        {"stream": "btcusdt@trade", "data": {key: value for key, value in TRADE.items() if key != name}}
    ).encode()


def spelled(name: str, value: bytes) -> bytes:
    """A frame in which one field is written just so."""
    return a_frame(**{name: "@@"}).replace(b'"@@"', value)


def only_trade(payload: bytes) -> VenueTrade | BadTrade:
    found = binance.parse(payload)
    assert found is not None
    (trade,) = found
    return trade


def reason_of(payload: bytes) -> str:
    """Why a frame, or its one trade, is refused."""
    try:
        trade = only_trade(payload)
    except MalformedFrame as error:
        return error.reason
    assert isinstance(trade, BadTrade), trade
    return trade.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*TRADE, "data", "stream"]), inner),
    max_leaves=12,
)
NEAR_TRADES = st.fixed_dictionaries(
    {"stream": st.just("btcusdt@trade") | JSON, "data": st.dictionaries(st.sampled_from(list(TRADE)), JSON)}
).map(lambda frame: {**frame, "data": TRADE | frame["data"]})


def test_parse_reads_a_trade_and_its_aggressor() -> None:
    assert only_trade(a_frame()) == VenueTrade(
        venue_symbol="BTCUSDT",
        trade_id="7",
        sequence=7,
        price="61837.63",
        quantity="0.02",
        event_us=T_MS * 1000,
        published_us=(T_MS + 1) * 1000,
        side="SELL",
    )
    bought = only_trade(a_frame(m=False))
    assert isinstance(bought, VenueTrade)
    assert bought.side == "BUY"


def test_parse_keeps_microseconds_when_the_venue_sends_them() -> None:
    trade = only_trade(a_frame(T=T_MS * 1000 + 7, E=T_MS * 1000 + 9))

    assert isinstance(trade, VenueTrade)
    assert (trade.event_us, trade.published_us) == (T_MS * 1000 + 7, T_MS * 1000 + 9)


def test_parse_reads_a_trade_without_a_publishing_time() -> None:
    trade = only_trade(without("E"))

    assert isinstance(trade, VenueTrade)
    assert trade.published_us is None


def test_parse_takes_the_frames_that_the_venue_documents(recordings: Path) -> None:
    trade = only_trade(in_a_stream(recordings / "binance_trade_stream.json"))

    assert isinstance(trade, VenueTrade)
    assert binance.instrument_of(trade.venue_symbol) is not None
    with pytest.raises(MalformedFrame, match="unknown_event"):
        binance.parse(in_a_stream(recordings / "binance_book_ticker_stream.json"))


def in_a_stream(file: Path) -> bytes:
    """One event as the combined stream carries it."""
    return b'{"stream":"btcusdt@trade","data":' + file.read_bytes() + b"}"


def test_other_venues_frames_are_refused_and_never_mistaken(recordings: Path) -> None:
    others = [p for p in recordings.glob("*.json") if not p.name.startswith("binance_") and p.stat().st_size < 10_000]

    assert len(others) >= 5
    for path in others:
        payload = path.read_bytes()
        assert binance.route(payload).channel in {"other", "unreadable", "control"}, path.name
        try:
            assert binance.parse(payload) is None, path.name
        except MalformedFrame as error:
            assert error.reason in REASONS  # noqa: PT017  # a reply of another venue may read as one of this


@pytest.mark.parametrize(
    "payload",
    [b'{"result":null,"id":1}', b'{"error":{"code":2,"msg":"no"},"id":1}', b'{"e":"serverShutdown","E":1770123456789}'],
)
def test_control_frames_are_no_trades(payload: bytes) -> None:
    assert binance.parse(payload) is None
    assert binance.route(payload) == Route("control")


def test_a_reply_accepts_or_refuses_all_streams_of_its_request() -> None:
    assert binance.reply_of(b'{"result":null,"id":1}') == Reply(accepted=True)
    refused = b'{"error":{"code":2,"msg":"Invalid request"},"id":1}'
    assert binance.reply_of(refused) == Reply(accepted=False, text="Invalid request")
    assert binance.reply_of(b'{"code":3,"msg":"Invalid JSON","id":1}') == Reply(accepted=False, text="Invalid JSON")
    assert binance.reply_of(b'{"error":{"code":2},"id":1}') == Reply(accepted=False, text="{'code': 2}")
    for other in (b'{"result":["btcusdt@trade"],"id":1}', b'{"result":null}', b"{", b""):
        assert binance.reply_of(other) is None
    assert binance.reply_of(a_frame()) is None


def test_a_refusal_is_about_the_one_symbol_whose_stream_it_names_and_needs_no_id() -> None:
    text = "Invalid request: unknown stream btc/usdt@trade"
    both = (("trades", "BTC/USDT"), ("quotes", "BTC/USDT"))

    assert binance.reply_of(json.dumps({"error": {"code": 2, "msg": text}}).encode()) == Reply(False, both, text)
    several = f"{text}, ethusdt@bookTicker"
    assert binance.reply_of(json.dumps({"code": 2, "msg": several}).encode()) == Reply(False, text=several)


@pytest.mark.parametrize("name", ["s", "t", "p", "q", "T", "m"])
def test_a_field_that_is_missing_or_null_or_of_another_type_is_said(name: str) -> None:
    assert reason_of(without(name)) == "missing_field"
    assert reason_of(a_frame(**{name: None})) == "missing_field"
    assert reason_of(a_frame(**{name: [1]})) == "wrong_type"
    bad = only_trade(a_frame(**{name: [1]}))
    assert isinstance(bad, BadTrade)
    assert f"field {name} " in bad.detail


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "malformed_json"),
        (b"\xff\xfe", "malformed_json"),
        (a_frame()[:-5], "malformed_json"),
        (b"[]", "wrong_type"),
        (b"null", "wrong_type"),
        (b"{}", "unknown_event"),
        (b'{"stream":"btcusdt@trade","data":null}', "missing_field"),
        (b'{"stream":"btcusdt@trade","data":[1]}', "wrong_type"),
        (b'{"e":"trade"}', "unknown_event"),
        (a_frame(e="aggTrade"), "unknown_event"),
        (a_frame(e=None), "missing_field"),
        (without("e"), "missing_field"),
        (a_frame(t=-1), "wrong_type"),
        (a_frame(t=1 << 63), "number_out_of_range"),
        (a_frame(T=-1), "wrong_type"),
        (a_frame(T=1 << 62), "timestamp_in_future"),
        (a_frame(E=1 << 62), "number_out_of_range"),
        (a_frame(E=-1), "wrong_type"),
        (a_frame(E=10**40), "number_out_of_range"),
        (a_frame(E="now"), "wrong_type"),
        (a_frame(p=61837.63), "wrong_type"),
        (a_frame(m="true"), "wrong_type"),
        (a_frame(m=1), "wrong_type"),
        (a_frame(e=5), "wrong_type"),
        (b'{"stream":"btcusdt@trade"}', "missing_field"),
        (b'{"stream":"btcusdt@aggTrade"}', "unknown_event"),
        (b'{"data":{"s":"BTCUSDT"}}', "missing_field"),
        (spelled("p", b"1e400"), "wrong_type"),
        (spelled("p", b"NaN"), "malformed_json"),
        (spelled("t", b"7.0"), "wrong_type"),
        (spelled("t", b"9007199254740993.0"), "wrong_type"),
        (spelled("t", b"9" * 6000), "number_out_of_range"),
        (spelled("t", b"-" + b"9" * 6000), "wrong_type"),
        (spelled("T", b"9" * 6000), "timestamp_in_future"),
        (spelled("X", b'"\xff"'), "malformed_json"),
        (spelled("X", b'"\\ud800"'), "malformed_json"),
        (spelled("X", b'"\n"'), "malformed_json"),
        (b"\xef\xbb\xbf" + a_frame(), "malformed_json"),
        (a_frame() + b" {}", "malformed_json"),
    ],
)
def test_what_cannot_be_a_trade_is_refused_with_its_reason(payload: bytes, reason: str) -> None:
    assert reason_of(payload) == reason


@pytest.mark.parametrize("event", [T_MS, T_MS * 1000])
def test_a_bad_trade_keeps_its_time_so_that_its_day_can_be_found(event: int) -> None:
    bad = only_trade(a_frame(p=1, T=event))

    assert isinstance(bad, BadTrade)
    assert bad.event_us == T_MS * 1000


@given(
    st.binary(max_size=300)
    | JSON.map(lambda v: json.dumps(v).encode())
    | NEAR_TRADES.map(lambda v: json.dumps(v).encode())
)
@example(b'{"stream":"x","data":{"e":"\\ud800"}}')
@example(b'{"e":"\\ud800"}')
@example(b'{"data":{"t":' + b"9" * 6000 + b"}}")
def test_any_bytes_are_parsed_or_refused_and_always_routed(payload: bytes) -> None:
    binance.reply_of(payload)
    route = binance.route(payload)
    route.symbol.encode()
    try:
        found = binance.parse(payload)
    except MalformedFrame as error:
        assert error.reason in REASONS  # noqa: PT017  # most bytes raise, not all
        error.detail.encode()
        assert route.channel not in {"control", "trade"}
        return
    if found is None:
        assert route.channel == "control"
        return
    for trade in found:
        if isinstance(trade, BadTrade):
            assert trade.reason in REASONS
            trade.detail.encode()
        else:
            assert 0 <= trade.sequence < 1 << 63
            assert 0 <= trade.event_us < 1 << 62
            assert route == Route("trade", trade.venue_symbol, ((trade.venue_symbol, trade.sequence, trade.sequence),))


@pytest.mark.parametrize("depth", [100, 199, 200, 201, 500, 900, 950, 980, 990, 1000, 1100, 5_000, 100_000])
@pytest.mark.parametrize("shape", ["%s", '{"e":%s}', '{"data":%s}', '{"stream":"x@trade","data":{"e":"trade","s":%s}}'])
def test_deep_nesting_is_refused_and_never_overflows(depth: int, shape: str) -> None:
    payload = (shape % ("[" * depth + "]" * depth)).encode()

    assert binance.route(payload).channel in {"unreadable", "other"}
    assert binance.reply_of(payload) is None
    assert reason_of(payload) in REASONS


def at_depth(calls: int, payload: bytes) -> object:
    if calls:
        return at_depth(calls - 1, payload)
    try:
        return binance.parse(payload)
    except MalformedFrame as error:
        return error.reason


@pytest.mark.parametrize("depth", [150, 197, 198, 199, 400, 650, 950])
@pytest.mark.parametrize("extra", ['{"a":', "["])
def test_a_frame_reads_the_same_however_deep_its_reader_stands(depth: int, extra: str) -> None:
    nested = extra * depth + "1" + {"[": "]", '{"a":': "}"}[extra] * depth
    payload = spelled("X", nested.encode())

    shallow = at_depth(0, payload)

    assert at_depth(400, payload) == shallow
    assert isinstance(shallow, list) == (depth <= 198)  # a frame of the venue's nests twice itself


@pytest.mark.parametrize("text", ["[" * 50_000, '\\"' * 50_000, "\\\\"])
def test_brackets_within_a_text_nest_nothing(text: str) -> None:
    payload = spelled("X", f'"{text}"'.encode())

    assert isinstance(only_trade(payload), VenueTrade)
    assert reason_of(payload + b"[" * 201 + b'"' + b'\\"' * 300_000) == "malformed_json"


@pytest.mark.parametrize(
    ("venue_symbol", "expected"),
    [
        ("BTCUSDT", Instrument("BTCUSDT", "BTC", "USDT")),
        ("BTCUSD", Instrument("BTCUSD", "BTC", "USD")),
        ("1000SATSFDUSD", Instrument("1000SATSFDUSD", "1000SATS", "FDUSD")),
        ("ETHBTC", Instrument("ETHBTC", "ETH", "BTC")),
        ("币安人生USDT", Instrument("币安人生USDT", "币安人生", "USDT")),
        ("USDT", None),
        ("BTCXYZ", None),
        ("", None),
        ("btcUSDT", None),
        ("A|BUSDT", None),
        ("\x00USDT", None),
        (" USDT", None),
    ],
)
def test_instrument_of_splits_base_and_quote_or_says_none(venue_symbol: str, expected: Instrument | None) -> None:
    assert binance.instrument_of(venue_symbol) == expected


def test_subscription_names_streams_in_lower_case() -> None:
    (frame,) = binance.subscribe_frames(("BTCUSDT", "ETHBTC"))

    assert json.loads(frame) == {"method": "SUBSCRIBE", "params": ["btcusdt@trade", "ethbtc@trade"], "id": 1}
    assert binance.stream_url("wss://host:9443/") == "wss://host:9443/stream"


QUOTE = {"u": 50093239212, "s": "BTCUSDT", "b": "61837.63", "B": "3.78826", "a": "61837.64", "A": "1.54698"}


def a_quote_frame(stream: str = "btcusdt@bookTicker", **fields: Any) -> bytes:
    return json.dumps({"stream": stream, "data": QUOTE | fields}).encode()


def quote_without(name: str) -> bytes:
    return json.dumps(
        {"stream": "btcusdt@bookTicker", "data": {key: value for key, value in QUOTE.items() if key != name}}
    ).encode()


def only_quote(payload: bytes) -> VenueQuote | BadQuote:
    found = binance.parse_quotes(payload)
    assert found is not None
    (quote,) = found
    return quote


def test_parse_quotes_takes_a_recorded_frame_field_by_field(recordings: Path) -> None:
    payload = recorded(recordings, "binance")[0]

    assert only_quote(payload) == VenueQuote(
        venue_symbol="BTCUSDT",
        quote_id="50093239212",
        sequence=50093239212,
        bid_price="61837.63000000",
        bid_quantity="3.78826000",
        ask_price="61837.64000000",
        ask_quantity="1.54698000",
        event_us=None,
        published_us=None,
    )
    assert binance.route(payload) == Route("quote", "BTCUSDT")
    with pytest.raises(MalformedFrame, match="unknown_event"):
        binance.parse(payload)


def test_parse_quotes_keeps_the_time_of_a_frame_that_has_one(recordings: Path) -> None:
    quote = only_quote(in_a_stream(recordings / "binance_book_ticker_stream.json"))

    assert isinstance(quote, VenueQuote)
    assert (quote.quote_id, quote.bid_price, quote.ask_quantity) == ("400900217", "25.35190000", "40.66000000")
    assert (quote.event_us, quote.published_us) == (1_568_014_460_891_000, 1_568_014_460_893_000)


def test_every_recorded_trade_and_quote_is_routed_and_read(recordings: Path) -> None:
    frames = recorded(recordings, "binance")
    trades = [frame for frame in frames if binance.route(frame).channel == "trade"]

    assert 0 < len(trades) < len(frames)
    assert {binance.route(frame).channel for frame in frames} == {"trade", "quote"}
    ids = [run for frame in trades for run in binance.route(frame).runs]
    first = ids[0][1]
    assert ids == [("BTCUSDT", first + each, first + each) for each in range(len(ids))]


@pytest.mark.parametrize(
    ("fields", "sides", "unusual"),
    [
        ({"b": "0.00000000", "B": "0.00000000"}, (None, None, "61837.64", "1.54698"), "one_sided"),
        ({"a": "0.00", "A": "0"}, ("61837.63", "3.78826", None, None), "one_sided"),
        ({"b": "0", "B": "0", "a": "0", "A": "0"}, (None, None, None, None), "empty"),
        ({"b": "61837.65"}, ("61837.65", "3.78826", "61837.64", "1.54698"), "crossed"),
        ({"b": "61837.640"}, ("61837.640", "3.78826", "61837.64", "1.54698"), "locked"),
    ],
)
def test_unusual_quotes_are_kept_and_known(fields: dict[str, str], sides: tuple[str | None, ...], unusual: str) -> None:
    quote = only_quote(a_quote_frame(**fields))

    assert isinstance(quote, VenueQuote)
    assert (quote.bid_price, quote.bid_quantity, quote.ask_price, quote.ask_quantity) == sides
    assert condition(quote) == unusual


@pytest.mark.parametrize("name", list(QUOTE))
def test_a_field_of_a_quote_that_is_missing_or_of_another_type_is_said(name: str) -> None:
    for payload, reason in ((quote_without(name), "missing_field"), (a_quote_frame(**{name: [1]}), "wrong_type")):
        bad = only_quote(payload)
        assert isinstance(bad, BadQuote)
        assert bad.reason == reason
        assert f"field {name} " in bad.detail
        assert binance.route(payload) == Route("unreadable")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"u": -1}, "wrong_type"),
        ({"u": 1 << 63}, "number_out_of_range"),
        ({"T": 1 << 62}, "timestamp_in_future"),
        ({"T": "now"}, "wrong_type"),
        ({"E": 1 << 62}, "number_out_of_range"),
        ({"b": 61837.63}, "wrong_type"),
    ],
)
def test_a_quote_with_a_number_that_cannot_be_is_refused(fields: dict[str, Any], reason: str) -> None:
    bad = only_quote(a_quote_frame(**fields))

    assert isinstance(bad, BadQuote)
    assert bad.reason == reason


def test_an_id_beyond_any_column_moves_no_gap_tracker() -> None:
    assert binance.route(a_frame(t=1 << 63)) == Route("unreadable")


def test_quotes_are_subscribed_to_beside_trades() -> None:
    (frame,) = binance.subscribe_frames(("BTCUSDT",), ("trades", "quotes"))

    assert json.loads(frame)["params"] == ["btcusdt@trade", "btcusdt@bookTicker"]
