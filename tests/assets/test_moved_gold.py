"""Gold that other writers moved while a day was computed: its files are used again where they are right still."""

import random
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from pyiceberg.table import Table

from k2_assets.gold.gold_day import GoldDay
from k2_assets.gold.refresh_candles import CandlesRefresh
from k2_assets.gold.refresh_rows import GoldRefresh
from k2_assets.lake import commits
from k2_assets.lake.lake_resource import Lake
from k2_core.lake.tables import GOLD_OHLCV_1M, GOLD_QUOTES, GOLD_TRADES
from tests.assets.by_hand import candles_by_hand, contents
from tests.assets.lakes import DAY, SILVER, SILVER_QUOTES, Row, SmallLake, a_quote, a_trade, data_on_disk, trades_of

BEFORE, NEXT, LATER = (DAY + timedelta(days=step) for step in (-1, 1, 2))
DAY_S = 86_400
Beside = Callable[[], object]


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Beside]]:
    """What other writers do, one before each of the next commits."""
    waiting: list[Beside] = []
    original = commits._try_commit

    def try_commit(*arguments: Any, **others: Any) -> bool:
        if waiting:
            act, rest = waiting[0], waiting[1:]
            waiting.clear()  # what it does itself is not interrupted
            act()
            waiting[:] = rest
        return original(*arguments, **others)

    monkeypatch.setattr(commits, "_try_commit", try_commit)
    yield waiting
    assert not waiting


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[date]:
    """The days that were computed whole, once for each time."""
    days: list[date] = []
    for refresh in (GoldRefresh, CandlesRefresh):
        original: Any = refresh._whole_day

        def whole_day(self: Any, table: Table, original: Any = original) -> Any:
            days.append(self._day)
            return original(self, table)

        monkeypatch.setattr(refresh, "_whole_day", whole_day)
    return days


def take_in(lake: SmallLake, day: date, rows: list[Row]) -> None:
    lake.append(SILVER, rows)
    lake.trades_refresh(day).take_in_news()


@pytest.fixture
def midnight(lake: SmallLake) -> SmallLake:
    """Silver has ten trades before midnight, gold only those after it, and later ones."""
    take_in(lake, NEXT, trades_of(range(11, 200), start=DAY_S / 2 + 30))
    take_in(lake, LATER, trades_of(range(300, 310), start=2 * DAY_S))
    lake.append(SILVER, trades_of(range(1, 11), start=DAY_S / 2 - 30))
    return lake


def test_files_of_a_day_are_used_again_after_commits_of_other_days(
    midnight: SmallLake, beside: list[Beside], computed: list[date]
) -> None:
    written = len(data_on_disk(midnight, GOLD_TRADES))
    ids = iter(range(310, 318))
    beside += [lambda: take_in(midnight, LATER, [a_trade(number := next(ids), 2 * DAY_S + number)])] * 8

    outcome = midnight.trades_refresh().replace_day()

    assert (outcome.rows_added, computed) == (10, [DAY])
    assert len(data_on_disk(midnight, GOLD_TRADES)) == written + 8 + 1
    stands = sorted(row["source_sequence"] for row in midnight.gold().values())
    assert stands == [*range(1, 200), *range(300, 318)]
    for day in (DAY, NEXT, LATER):  # none has forgotten what another took in
        assert midnight.trades_refresh(day).take_in_news().rows_read == 0


def test_the_day_after_it_may_grow_at_its_end(midnight: SmallLake, beside: list[Beside], computed: list[date]) -> None:
    beside.append(lambda: take_in(midnight, NEXT, [a_trade(200, DAY_S)]))

    midnight.trades_refresh().replace_day()

    assert (computed, len(midnight.gold())) == ([DAY], 210)


def test_a_day_that_another_writer_changed_is_computed_again(
    lake: SmallLake, beside: list[Beside], computed: list[date]
) -> None:
    take_in(lake, DAY, trades_of(range(1, 11)))
    lake.append(SILVER, [a_trade(11, 60)])
    beside.append(lambda: take_in(lake, DAY, [a_trade(12, 61)]))

    lake.trades_refresh().replace_day()

    assert computed == [DAY, DAY]
    assert sorted(row["source_sequence"] for row in lake.gold().values()) == [*range(1, 13)]


