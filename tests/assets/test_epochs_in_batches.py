"""Epochs of sparse trades: whichever batches and days come first, the register is what the rule finds in all trades."""

import itertools
import random
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from k2_assets.gold import epoch_search, refresh_rows
from k2_assets.gold.epoch_breaks import find_breaks
from k2_assets.gold.instrument_memory import Memory
from k2_assets.lake.rebuilt_days import Taken
from k2_assets.reference.epoch_register import epochs_table, read_epochs
from k2_core.epochs import Key
from k2_core.lake.tables import GOLD_TRADES
from k2_core.trades import message_id
from tests.assets.lakes import DAY, NOON, SILVER, Row, SmallLake, a_trade

NEXT = DAY + timedelta(days=1)
NOON_S = int(NOON.timestamp())
KEY: Key = ("binance", "BTCUSDT")


def trade(number: int, second: float, price: str = "1") -> Row:
    return a_trade(number, second, price=price, offset=round(second * 10) + 1_000_000)


def register(lake: SmallLake) -> list[float]:
    """The starts of epochs in seconds after noon."""
    starts = read_epochs(epochs_table(lake.catalog, lake.namespace)).starts(*KEY)
    return [start / 1e6 - NOON_S for start in starts]


def by_rule(trades: list[Row]) -> list[float]:
    times = np.array([round(row["timestamp"].timestamp() * 1e6) for row in trades], dtype=np.int64)
    ids = np.array([row["source_sequence"] for row in trades], dtype=np.int64)
    frames = np.array([row["platform_sequence"] for row in trades], dtype=np.uint64)
    return [start / 1e6 - NOON_S for start in find_breaks(times, ids, frames, np.ones(len(ids), dtype=bool)).starts]


def take(lake: SmallLake, batches: list[list[Row]], chance: random.Random) -> None:
    days = [DAY - timedelta(days=1), DAY, NEXT]
    for batch in batches:
        lake.append(SILVER, batch)
        for _ in range(2):
            for day in chance.sample(days, len(days)):
                lake.trades_refresh(day).take_in_news()


def assert_all_is_settled(lake: SmallLake) -> None:
    standing = epochs_table(lake.catalog, lake.namespace)
    assert standing is not None
    starts = read_epochs(standing)
    for row in lake.gold().values():
        name = starts.name(*KEY, round(row["timestamp"].timestamp() * 1e6))
        assert row["message_id"] == message_id(KEY[0], name, row["trade_id"])
    assert not Taken.of(lake.table(GOLD_TRADES)).behind(standing)


@pytest.mark.parametrize("first", [(-3600.0, -3500.0), (-86400.0, -86390.0)], ids=["hour", "day before"])
def test_a_trade_within_a_minute_of_the_last_breaks_over_older_ones(
    lake: SmallLake, first: tuple[float, float]
) -> None:
    old = [trade(1, first[0]), trade(2, first[1]), trade(100, -100), trade(200, 0)]
    take(lake, [old, [trade(1, 30, "7"), trade(2, 40, "7")]], random.Random(1))

    assert register(lake) == [30]
    assert len(lake.gold()) == 6
    assert_all_is_settled(lake)


def test_a_late_trade_breaks_over_what_comes_more_than_a_minute_after_the_next(lake: SmallLake) -> None:
    old = [trade(1, 0), trade(10, 2030), *(trade(11 + step, 2300 + 10 * step) for step in range(20))]
    late = trade(40, 2000, "7")
    take(lake, [old, [late]], random.Random(1))

    assert register(lake) == by_rule([*old, late]) != []
    assert_all_is_settled(lake)


def test_the_register_comes_to_rest_over_midnight(lake: SmallLake) -> None:
    held = [(43001.9, 2), (43071.2, 3), (43072.6, 1), (43117.6, 2), (43118.6, 3), (43248.5, 4), (43253.5, 5)]
    rows = [trade(number, second) for second, number in held]
    lake.append(SILVER, rows)
    for _ in range(2):
        for day in (NEXT, DAY):
            lake.trades_refresh(day).take_in_news()

    assert register(lake) == by_rule(rows)
    assert_all_is_settled(lake)


