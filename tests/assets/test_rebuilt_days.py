"""What a rebuilt day of silver does above it: gold and candles replace the day whole, by themselves, once."""

import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.rebuilt_days import Taken, marks
from k2_assets.refine.days_with_news import News
from k2_core.errors import MalformedFrame
from k2_core.lake.tables import CANDLES, GOLD_OHLCV_1M, GOLD_TRADES, derived_from
from k2_core.venues import binance
from tests.assets.by_hand import candles_by_hand, contents
from tests.assets.drained import SILVER, DrainedLake, at
from tests.assets.frames import NOON_MS
from tests.assets.lakes import DAY
from tests.assets.test_days_with_news import of
from tests.venue_builder import a_venue

MINUTE_MS = 60_000
MIDNIGHT_MS = NOON_MS + 720 * MINUTE_MS
NEXT = DAY + timedelta(days=1)


@pytest.fixture(name="lake")
def a_drained_lake(tmp_path: Path) -> Iterator[DrainedLake]:
    made = DrainedLake(tmp_path / "home")
    yield made
    made.catalog.close()


def refresh(lake: DrainedLake) -> None:
    """As refine does: each day by itself."""
    for day in (DAY, NEXT):
        lake.trades_refresh(day).take_in_news()
    for day, spec in product((DAY, NEXT), CANDLES):
        lake.candles_refresh(day, spec).take_in_news()


def refuses(*numbers: int) -> Any:
    """A parser that refuses some trades."""

    def parse(payload: bytes) -> Any:
        found = binance.parse(payload)
        if found and getattr(found[0], "sequence", None) in numbers:
            raise MalformedFrame("unknown_event", "refused")
        return found

    return a_venue(parse=parse)


def assert_gold_is_silver(lake: DrainedLake) -> None:
    wanted = {row["message_id"]: (row["timestamp"], row["price"]) for row in lake.rows(SILVER)}
    assert {key: (row["timestamp"], row["price"]) for key, row in lake.gold().items()} == wanted
    assert contents(lake.rows(GOLD_OHLCV_1M)) == candles_by_hand(lake.rows(GOLD_TRADES))


@pytest.mark.parametrize("_", range(2))
def test_trades_that_come_and_go_with_parsers_show_in_gold_and_in_the_candles_around(
    lake: DrainedLake, rng: random.Random, _: int
) -> None:
    """Those at midnight among them: the candle before is proved by the first trade after it."""
    moments = sorted(MIDNIGHT_MS + rng.randint(-20, 20) * MINUTE_MS + rng.randint(0, 59_999) for _ in range(25))
    lake.drain(*(at(moment, number, p=str(rng.randint(1, 9))) for number, moment in enumerate(moments)))
    refresh(lake)
    assert_gold_is_silver(lake)

    for _ in range(4):
        refused = rng.sample(range(25), rng.randint(0, 25))
        lake.rebuild(rng.choice([DAY, NEXT]), refuses(*refused))
        refresh(lake)
        assert_gold_is_silver(lake)


def test_a_day_that_loses_all_its_trades_leaves_neither_gold_nor_candles(lake: DrainedLake) -> None:
    lake.drain(at(MIDNIGHT_MS - 5, 1), at(MIDNIGHT_MS + 5, 2), at(MIDNIGHT_MS + 90_000, 3))
    refresh(lake)

    lake.rebuild(NEXT, refuses(2, 3))
    refresh(lake)

    assert lake.ids(GOLD_TRADES) == [1]
    assert_gold_is_silver(lake)
    assert Counter(row["missing_trades"] for row in lake.rows(GOLD_OHLCV_1M)) == {0: 1}


def test_marks_are_taken_in_once_and_asked_for_until_then(lake: DrainedLake) -> None:
    lake.drain(at(NOON_MS, 1), at(NOON_MS + 1, 2), at(MIDNIGHT_MS, 3))
    refresh(lake)
    news = News(Lake(lake.settings))
    assert of(news) == {}

    lake.rebuild(venue=refuses(1, 2))  # silver's day is empty now: no file is new
    assert of(news) == {GOLD_TRADES.name: {DAY}}

    lake.trades_refresh().take_in_news()
    assert of(news) == {name: {DAY} for name in derived_from(GOLD_TRADES.name)}

    for spec in CANDLES:
        lake.candles_refresh(spec=spec).take_in_news()
    assert of(news) == {}
    assert_gold_is_silver(lake)
    before = lake.metadata_location(GOLD_TRADES), lake.metadata_location(GOLD_OHLCV_1M)
    refresh(lake)
    assert (lake.metadata_location(GOLD_TRADES), lake.metadata_location(GOLD_OHLCV_1M)) == before


def test_a_day_that_a_person_replaced_marks_it_for_the_candles(lake: DrainedLake) -> None:
    lake.drain(at(NOON_MS, 1), at(NOON_MS + 200_000, 2))
    refresh(lake)
    lake.table(SILVER).delete("source_sequence = 2")

    lake.trades_refresh().replace_day()
    assert Taken.of(lake.table(GOLD_OHLCV_1M)).behind(lake.table(GOLD_TRADES)) == {DAY}
    lake.candles_refresh().take_in_news()

    assert_gold_is_silver(lake)
    lake.rebuild()
    refresh(lake)
    assert_gold_is_silver(lake)
    assert set(marks(lake.table(GOLD_TRADES))) == {"2024-08-09"}  # one: the older was dropped


def test_memory_of_marks_stays_small(lake: DrainedLake) -> None:
    days = [DAY + timedelta(days=number) for number in range(12)]
    lake.drain(*(at(NOON_MS + number * 1440 * MINUTE_MS, number) for number in range(12)))
    for number, day in enumerate(days):
        lake.trades_refresh(day).take_in_news()
        lake.rebuild(day, refuses(number))
        lake.trades_refresh(day).take_in_news()

    assert len(marks(lake.table(SILVER))) == 1
    assert lake.table(GOLD_TRADES).properties["k2.rebuilt_taken"].count("-08-") == 1
