"""Ids that begin again, from silver to candles: nothing lost, nothing twice, nothing proved over the break."""

import json
import random
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from k2_assets.gold.refresh_rows import GoldRefresh
from k2_assets.lake.rebuilt_days import Taken
from k2_core import clock
from k2_core.lake import tables
from k2_core.lake.catalog import ensure_tables
from k2_core.lake.tables import GOLD_OHLCV_1M, GOLD_TRADES, REFERENCE_EPOCHS, all_tables
from k2_core.trades import message_id
from k2_core.venues import kraken
from tests.assets.drained import DrainedLake, at, received
from tests.assets.lakes import DAY, NOON, SILVER, Row, SmallLake, a_trade, trades_of

NEXT = DAY + timedelta(days=1)
MIDNIGHT = (datetime(NEXT.year, NEXT.month, NEXT.day, tzinfo=NOON.tzinfo) - NOON).total_seconds()


@pytest.fixture
def drained(tmp_path: Path) -> Iterator[DrainedLake]:
    made = DrainedLake(tmp_path / "drained")
    yield made
    made.catalog.close()


def again(ids: range, start: float, **other: Any) -> list[Row]:
    """Trades ten seconds apart whose frames are no others' though their ids are."""
    return [a_trade(number, start + step * 10, offset=int(start) + step, **other) for step, number in enumerate(ids)]


def settle(lake: SmallLake, days: list[date], rounds: int = 2) -> None:
    for _ in range(rounds):
        for day in days:
            lake.trades_refresh(day).take_in_news()
    for day in days:
        lake.candles_refresh(day).take_in_news()


def starts(lake: SmallLake) -> list[datetime]:
    return sorted(row["start"] for row in lake.rows(REFERENCE_EPOCHS))


def complete(lake: SmallLake) -> dict[float, bool]:
    """Whether each candle is complete, by minutes after noon."""
    return {(start - NOON).total_seconds() / 60: row["is_complete"] for (_, start), row in lake.candles().items()}


def test_both_trades_of_an_id_that_begins_again_stand_and_no_candle_over_it_is_complete(lake: SmallLake) -> None:
    lake.append(SILVER, again(range(1000, 1030), 0))
    settle(lake, [DAY])
    lake.append(SILVER, [*again(range(3, 31), 7220), *again(range(1000, 1010), 10800, price="7")])
    settle(lake, [DAY])

    assert len(lake.gold()) == 68
    assert starts(lake) == [NOON + timedelta(seconds=7220)]
    known = complete(lake)
    assert [known[minute] for minute in (3, 4, 120, 121)] == [True, False, False, True]
    assert lake.candles()["BTCUSDT", NOON + timedelta(hours=3)]["missing_trades"] == 969  # a jump is a gap
    first, second = (message_id("binance", name, "1000") for name in ("BTCUSDT", f"BTCUSDT|{_us(7220)}"))
    assert {lake.gold()[first]["price"], lake.gold()[second]["price"]} == {100, 7}


def _us(second: float) -> int:
    return int((NOON.timestamp() + second) * 1_000_000)


@pytest.mark.parametrize("newest_first", [False, True])
def test_ids_that_begin_again_over_midnight_are_found_whichever_day_is_read_first(
    lake: SmallLake, newest_first: bool
) -> None:
    lake.append(SILVER, [*again(range(1, 31), MIDNIGHT - 300), *again(range(1, 32), MIDNIGHT, price="2")])
    days = [NEXT, DAY] if newest_first else [DAY, NEXT]
    settle(lake, days)

    assert len(lake.gold()) == 61
    assert starts(lake) == [NOON + timedelta(seconds=MIDNIGHT)]
    known = complete(lake)
    assert [known[MIDNIGHT / 60 + minute] for minute in (-2, -1, 0, 1)] == [True, False, False, True]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_order_and_batches_change_neither_gold_nor_candles(lake: SmallLake, seed: int) -> None:
    rows = [
        *again(range(50, 65), MIDNIGHT - 7000),
        *again(range(5, 20), MIDNIGHT - 100, price="2"),
        *again(range(1, 12), MIDNIGHT + 3000, price="3"),
    ]
    chance = random.Random(seed)
    chance.shuffle(rows)
    days = [DAY, NEXT]
    for first in range(0, len(rows), 14):
        lake.append(SILVER, rows[first : first + 14])
        lake.trades_refresh(chance.choice(days)).take_in_news()
    settle(lake, chance.sample(days, 2))

    assert starts(lake) == [NOON + timedelta(seconds=MIDNIGHT - 100), NOON + timedelta(seconds=MIDNIGHT + 3000)]
    assert sorted((row["timestamp"], row["source_sequence"]) for row in lake.gold().values()) == sorted(
        (row["timestamp"], row["source_sequence"]) for row in rows
    )
    known = complete(lake)
    assert not any(known[minute] for minute in known if known[minute] and _over(rows, minute))


def _over(rows: list[Row], minute: float) -> bool:
    """Whether a break lies between the trade before a minute and the one after it."""
    start = NOON + timedelta(minutes=minute)
    ordered = sorted(rows, key=lambda row: row["timestamp"])
    before = [row["source_sequence"] for row in ordered if row["timestamp"] < start]
    after = [row["source_sequence"] for row in ordered if row["timestamp"] >= start + timedelta(minutes=1)]
    return not before or not after or after[0] < before[-1]


@pytest.mark.parametrize("newest_first", [False, True])
def test_an_id_on_two_days_stands_once(lake: SmallLake, newest_first: bool) -> None:
    lake.append(SILVER, [a_trade(4, MIDNIGHT - 9), a_trade(5, MIDNIGHT - 1), a_trade(5, MIDNIGHT + 5, price="9")])
    days = [NEXT, DAY] if newest_first else [DAY, NEXT]
    settle(lake, days)

    assert {row["source_sequence"]: row["price"] for row in lake.gold().values()} == {4: 100, 5: 100}
    assert starts(lake) == []


