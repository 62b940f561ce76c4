import uuid
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_core.errors import MalformedFrame
from k2_core.instruments import Instrument
from k2_core.trades import (
    FIRST_DAY_US,
    MAX_FUTURE_NS,
    VenueTrade,
    check,
    check_number,
    exact,
    message_id,
    message_ids,
    plain,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "k2:trade")
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)


def a_venue_trade(price: str = "1", quantity: str = "1", event_us: int = 0) -> VenueTrade:
    return VenueTrade("BTCUSDT", "1", 1, price, quantity, event_us, None, "BUY")


@given(TEXT, TEXT, TEXT)
def test_message_id_is_the_uuid5_of_the_natural_key(exchange: str, symbol: str, trade_id: str) -> None:
    assert message_id(exchange, symbol, trade_id) == str(uuid.uuid5(NAMESPACE, f"{exchange}|{symbol}|{trade_id}"))


@given(TEXT, st.lists(st.tuples(TEXT, TEXT), max_size=10))
def test_message_ids_of_many_are_those_of_each(exchange: str, keys: list[tuple[str, str]]) -> None:
    made = message_ids(exchange, [symbol for symbol, _ in keys], [trade_id for _, trade_id in keys])

    assert [each.decode() for each in made.tolist()] == [message_id(exchange, *key) for key in keys]


def test_message_id_stays_the_same_for_ever() -> None:
    assert message_id("binance", "BTCUSDT", "3735683259") == "43825e84-0e75-57ae-9430-db3f6239328a"


@given(st.text(max_size=20) | st.from_regex(r"\A[+-]?[0-9]{0,20}\.?[0-9]{0,20}([eE][+-]?[0-9]{1,3})?\Z"))
def test_exact_gives_a_finite_number_or_none(text: str) -> None:
    number = exact(text)

    assert number is None or number == Decimal(text)
    assert number is None or number.is_finite()


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "1_000", "１２", "NaN", "sNaN", "Infinity", "-inf", "1,5", "0x10", "1e"]
)
def test_exact_refuses_what_no_venue_writes(text: str) -> None:
    assert exact(text) is None


@given(DECIMALS, st.integers(1, 38), st.integers(0, 20))
def test_plain_spells_the_same_number_within_the_bounds_or_none(number: Decimal, precision: int, scale: int) -> None:
    scale = min(scale, precision)
    spelled = plain(number, precision, scale)
    scaled = Fraction(number) * 10**scale
    fits = scaled.denominator == 1 and abs(scaled) < 10**precision

    if spelled is None:
        assert not fits
        return
    assert Decimal(spelled) == number
    whole, _, fraction = spelled.lstrip("-").partition(".")
    assert len(whole.lstrip("0")) <= precision - scale
    assert len(fraction) <= scale


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("1E+3", "1000"),
        ("0.10000000000000000", "0.1"),
        ("-0", "0"),
        ("1e-12", "0.000000000001"),
        ("1e-13", None),
        ("9999999999999999.999999999999", "9999999999999999.999999999999"),
        ("10000000000000000", None),
        ("1e999999999", None),
        ("-1.50", "-1.5"),
    ],
)
def test_plain_never_rounds(text: str, spelled: str | None) -> None:
    assert plain(Decimal(text), 28, 12) == spelled


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("abc", "wrong_type"),
        ("0", "price_not_positive"),
        ("0.000", "price_not_positive"),
        ("-1", "price_not_positive"),
        ("0.0000000000001", "number_out_of_range"),
        ("10000000000000000", "number_out_of_range"),
        ("1e400", "number_out_of_range"),
        ("1e99999999999999999999", "number_out_of_range"),
        ("1e-99999999999999999999", "number_out_of_range"),
        ("-1e99999999999999999999", "price_not_positive"),
        ("0e99999999999999999999", "price_not_positive"),
        ("9" * 1_000_000, "number_out_of_range"),
        ("-" + "9" * 1_000_000, "price_not_positive"),
        ("0." + "0" * 1_000_000, "price_not_positive"),
        ("x" * 1_000_000, "wrong_type"),
        ("-0", "price_not_positive"),
        ("Infinity", "wrong_type"),
        ("NaN", "wrong_type"),
        ("", "wrong_type"),
    ],
)
def test_check_number_says_which_rule_is_broken(text: str, reason: str) -> None:
    with pytest.raises(MalformedFrame) as raised:
        check_number("price", text, 28, 12)

    assert raised.value.reason == reason
    assert text in raised.value.detail


def test_check_takes_a_trade_of_five_minutes_ahead_and_refuses_one_beyond() -> None:
    pair = Instrument("BTCUSDT", "BTC", "USDT")
    now_ns = FIRST_DAY_US * 1000
    ahead_us = FIRST_DAY_US + MAX_FUTURE_NS // 1000

    check(a_venue_trade(event_us=ahead_us), pair, now_ns)
    with pytest.raises(MalformedFrame, match="timestamp_in_future"):
        check(a_venue_trade(event_us=ahead_us + 1), pair, now_ns)
    with pytest.raises(MalformedFrame, match="unknown_symbol"):
        check(a_venue_trade(), None, 0)
    with pytest.raises(MalformedFrame, match="quantity_not_positive"):
        check(a_venue_trade(quantity="0"), pair, 0)


def test_check_takes_a_trade_of_the_first_day_that_is_kept_and_refuses_one_before() -> None:
    pair = Instrument("BTCUSDT", "BTC", "USDT")
    seconds_for_ms = 1_723_161_255_000

    check(a_venue_trade(event_us=FIRST_DAY_US), pair, FIRST_DAY_US * 1000)
    for event_us in (FIRST_DAY_US - 1, seconds_for_ms, 0, -(1 << 62)):
        with pytest.raises(MalformedFrame, match=f"number_out_of_range: .* {event_us} µs .* before 2010-01-01"):
            check(a_venue_trade(event_us=event_us), pair, FIRST_DAY_US * 1000)
