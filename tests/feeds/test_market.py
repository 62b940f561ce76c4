import itertools
import json
from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest

from k2_feeds.simulator.market import Event, Market

START_MS = 1_700_000_000_000
SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "DOGEUSDT")


def trades(seed: int = 1, rate: float = 500.0, seconds: int = 20, step_ms: int = 7) -> list[Event]:
    market = Market(seed, SYMBOLS, rate, START_MS)
    end_ms = START_MS + seconds * 1000 + 10
    moments = (*range(START_MS, end_ms, step_ms), end_ms)
    return [event for now_ms in moments for batch in market.due(now_ms) for event in batch]


def parsed(events: list[Event]) -> dict[str, list[dict[str, Any]]]:
    by_symbol = defaultdict(list)
    for event in events:
        data = json.loads(event.data)
        assert event.stream == f"{data['s'].lower()}@trade"
        by_symbol[data["s"]].append(data)
    return by_symbol


def test_market_is_the_same_when_its_seed_is() -> None:
    assert trades(seed=3) == trades(seed=3)
    assert trades(seed=3) != trades(seed=4)


def test_market_says_the_same_however_often_it_is_asked() -> None:
    assert trades(step_ms=1) == trades(step_ms=1790)


@pytest.mark.parametrize("rate", [0.5, 1.0, 333.0, 20_000.0])
def test_market_holds_its_rate(rate: float) -> None:
    assert abs(len(trades(rate=rate, seconds=10)) - rate * 10) <= rate * 0.02 + 1


def test_ids_rise_by_one_and_times_never_fall_within_a_symbol() -> None:
    for rows in parsed(trades()).values():
        assert len(rows) > 100
        for before, after in itertools.pairwise(rows):
            assert after["t"] == before["t"] + 1
            assert after["T"] >= before["T"]
        assert all(row["E"] >= row["T"] >= START_MS for row in rows)


def test_ids_are_higher_when_a_market_begins_later() -> None:
    first = Market(1, SYMBOLS, 20_000, START_MS)
    used = [json.loads(event.data)["t"] for batch in first.due(START_MS + 5000) for event in batch]
    later = Market(1, SYMBOLS, 20_000, START_MS + 5000)

    assert min(json.loads(event.data)["t"] for batch in later.due(START_MS + 7000) for event in batch) > max(used)


def test_prices_and_sizes_lie_on_ticks_and_lots() -> None:
    steps = {"BTCUSDT": ("0.01", "0.00001"), "DOGEUSDT": ("0.00001", "1")}
    rows = parsed(trades())
    for symbol, (tick, lot) in steps.items():
        for row in rows[symbol]:
            price, quantity = Decimal(row["p"]), Decimal(row["q"])
            assert price > 0
            assert quantity > 0
            assert (price % Decimal(tick), quantity % Decimal(lot)) == (0, 0)
            assert len(row["p"].partition(".")[2]) == len(row["q"].partition(".")[2]) == 8


def test_trades_come_in_bursts_of_both_sides() -> None:
    rows = parsed(trades(rate=2000))["BTCUSDT"]
    per_10_ms = defaultdict(int)
    for row in rows:
        per_10_ms[row["T"] // 10] += 1

    counts = list(per_10_ms.values())
    mean = len(rows) / 2000
    variance = sum((count - mean) ** 2 for count in counts) / 2000
    assert variance > 2 * mean  # a Poisson process has variance = mean
    assert {row["m"] for row in rows} == {True, False}


def test_market_goes_on_from_now_when_it_slept() -> None:
    market = Market(1, SYMBOLS, 100, START_MS)
    list(market.due(START_MS + 1000))
    asleep = [event for batch in market.due(START_MS + 3_600_000) for event in batch]

    assert len(asleep) <= 200
