"""Venues' lists of instruments: what they say, and that nothing else is taken for one."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_core.errors import MalformedFrame
from k2_core.instruments import Listing, instrument, letters_and_digits, split_by_suffix, unsplit
from k2_core.trades import REASONS
from k2_core.venues import VENUES, binance, coinbase, kraken
from k2_core.venues.venue_protocol import Venue

EVERY_VENUE = pytest.mark.parametrize("venue", [pytest.param(module, id=name) for name, module in VENUES.items()])
BINANCE = {
    "symbol": "ETHBTC", "status": "TRADING", "baseAsset": "ETH", "baseAssetPrecision": 8, "quoteAsset": "BTC",
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "0.00001000", "tickSize": "0.00001000"},
        {"filterType": "LOT_SIZE", "minQty": "0.00010000", "stepSize": "0.00010000"},
        {"filterType": "ICEBERG_PARTS", "limit": 10},
    ],
}  # fmt: skip
KRAKEN = {
    "altname": "XBTUSD", "wsname": "XBT/USD", "aclass_base": "currency", "base": "XXBT", "quote": "ZUSD",
    "pair_decimals": 1, "lot_decimals": 8, "fees": [[0, 0.4]], "ordermin": "0.00005", "tick_size": "0.1",
    "status": "online",
}  # fmt: skip
COINBASE = {
    "id": "BTC-USD", "base_currency": "BTC", "quote_currency": "USD", "quote_increment": "0.01",
    "base_increment": "0.00000001", "display_name": "BTC-USD", "post_only": False, "limit_only": False,
    "cancel_only": False, "status": "online", "status_message": "", "trading_disabled": False,
}  # fmt: skip


def binance_list(*symbols: Any) -> bytes:
    return json.dumps({"timezone": "UTC", "serverTime": 1565246363776, "rateLimits": [], "symbols": symbols}).encode()


def kraken_list(*pairs: Any) -> bytes:
    return json.dumps({"error": [], "result": {f"pair {n}": pair for n, pair in enumerate(pairs)}}).encode()


def coinbase_list(*products: Any) -> bytes:
    return json.dumps(products).encode()


ONE: dict[str, tuple[dict[str, Any], Callable[..., bytes]]] = {
    "binance": (BINANCE, binance_list),
    "kraken": (KRAKEN, kraken_list),
    "coinbase": (COINBASE, coinbase_list),
}


def listed(venue: Venue, **fields: Any) -> Listing:
    one, list_of = ONE[venue.VENUE]
    (found,) = venue.parse_instruments(list_of({k: v for k, v in (one | fields).items() if v is not ...}))
    return found  # type: ignore[no-any-return]  # a module's


def reason(venue: Venue, body: bytes) -> str:
    with pytest.raises(MalformedFrame) as refused:
        venue.parse_instruments(body)
    assert refused.value.reason in REASONS
    refused.value.detail.encode()
    return refused.value.reason


def test_binance_lists_symbols_with_their_filters() -> None:
    assert listed(binance) == Listing(
        "ETHBTC", "ETHBTC", "ETH", "BTC", "0.00001000", "0.00010000", "trading", "TRADING"
    )


def test_kraken_lists_pairs_by_the_names_of_its_websocket() -> None:
    assert listed(kraken) == Listing("BTC/USD", "BTCUSD", "BTC", "USD", "0.1", "0.00000001", "trading", "online")
    assert listed(kraken, wsname="XDG/XBT")[:4] == ("DOGE/BTC", "DOGEBTC", "DOGE", "BTC")
    assert listed(kraken, wsname="AAPLx/USD")[:4] == ("AAPLx/USD", "AAPLXUSD", "AAPLX", "USD")


def test_kraken_pairs_without_a_name_for_its_websocket_are_left_out() -> None:
    dark = {name: value for name, value in KRAKEN.items() if name != "wsname"}

    assert [each.venue_symbol for each in kraken.parse_instruments(kraken_list(dark, KRAKEN))] == ["BTC/USD"]


@pytest.mark.parametrize(("decimals", "tick_size"), [(1, "0.1"), (0, "1"), (7, "0.0000001"), (-1, None), (90, None)])
def test_kraken_tick_size_follows_from_the_decimals_where_it_is_not_given(decimals: int, tick_size: str) -> None:
    assert listed(kraken, tick_size=..., pair_decimals=decimals).tick_size == tick_size


def test_kraken_refusal_with_status_200_is_no_list() -> None:
    assert reason(kraken, b'{"error":["EGeneral:Too many requests"],"result":{}}') == "wrong_type"
    assert reason(kraken, b'{"error":["EService:Unavailable"]}') == "wrong_type"


def test_coinbase_lists_products() -> None:
    assert listed(coinbase) == Listing("BTC-USD", "BTCUSD", "BTC", "USD", "0.01", "0.00000001", "trading", "online")


@pytest.mark.parametrize(
    ("venue", "fields", "status", "words"),
    [
        (binance, {"status": "BREAK"}, "halted", "BREAK"),
        (binance, {"status": "NOVEL"}, "unknown", "NOVEL"),
        (kraken, {"status": "reduce_only"}, "restricted", "reduce_only"),
        (kraken, {"status": ...}, "unknown", ""),
        (coinbase, {"trading_disabled": True}, "halted", "online trading_disabled"),
        (coinbase, {"limit_only": True}, "restricted", "online limit_only"),
        (coinbase, {"status": "delisted", "trading_disabled": True}, "delisted", "delisted trading_disabled"),
    ],
)
def test_status_is_given_in_our_words_and_in_the_venues(venue: Any, fields: Any, status: str, words: str) -> None:
    assert listed(venue, **fields)[-2:] == (status, words)


@pytest.mark.parametrize("size", ["0.00000000", "-1", "one", "", "1" * 61, "NaN"])
def test_sizes_that_are_no_positive_number_are_none(size: str) -> None:
    found = listed(coinbase, quote_increment=size, base_increment=size)

    assert (found.tick_size, found.lot_size) == (None, None)


def test_binance_without_filters_has_no_sizes() -> None:
    assert listed(binance, filters=[])[4:6] == (None, None)


@EVERY_VENUE
def test_a_list_without_any_instrument_is_refused_so_that_none_counts_as_delisted(venue: Venue) -> None:
    assert reason(venue, ONE[venue.VENUE][1]()) == "missing_field"


@EVERY_VENUE
def test_of_a_symbol_that_is_listed_in_two_ways_the_first_stays_and_that_is_reported(venue: Venue) -> None:
    one, list_of = ONE[venue.VENUE]

    repeated = venue.parse_instruments(list_of(one, one))
    assert (len(repeated), repeated.trouble) == (1, "")
    found = venue.parse_instruments(list_of(one, one | {"status": "BREAK"}))
    assert found == repeated
    assert "it is listed in two ways" in found.trouble


@EVERY_VENUE
@pytest.mark.parametrize("wrong", [None, 5, ["x"], "\N{ROCKET}", ""])
def test_one_bad_entry_costs_that_entry(venue: Venue, wrong: object) -> None:
    one, list_of = ONE[venue.VENUE]
    name, id_name = {
        "binance": ("baseAsset", "symbol"),
        "kraken": ("lot_decimals", "wsname"),
        "coinbase": ("base_currency", "id"),
    }[venue.VENUE]
    other = {"binance": "NEWUSDT", "kraken": "NEW/USD", "coinbase": "NEW-USD"}[venue.VENUE]
    good = venue.parse_instruments(list_of(one))

    assert venue.parse_instruments(list_of(one | {id_name: wrong}, one)) == good
    found = venue.parse_instruments(list_of(one | {id_name: other, name: [wrong]}, one))
    assert (found, found.may_lack(other), found.may_lack("ANY")) == (good, True, False)
    assert found.trouble.startswith(f"entries of the list that cannot be read are left out: {other} (")


@EVERY_VENUE
def test_numbers_where_texts_belong_are_refused_and_never_pass_a_float(venue: Venue) -> None:
    number = {"binance": "baseAsset", "kraken": "tick_size", "coinbase": "quote_increment"}[venue.VENUE]
    one, list_of = ONE[venue.VENUE]

    assert reason(venue, list_of(one | {number: 0.1})) == "wrong_type"


@EVERY_VENUE
@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"\xff", b"<html>", b"[" * 5000, b'{"symbols":[1]}'])
def test_what_is_no_list_is_refused(venue: Venue, body: bytes) -> None:
    assert reason(venue, body)


@EVERY_VENUE
def test_every_instrument_is_what_its_symbol_says_where_that_can_be_split(venue: Venue) -> None:
    found = listed(venue)

    assert venue.instrument_of(found.venue_symbol) == (found.symbol, found.base, found.quote)


@EVERY_VENUE
def test_the_list_is_asked_for_below_any_base(venue: Venue) -> None:
    assert venue.instruments_url("http://localhost:1/") == venue.instruments_url("http://localhost:1")
    assert venue.instruments_url("http://localhost:1").startswith("http://localhost:1/")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1e-8", "XBT/USD"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@EVERY_VENUE
@given(data=st.data())
@settings(max_examples=300)
def test_any_bytes_and_any_value_put_in_are_read_or_refused(venue: Venue, data: st.DataObject) -> None:
    one, list_of = ONE[venue.VENUE]
    name = data.draw(st.sampled_from(sorted(one)))
    whole = bytearray(list_of(one | {name: data.draw(JSON)}))
    at = data.draw(st.integers(0, len(whole)))
    whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    for body in (data.draw(st.binary(max_size=100)), list_of(one | {name: data.draw(JSON)}), bytes(whole)):
        hold(venue, body)


def hold(venue: Venue, body: bytes) -> None:
    """Assert what must hold of any reply whatever."""
    try:
        found = venue.parse_instruments(body)
    except MalformedFrame as error:
        assert error.reason in REASONS  # noqa: PT017  # most replies raise, not all
        error.detail.encode()
        return
    assert found
    for each in found:
        "".join(text or "" for text in each).encode()
        assert all(letters_and_digits(text) for text in (each.venue_symbol, each.symbol, each.base, each.quote))
        assert each.symbol == letters_and_digits(each.base + each.quote)
        assert all(size is None or Decimal(size) > 0 for size in (each.tick_size, each.lot_size))


def test_a_symbol_that_nobody_can_split_is_its_letters_and_digits() -> None:
    assert unsplit("foo-bar.1") == ("FOOBAR1", "UNKNOWN", "UNKNOWN")
    assert unsplit("../-") is None


@pytest.mark.parametrize(
    ("base", "quote", "symbol"), [("xbt", "usd", "BTCUSD"), ("XDG", "EUR", "DOGEEUR"), ("btc", "USDT", "BTCUSDT")]
)
def test_instrument_is_spelled_in_modern_codes(base: str, quote: str, symbol: str) -> None:
    assert instrument(base, quote).symbol == symbol


def test_split_takes_the_longest_quote_that_leaves_a_base() -> None:
    assert split_by_suffix("ETHFDUSD", ("USD", "FDUSD")) == instrument("ETH", "FDUSD")
    assert split_by_suffix("FDUSD", ("USD", "FDUSD")) == instrument("FD", "USD")
