import hashlib
import uuid
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_core.errors import MalformedFrame
from k2_core.instruments import Instrument
from k2_core.quotes import VenueQuote, canonical, check, condition, message_id, message_ids, quote_id, side_of
from k2_core.trades import FIRST_DAY_US, MAX_FUTURE_NS
from k2_core.trades import message_id as trade_message_id

NOW_US = FIRST_DAY_US
NOW_NS = NOW_US * 1000
PAIR = Instrument("BTCUSD", "BTC", "USD")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.from_regex(r"\A[0-9]{1,12}(\.[0-9]{0,12})?([eE][+-]?[0-9])?\Z")


def a_quote(**fields: object) -> VenueQuote:
    quote = {
        "venue_symbol": "BTC/USD", "quote_id": "1", "sequence": None, "bid_price": "10", "bid_quantity": "1",
        "ask_price": "11", "ask_quantity": "2", "event_us": NOW_US, "published_us": None,
    }  # fmt: skip
    return VenueQuote(**(quote | fields))  # type: ignore[arg-type]


def test_quote_id_is_the_sha256_of_what_the_quote_says() -> None:
    said = b"2026-04-07T14:30:03Z|68900|1.5|68901|0.5"

    expected = hashlib.sha256(said).hexdigest()
    assert quote_id("2026-04-07T14:30:03Z", "68900.00", "1.50000000", "68901.00", "0.50000000") == expected
    one_sided = hashlib.sha256(b"2026-04-07T14:30:03Z|68900|1.5||").hexdigest()
    assert quote_id("2026-04-07T14:30:03Z", "68900", "1.5", None, None) == one_sided


@given(NUMBERS, NUMBERS)
def test_canonical_spells_two_texts_alike_exactly_when_they_are_one_number(one: str, other: str) -> None:
    assert Decimal(canonical(one)) == Decimal(one)
    assert (canonical(one) == canonical(other)) == (Decimal(one) == Decimal(other))


@pytest.mark.parametrize("text", ["", "x", "1e999999999", "NaN", "9" * 5000, "1_0"])
def test_canonical_leaves_alone_what_is_no_number_of_any_column(text: str) -> None:
    assert canonical(text) == text


@given(TEXT, st.lists(st.tuples(TEXT, TEXT), max_size=10))
def test_message_ids_are_the_uuid5_of_the_natural_keys(exchange: str, keys: list[tuple[str, str]]) -> None:
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "k2:quote")
    expected = [str(uuid.uuid5(namespace, f"{exchange}|{symbol}|{each}")) for symbol, each in keys]

    assert [message_id(exchange, *key) for key in keys] == expected
    made = message_ids(exchange, [symbol for symbol, _ in keys], [each for _, each in keys])
    assert [each.decode() for each in made.tolist()] == expected


def test_message_id_stays_the_same_for_ever_and_is_no_trades() -> None:
    assert message_id("binance", "BTCUSDT", "50093239212") == "ad269904-4e32-569b-be9b-c202ba8638db"
    assert message_id("binance", "BTCUSDT", "1") != trade_message_id("binance", "BTCUSDT", "1")


@pytest.mark.parametrize(
    ("price", "quantity", "expected"),
    [
        (None, None, (None, None)),
        ("", "", (None, None)),
        ("0", "0.00000000", (None, None)),
        ("0.00", None, (None, None)),
        ("10", "1", ("10", "1")),
        ("10", "0", ("10", "0")),
        ("0", "1", ("0", "1")),
        (None, "1", (None, "1")),
        (".", ".", (".", ".")),
        ("-0", "0E-8", (None, None)),
        ("0.0e+5", ".0", (None, None)),
        ("-0", "1", ("-0", "1")),
        ("-", "", ("-", "")),
        ("e5", "", ("e5", "")),
        ("0E-8x", "0", ("0E-8x", "0")),
        ("０", "０", ("０", "０")),
    ],
)
def test_a_side_is_missing_only_when_neither_price_nor_quantity_is_there(
    price: str | None, quantity: str | None, expected: tuple[str | None, str | None]
) -> None:
    assert side_of(price, quantity) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"bid_price": "11.0"}, "locked"),
        ({"bid_price": "11.5"}, "crossed"),
        ({"bid_price": "9.9e1"}, "crossed"),
        ({"bid_price": None, "bid_quantity": None}, "one_sided"),
        ({"ask_price": None, "ask_quantity": None}, "one_sided"),
        ({"bid_price": None, "bid_quantity": None, "ask_price": None, "ask_quantity": None}, "empty"),
    ],
)
def test_a_quote_that_is_unusual_breaks_no_rule_and_says_what_it_is(fields: dict[str, object], expected: str) -> None:
    check(a_quote(**fields), PAIR, NOW_NS)
    assert condition(a_quote(**fields)) == expected


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"bid_price": "0"}, "price_not_positive"),
        ({"ask_price": "-1"}, "price_not_positive"),
        ({"bid_quantity": "0"}, "quantity_not_positive"),
        ({"ask_quantity": "-2"}, "quantity_not_positive"),
        ({"bid_price": "0.0000000000001"}, "number_out_of_range"),
        ({"ask_quantity": "0.000000001"}, "number_out_of_range"),
        ({"ask_price": "x"}, "wrong_type"),
        ({"bid_price": None}, "missing_field"),
        ({"ask_quantity": None}, "missing_field"),
        ({"event_us": NOW_US + MAX_FUTURE_NS // 1000 + 1}, "timestamp_in_future"),
        ({"event_us": FIRST_DAY_US - 1}, "number_out_of_range"),
        ({"event_us": -(1 << 62)}, "number_out_of_range"),
    ],
)
def test_check_says_which_rule_is_broken_and_on_which_side(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(MalformedFrame) as raised:
        check(a_quote(**fields), PAIR, NOW_NS)

    assert raised.value.reason == reason
    side = next(iter(fields)).partition("_")[0]
    assert raised.value.detail.startswith("the quote's time" if side == "event" else (f"{side}: ", f"the {side} has"))


def test_check_needs_an_instrument_and_no_time() -> None:
    check(a_quote(event_us=None), PAIR, NOW_NS)
    check(a_quote(event_us=NOW_US + MAX_FUTURE_NS // 1000), PAIR, NOW_NS)
    with pytest.raises(MalformedFrame, match="unknown_symbol"):
        check(a_quote(), None, NOW_NS)
    with pytest.raises(MalformedFrame, match=r"number_out_of_range.* before 2010-01-01"):
        check(a_quote(event_us=None), PAIR, NOW_NS - 1)  # it would be stamped so