@pytest.mark.parametrize("newest_first", [False, True])
def test_an_odd_frame_opens_nothing_and_its_id_stands_once(lake: SmallLake, newest_first: bool) -> None:
    lake.append(SILVER, trades_of(range(1, 20), 10))
    lake.append(SILVER, [*again(range(20, 30), MIDNIGHT + 100), a_trade(7, MIDNIGHT + 155, price="9", offset=999)])
    days = [NEXT, DAY] if newest_first else [DAY, NEXT]
    settle(lake, days)

    assert starts(lake) == []
    assert len(lake.gold()) == 29
    assert lake.gold()[message_id("binance", "BTCUSDT", "7")]["price"] == 100


def test_a_second_frame_makes_an_odd_one_a_trade_of_a_new_epoch(lake: SmallLake) -> None:
    lake.append(SILVER, trades_of(range(1, 20), 10))
    settle(lake, [DAY])
    lake.append(SILVER, [a_trade(7, 7200, price="9", offset=900)])
    settle(lake, [DAY])
    assert len(lake.gold()) == 19

    lake.append(SILVER, [a_trade(8, 7201, price="9", offset=901)])
    settle(lake, [DAY])

    assert len(lake.gold()) == 21
    assert starts(lake) == [NOON + timedelta(seconds=7200)]


def test_whole_days_are_judged_like_new_rows(lake: SmallLake) -> None:
    lake.append(SILVER, [*again(range(1, 31), MIDNIGHT - 300), *again(range(1, 32), MIDNIGHT, price="2")])
    for day in (NEXT, DAY, NEXT):
        lake.trades_refresh(day).replace_day()

    assert len(lake.gold()) == 61
    snapshots = lake.snapshots(GOLD_TRADES)
    lake.trades_refresh(NEXT).replace_day()
    assert lake.snapshots(GOLD_TRADES) == snapshots


def test_a_rebuild_gives_silver_the_ids_that_a_drain_would_give(drained: DrainedLake) -> None:
    ms = [int((NOON.timestamp() + second) * 1000) for second in (*range(0, 300, 10), *range(7200, 7300, 10))]
    frames = [at(moment, number % 30 + 1) for number, moment in enumerate(ms)]
    drained.drain(*frames)
    refresh = GoldRefresh(drained.catalog, drained.namespace, (SILVER.name,), DAY, "trades")
    refresh.take_in_news()
    before = {row["message_id"] for row in drained.rows(SILVER)}

    drained.rebuild()

    rows = drained.rows(SILVER)
    assert (len(before), len({row["message_id"] for row in rows})) == (30, 40)
    assert {row["message_id"] for row in rows} == set(drained.gold())
    drained.drain(at(ms[-1] + 1000, 11))
    drained.trades_refresh().take_in_news()
    assert {row["message_id"] for row in drained.rows(SILVER)} == set(drained.gold())
    drained.candles_refresh().take_in_news()
    assert drained.snapshots(GOLD_OHLCV_1M) > 0
    assert drained.rebuild().rows_written == 0


def test_a_rebuild_takes_in_an_epoch_only_once_every_drain_knows_it(
    drained: DrainedLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    ms = [int((NOON.timestamp() + second) * 1000) for second in (*range(0, 300, 10), *range(7200, 7300, 10))]
    drained.drain(*(at(moment, number % 30 + 1) for number, moment in enumerate(ms)))
    drained.trades_refresh().take_in_news()

    def asks_again() -> bool:
        return DAY in Taken.of(drained.table(SILVER)).behind(drained.table(REFERENCE_EPOCHS))

    drained.rebuild()
    assert asks_again()

    now = clock.now() + timedelta(seconds=121)
    monkeypatch.setattr("k2_core.clock.now", lambda: now)
    drained.rebuild()
    assert not asks_again()


def kraken_frame(kind: str, *trades: tuple[float, int]) -> bytes:
    items = [
        {
            "symbol": "BTC/USD",
            "side": "buy",
            "price": 5.5,
            "qty": 1.0,
            "trade_id": number,
            "timestamp": (NOON + timedelta(seconds=second)).isoformat().replace("+00:00", ".000000Z"),
        }
        for second, number in trades
    ]
    payload = json.dumps({"channel": "trade", "type": kind, "data": items}).encode()
    return received(payload, int((NOON.timestamp() + 100_000) * 1000))


def test_snapshots_open_no_epoch_but_belong_to_one(drained: DrainedLake) -> None:
    ensure_tables(drained.catalog, drained.namespace, all_tables(("kraken",)))
    sources = (tables.silver_trades("kraken").name,)

    def take(*frames: bytes) -> None:
        drained.drain(*frames, venue=kraken)
        GoldRefresh(drained.catalog, drained.namespace, sources, DAY, "trades").take_in_news()

    take(*(kraken_frame("update", (10.0 * step, 100 + step)) for step in range(30)))
    take(kraken_frame("snapshot", (7203, 4), (7201, 2), (7200, 100)), kraken_frame("snapshot", (7203, 4), (7205, 5)))
    assert (starts(drained), len(drained.gold())) == ([], 33)

    take(kraken_frame("update", (7210, 6)), kraken_frame("update", (7220, 7)))
    GoldRefresh(drained.catalog, drained.namespace, sources, DAY, "trades").take_in_news()
    assert starts(drained) == [NOON + timedelta(seconds=7200)]
    assert len(drained.gold()) == 36
