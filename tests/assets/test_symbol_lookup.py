"""What a symbol means at a moment, by the register, by subscriptions, and by its spelling."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from k2_assets.reference.symbol_lookup import Register, Version
from k2_core.instruments import Instrument, instrument
from k2_core.venues import binance

BTC, OTHER = instrument("BTC", "USDT"), instrument("OTHER", "COIN")


def a_register(*versions: Version, **subscribed_ns: int) -> Register:
    return Register(versions, subscribed_ns, binance)


def a_version(symbol: str = "BTCUSDT", start: int = 100, end: int | None = None, meant: Instrument = BTC) -> Version:
    return Version(symbol, start, end, meant)


def test_nothing_registered_means_what_symbols_spell() -> None:
    register = a_register()

    assert register.of("ETHBTC", 5) == instrument("ETH", "BTC")
    assert register.of("???", 5) is None


def test_a_symbol_is_known_while_a_version_holds() -> None:
    register = a_register(a_version("FIRST", 0, None), a_version("OTHERCOIN", 100, 200, OTHER))

    assert [register.of("OTHERCOIN", at) for at in (99, 100, 199, 200)] == [None, OTHER, OTHER, None]


def test_before_the_venues_first_version_symbols_mean_what_they_spell() -> None:
    register = a_register(a_version(start=100))

    assert register.of("ETHBTC", 99) == instrument("ETH", "BTC")
    assert register.of("ETHBTC", 100) is None
    assert register.of("OTHERCOIN", 99) is None


def test_a_subscribed_symbol_is_never_unknown_from_then_on() -> None:
    register = a_register(a_version(start=0), ETHBTC=50, ODDCOIN=50, OTHERCOIN=50)

    assert [register.of("ETHBTC", at) for at in (49, 50)] == [None, instrument("ETH", "BTC")]
    assert [register.of("ODDCOIN", at) for at in (49, 50)] == [None, Instrument("ODDCOIN", "UNKNOWN", "UNKNOWN")]


def test_a_subscribed_symbol_means_what_the_register_says_where_it_does() -> None:
    register = a_register(a_version("OTHERCOIN", 100, 200, OTHER), OTHERCOIN=0)

    assert [getattr(register.of("OTHERCOIN", at), "quote", None) for at in (-1, 0, 99, 100, 200)] == [
        None, "UNKNOWN", "UNKNOWN", "COIN", "UNKNOWN",
    ]  # fmt: skip


def test_a_new_meaning_holds_from_its_version_on() -> None:
    renamed = instrument("BTC", "USDX")
    register = a_register(a_version(end=200), a_version(start=200, meant=renamed))

    found = register(["BTCUSDT", "BTCUSDT"], np.array([199, 200]))

    assert found == [BTC, renamed]


def test_no_rows_have_no_instruments() -> None:
    assert a_register(a_version())([], np.empty(0, np.int64)) == []


MOMENTS = st.integers(-5, 30)
SYMBOLS = st.sampled_from(["BTCUSDT", "ETHBTC", "ODDCOIN"])
VERSIONS = st.lists(
    st.builds(a_version, SYMBOLS, MOMENTS, st.none() | MOMENTS, st.sampled_from([BTC, OTHER])), max_size=4
)


@given(VERSIONS, st.dictionaries(SYMBOLS, MOMENTS), st.lists(st.tuples(SYMBOLS, MOMENTS), max_size=12))
def test_many_rows_are_found_as_one_would_be_and_never_unknown_against_the_rule(
    versions: list[Version], subscribed_ns: dict[str, int], rows: list[tuple[str, int]]
) -> None:
    register = Register(versions, subscribed_ns, binance)

    found = register([symbol for symbol, _ in rows], np.array([at for _, at in rows], np.int64))

    assert found == [Register(versions, subscribed_ns, binance).of(*row) for row in rows]
    for (symbol, at), meant in zip(rows, found, strict=True):
        holds = any(
            each.venue_symbol == symbol and each.from_ns <= at and (each.to_ns is None or at < each.to_ns)
            for each in versions
        )
        if holds or subscribed_ns.get(symbol, 99) <= at:
            assert meant is not None
        elif any(each.from_ns <= at for each in versions):
            assert meant is None
        else:
            assert meant == binance.instrument_of(symbol)