def test_a_copy_that_gold_lacks_keeps_its_epoch_open(lake: SmallLake) -> None:
    batches = [
        [trade(4, 43_627.7), trade(5, 43_633.3)],
        [trade(2, 43_010.7), trade(1, 43_031.5), trade(2, 43_477.4)],
        [trade(1, 43_005.1), trade(1, 43_077.1), trade(3, 43_497.5)],
    ]
    for batch in batches:
        lake.append(SILVER, batch)
        for day in (DAY, NEXT, DAY, NEXT):
            lake.trades_refresh(day).take_in_news()

    assert register(lake) == by_rule([row for batch in batches for row in batch]) == [43_031.5]
    assert_all_is_settled(lake)


def test_the_largest_id_is_known_again_when_the_last_epoch_closes(lake: SmallLake) -> None:
    old = [trade(1000 + 2 * step, 42_895 + 10 * step) for step in range(30)]
    take(lake, [[*old, trade(5, 43_210), trade(6, 43_410)]], random.Random(1))
    assert register(lake) == [43_210]

    take(lake, [[trade(1055, 43_220)]], random.Random(1))  # the two no longer follow each other

    assert register(lake) == []
    assert Memory.of(lake.table(GOLD_TRADES)).largest == {"binance|BTCUSDT": 1058}


def test_a_run_that_read_the_register_before_another_changed_it_begins_again(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [trade(number, -4000 + number * 10) for number in range(100, 130)]
    take(lake, [old], random.Random(1))
    first = [trade(number, 3600 + number * 10, "7") for number in range(50, 60)]
    second = [trade(number, 86_400 + number * 10, "9") for number in range(1, 20)]
    lake.append(SILVER, first + second)
    original, others = refresh_rows.write_epochs, iter([DAY])

    def write(*arguments: Any) -> Any:
        for day in others:  # another process, between the reading of this one and its writing
            lake.trades_refresh(day).take_in_news()
        return original(*arguments)

    monkeypatch.setattr(refresh_rows, "write_epochs", write)
    for day in (NEXT, DAY, NEXT):
        lake.trades_refresh(day).take_in_news()

    assert register(lake) == by_rule([*old, *first, *second])
    assert len(lake.gold()) == 59
    assert_all_is_settled(lake)


@pytest.mark.parametrize("reason", ["an instrument that is new", "an odd frame long ago"])
def test_little_of_gold_is_read_to_judge_a_day(lake: SmallLake, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    days = [DAY - timedelta(days=ago) for ago in range(6, -1, -1)]
    for number, day in enumerate(days):
        seconds = (day - DAY).days * 86_400
        rows = [trade(number * 100 + step + 1, seconds + step * 30) for step in range(20)]
        if reason == "an odd frame long ago" and number == 1:
            rows.append(trade(50, seconds + 5000))
        if reason == "an instrument that is new" and day == DAY:
            rows += [a_trade(step + 1, step * 30, symbol="NEWUSDT", offset=900_000 + step) for step in range(3)]
        lake.append(SILVER, rows)
        lake.trades_refresh(day).take_in_news()
    original, read = epoch_search.read_files, []

    def counted(*arguments: Any) -> Any:
        read.append(original(*arguments))
        return read[-1]

    monkeypatch.setattr(epoch_search, "read_files", counted)
    lake.trades_refresh(days[4] if reason == "an odd frame long ago" else DAY).replace_day()

    assert sum(rows.height for rows in read) <= 60


def sparse(chance: random.Random) -> list[Row]:
    """Trades around midnight, mostly less than two minutes apart, whose ids fall and jump."""
    trades, second, number = [], 43_200.0 - chance.choice([60, 200, 600, 2000]), chance.randint(1, 20)
    for _ in range(chance.randint(8, 26)):
        second = round(second + chance.choice([1, 5, 20, 45, 70, 130, 400]) + chance.random(), 1)
        number += 1
        if (kind := chance.random()) < 0.2:
            number = max(1, number - chance.randint(3, 40)) if kind < 0.12 else number + chance.randint(5, 30)
        trades.append(trade(number, second, str(chance.randint(1, 999))))
    return trades


@pytest.mark.parametrize("seed", [1, 2])
def test_batches_and_the_order_of_days_change_nothing(lake: SmallLake, seed: int) -> None:
    chance = random.Random(seed)
    trades = sparse(chance)
    rows = chance.sample(trades, len(trades)) if chance.random() < 0.5 else trades
    cuts = [0, *sorted(chance.sample(range(1, len(rows)), chance.randint(1, 3))), len(rows)]
    take(lake, [rows[begin:end] for begin, end in itertools.pairwise(cuts)], chance)

    assert register(lake) == pytest.approx(by_rule(trades))
    assert_all_is_settled(lake)
