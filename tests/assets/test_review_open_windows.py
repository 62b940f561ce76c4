"""News of open windows waits for a minute, and no longer, whatever else is written to the table."""

from datetime import timedelta

import pytest

from k2_assets.lake.lake_resource import Lake
from k2_assets.refine.days_with_news import News
from k2_core import clock
from k2_core.lake.tables import CANDLES, GOLD_TRADES
from tests.assets.lakes import DAY, NOON, SmallLake, a_trade

WIDER = {spec.name for spec in CANDLES[1:]}


def test_a_backfill_of_old_days_does_not_keep_open_windows_waiting(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment, passed = [NOON + timedelta(minutes=1)], [1_000.0]
    monkeypatch.setattr(clock, "now", lambda: moment[0])
    monkeypatch.setattr(clock, "monotonic", lambda: passed[0])
    news = News(Lake(lake.settings))

    def add(number: int, second: float, *, wider: bool) -> None:
        row = a_trade(number, second)
        lake.append(GOLD_TRADES, [row])
        for spec in CANDLES if wider else CANDLES[:1]:
            lake.candles_refresh(row["timestamp"].date(), spec).take_in_news()

    add(1000, 0, wider=True)
    news.days()
    add(1001, 30, wider=False)  # all windows are open
    waited = 0
    while not any(DAY in days for table, days in news.days().items() if table in WIDER):
        waited += 30
        assert waited < 300, "a minute's news of today waits for ever while older days are written"
        moment[0] += timedelta(seconds=0.5)
        passed[0] += 30
        add(waited, -86_400 * (2 + waited // 30), wider=True)  # a day of history
