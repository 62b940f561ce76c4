import itertools
from collections import defaultdict

import pytest

from k2_feeds.simulator.market import Event, Market, Quote, Trade
from k2_feeds.simulator.simulated_listings import VENUES, listing_of

START_US = 1_700_000_000_000_000
SECOND_US = 1_000_000
SYMBOLS = ("BTCUSDT", "ETHUSDT", "DOGEUSDT", "BTC/USD", "ETH/BTC", "PEPE/USD", "BTC-USD", "DOGE-USD")


def a_market(seed: int = 1, rate: float = 500.0, start_us: int = START_US) -> Market:
    return Market(seed, tuple(map(listing_of, SYMBOLS)), rate, start_us)


def events(seed: int = 1, rate: float = 500.0, seconds: int = 20, step_us: int = 7_000) -> list[Event]:
    market, end_us = a_market(seed, rate), START_US + seconds * SECOND_US + 3_000
    moments = (*range(START_US, end_us, step_us), end_us)
    return [event for now_us in moments for batch in market.due(now_us) for event in batch]


def trades_in(found: list[Event]) -> dict[str, list[Trade]]:
    by_symbol = defaultdict(list)
    for event in found:
        if not isinstance(event, Quote):
            by_symbol[event.listing.symbol] += event.trades
    return by_symbol


def quotes_in(found: list[Event]) -> dict[str, list[Quote]]:
    by_symbol = defaultdict(list)
    for event in found:
        if isinstance(event, Quote):
            by_symbol[event.listing.symbol].append(event)
    return by_symbol


def test_market_is_the_same_when_its_seed_is() -> None:
    assert events(seed=3, seconds=3) == events(seed=3, seconds=3)
    assert events(seed=3, seconds=3) != events(seed=4, seconds=3)


def test_market_says_the_same_however_often_it_is_asked() -> None:
    assert events(step_us=1_000, seconds=5) == events(step_us=1_790_000, seconds=5)


@pytest.mark.parametrize("rate", [0.5, 1.0, 333.0, 5_000.0])
def test_market_holds_its_rate_with_several_times_as_many_quotes(rate: float) -> None:
    found = events(rate=rate, seconds=2)

    trades, quotes = (sum(map(len, rows.values())) for rows in (trades_in(found), quotes_in(found)))
    assert abs(trades - rate * 2) <= rate * 0.02 + 1
    assert abs(quotes - rate * 8) <= rate * 0.08 + 4


def test_ids_rise_by_one_and_times_never_fall_within_a_symbol() -> None:
    for symbol, rows in trades_in(events()).items():
        assert len(rows) > 100, symbol
        for before, after in itertools.pairwise(rows):
            assert after.number == before.number + 1
            assert after.at_us >= before.at_us >= START_US


def test_quotes_rise_in_number_with_leaps_and_never_stand_twice_at_one_time() -> None:
    for rows in quotes_in(events(seconds=5)).values():
        leaps = [after.number - before.number for before, after in itertools.pairwise(rows)]
        assert min(leaps) >= 1
        assert max(leaps) > 1
        assert all(after.at_us > before.at_us for before, after in itertools.pairwise(rows))


def test_ids_are_higher_when_a_market_begins_later() -> None:
    first, later = a_market(rate=3_000), a_market(rate=3_000, start_us=START_US + 5 * SECOND_US)
    used = trades_in([event for batch in first.due(START_US + 5 * SECOND_US) for event in batch])
    after = trades_in([event for batch in later.due(START_US + 6 * SECOND_US) for event in batch])

    assert all(rows[0].number > used[symbol][-1].number for symbol, rows in after.items())


def test_quotes_stand_around_the_price_and_are_now_and_then_unusual() -> None:
    quotes = [quote for rows in quotes_in(events(rate=400)).values() for quote in rows]
    both = [(quote.bid[0], quote.ask[0]) for quote in quotes if quote.bid and quote.ask]

    assert all(side is None or min(side) >= 1 for quote in quotes for side in (quote.bid, quote.ask))
    assert sum(bid < ask for bid, ask in both) > 0.99 * len(quotes)
    assert any(bid == ask for bid, ask in both)
    assert any(bid > ask for bid, ask in both)
    assert any(quote.bid is None and quote.ask for quote in quotes)
    assert any(quote.ask is None and quote.bid for quote in quotes)


def test_venues_agree_on_a_price_but_not_to_the_tick() -> None:
    rows = trades_in(events(rate=200, seconds=30))
    last = {symbol: rows[symbol][-1].ticks / 10 ** listing_of(symbol).tick_digits for symbol in SYMBOLS}

    assert last["BTC/USD"] == pytest.approx(last["BTCUSDT"], rel=0.01)
    assert last["BTC-USD"] == pytest.approx(last["BTCUSDT"], rel=0.01)
    assert last["ETH/BTC"] == pytest.approx(last["ETHUSDT"] / last["BTCUSDT"], rel=0.02)
    assert {listing_of(symbol).venue for symbol in SYMBOLS} == set(VENUES)


def test_trades_come_in_bursts_of_both_sides() -> None:
    rows = trades_in(events(rate=2000, seconds=10))["BTCUSDT"]
    per_10_ms: dict[int, int] = defaultdict(int)
    for row in rows:
        per_10_ms[row.at_us // 10_000] += 1

    mean = len(rows) / 1000
    variance = sum((count - mean) ** 2 for count in per_10_ms.values()) / 1000
    assert variance > 2 * mean  # a Poisson process has variance = mean
    assert {row.sells for row in rows} == {True, False}


def test_market_goes_on_from_now_when_it_slept_and_uses_no_id_up() -> None:
    market = a_market(rate=100)
    before = trades_in([event for batch in market.due(START_US + SECOND_US) for event in batch])
    asleep = trades_in([event for batch in market.due(START_US + 3600 * SECOND_US) for event in batch])

    assert sum(map(len, asleep.values())) <= 200
    assert all(rows[0].number == before[symbol][-1].number + 1 for symbol, rows in asleep.items() if symbol in before)
