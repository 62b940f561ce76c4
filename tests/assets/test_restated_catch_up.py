"""What a catch-up restates: nothing but the edges of days that it took out of order."""

from datetime import date, timedelta
from itertools import count

import pytest

from k2_assets.gold import refresh_candles, refresh_rows
from k2_assets.lake.source_files import Seen
from k2_core import clock
from k2_core.lake import source_memory
from k2_core.lake.tables import CANDLES, GOLD_QUOTES, GOLD_TRADES
from tests.assets.lakes import DAY, NOON, SILVER, SILVER_QUOTES, SmallLake, a_quote, a_trade, trades_of
from tests.assets.test_restatements import restated

NEXT = DAY + timedelta(days=1)


def refine(lake: SmallLake, day: date) -> None:
    """Refresh a day of trades and candles as refine does."""
    lake.trades_refresh(day).take_in_news()
    for spec in CANDLES:
        lake.candles_refresh(day, spec).take_in_news()
    lake.quotes_refresh(day).take_in_news()


def summary(lake: SmallLake) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for row in restated(lake):
        key = row["table"], row["reason"]
        found[key] = found.get(key, 0) + 1
    return found


def test_catching_up_over_midnight_newest_day_first_restates_the_edges_alone(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = [NOON + timedelta(hours=10)]
    monkeypatch.setattr(clock, "now", lambda: moment[0])
    rows = trades_of(range(1, 17 * 60), 60)  # until 05:00 of the next day
    quotes = [a_quote(n, n * 60.0) for n in range(1, 17 * 60)]
    lake.append(SILVER, [row for row in rows if row["timestamp"] < moment[0]])
    lake.append(SILVER_QUOTES, [row for row in quotes if row["timestamp"] < moment[0]])
    refine(lake, DAY)
    assert summary(lake) == {}
    later, moment[0] = moment[0], NOON + timedelta(hours=17)  # refine was down in the meantime
    lake.append(SILVER, [row for row in rows if row["timestamp"] >= later])
    lake.append(SILVER_QUOTES, [row for row in quotes if row["timestamp"] >= later])
    refine(lake, NEXT)  # refine takes the newest day first
    moment[0] += timedelta(seconds=1)
    refine(lake, DAY)
    # The candles before and after the hours that came second were published as incomplete, and followed by others.
    minutes = [row["window_start"] for row in restated(lake) if row["table"] == CANDLES[0].name]
    assert minutes == [NOON + timedelta(hours=9, minutes=59), NOON + timedelta(hours=12)]
    assert {table for table, _ in summary(lake)} <= {spec.name for spec in CANDLES} | {
        GOLD_TRADES.name,
        GOLD_QUOTES.name,
    }


def test_history_of_a_day_in_several_batches_restates_no_window_of_its_own(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh_candles, "_BATCH_ROWS", 20)
    monkeypatch.setattr(refresh_rows, "_BATCH_ROWS", 20)
    later = trades_of(range(2000, 2010), 60, 86_400)
    lake.append(SILVER, later)
    refine(lake, NEXT)
    for first in range(1, 100, 20):
        lake.append(SILVER, trades_of(range(first, first + 20), 60, first * 60))
    refine(lake, DAY)
    edge = trades_of([2000], 60, 86_400)[0]["timestamp"]  # it, and the windows around it, learn of a trade before
    assert [row for row in restated(lake) if row["window_end"] <= edge.replace(hour=0)] == []


def test_a_day_that_the_memory_has_forgotten_is_restated_like_any_other(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_memory, "DAYS_REMEMBERED", 2)
    begun, looks = clock.now(), count()  # readers have had what the refresh before wrote for some minutes
    monkeypatch.setattr(clock, "now", lambda: begun + timedelta(minutes=3 * next(looks)))
    lake.append(SILVER, trades_of([1, 2, 4], 60))
    for later in (1, 2, 3):
        lake.append(SILVER, trades_of([10 * later], 60, later * 86_400))
    for later in (0, 1, 2, 3):
        refine(lake, DAY + timedelta(days=later))
    assert not Seen.of(lake.table(GOLD_TRADES)).of_day(DAY)  # forgotten
    before = restated(lake)

    lake.append(SILVER, [a_trade(3, 120.5)])
    lake.append(SILVER, [a_trade(5, 240)])
    lake.trades_refresh(DAY).replace_day()
    lake.candles_refresh(DAY).replace_day()

    found = [row for row in restated(lake) if row not in before]
    assert {"rows": "3"} in [row["before"] for row in found if row["table"] == GOLD_TRADES.name]
    assert [row["window_start"] for row in found if row["before"] == {}] == [NOON + timedelta(minutes=4)]