def test_a_rebuild_that_others_are_faster_than_has_them_wait(
    lake: SmallLake, beside: list[Beside], computed: list[date]
) -> None:
    """Each of their trades lies within two minutes of the day's, beyond midnight, and might change what they are."""
    rebuilt, other = (GoldDay(Lake(lake.settings), GOLD_TRADES.name, day) for day in (NEXT, DAY))
    ids = iter(range(1, 100))

    def as_refine() -> None:
        lake.append(SILVER, [a_trade(number := next(ids), DAY_S / 2 - 60 + number)])
        if not other.is_leased():
            other.take_in_news()

    take_in(lake, NEXT, trades_of(range(1, 10), start=DAY_S / 2 + 10, symbol="NEWUSDT"))
    lake.append(SILVER, [a_trade(10, DAY_S / 2 + 20, symbol="NEWUSDT")])
    beside += [as_refine] * 20

    rebuilt.rebuild()
    beside.clear()

    assert computed == [NEXT, NEXT, NEXT]
    other.take_in_news()
    assert len(lake.gold()) == 13


def test_ids_that_begin_again_in_another_day_meanwhile_are_found(
    lake: SmallLake, beside: list[Beside], computed: list[date]
) -> None:
    lake.append(SILVER, trades_of(range(1, 11)))
    beside.append(lambda: take_in(lake, NEXT, trades_of(range(3, 8), start=DAY_S, price="7", offset=500)))

    lake.trades_refresh().replace_day()
    for day in (DAY, NEXT, DAY, NEXT):
        lake.trades_refresh(day).take_in_news()

    assert DAY in computed
    assert len(lake.gold()) == 15


def test_quotes_are_used_again(lake: SmallLake, beside: list[Beside], computed: list[date]) -> None:
    def take_in_quotes(update_id: int) -> None:
        lake.append(SILVER_QUOTES, [a_quote(update_id, 3 * DAY_S + update_id)])
        lake.quotes_refresh(LATER + timedelta(days=1)).take_in_news()

    lake.append(SILVER_QUOTES, [a_quote(number, number, quote_id=str(number)) for number in range(1, 6)])
    beside += [lambda: take_in_quotes(100), lambda: take_in_quotes(101)]

    lake.quotes_refresh().replace_day()

    assert (computed, len(lake.gold_quotes())) == ([DAY], 7)
    assert len(data_on_disk(lake, GOLD_QUOTES)) == 3


def test_candles_are_used_again(midnight: SmallLake, beside: list[Beside], computed: list[date]) -> None:
    midnight.trades_refresh().take_in_news()
    for day in (NEXT, LATER):
        midnight.candles_refresh(day).take_in_news()
    newest = LATER + timedelta(days=1)
    take_in(midnight, newest, [a_trade(400, 3 * DAY_S)])
    beside.append(midnight.candles_refresh(newest).take_in_news)

    midnight.candles_refresh().replace_day()

    assert computed == [DAY]
    assert contents(midnight.rows(GOLD_OHLCV_1M)) == candles_by_hand(midnight.rows(GOLD_TRADES))
    for day in (DAY, NEXT, LATER, newest):
        assert midnight.candles_refresh(day).take_in_news().windows_computed == 0


@pytest.mark.parametrize("seed", range(12))
def test_whatever_comes_between_the_lake_ends_as_if_each_had_come_alone(
    lake: SmallLake, beside: list[Beside], seed: int
) -> None:
    chance = random.Random(seed)
    days = (BEFORE, DAY, NEXT, LATER)
    received = iter(range(1_000_000))

    def news() -> list[Row]:
        """Trades of any day, many of them near midnight; some repeat ids that are long gone, or yesterday's."""
        day = chance.choice(days)
        start = (day - DAY).days * DAY_S - 43_200 + chance.choice([0, 1, 50, 43_200, DAY_S - 130, DAY_S - 61])
        first = chance.choice([1, 40, 500]) + 100 * days.index(day) * chance.choice([1, 1, 1, 0])
        return [
            a_trade(first + step, start + step * chance.choice([1, 10]), price=str(1 + first), offset=next(received))
            for step in range(chance.randint(1, 5))
        ]

    def others() -> None:
        rows = news()
        lake.append(SILVER, rows)
        for day in chance.sample(days, 2):
            lake.trades_refresh(day).take_in_news()

    for _ in range(4):
        lake.append(SILVER, news())
        beside += [others] * chance.randint(1, 3)
        day = chance.choice(days)
        chance.choice([lake.trades_refresh(day).replace_day, lake.trades_refresh(day).take_in_news])()
        beside.clear()
    for _ in range(4):
        for day in days:
            lake.trades_refresh(day).take_in_news()
            lake.candles_refresh(day).take_in_news()

    stands, candles = lake.gold(), contents(lake.rows(GOLD_OHLCV_1M))
    for day in days:
        lake.trades_refresh(day).replace_day()
        lake.candles_refresh(day).replace_day()
    assert (lake.gold(), contents(lake.rows(GOLD_OHLCV_1M))) == (stands, candles)
    wanted = {(row["source_sequence"], row["timestamp"].date()) for row in lake.rows(SILVER)}
    assert {(row["source_sequence"], row["timestamp"].date()) for row in lake.gold().values()} <= wanted
