"""What was over and changes is recorded once, with the values before and after; what was still open is not."""

from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from pyiceberg.expressions import EqualTo

from k2_core import clock
from k2_core.lake.tables import CANDLES, GOLD_OHLCV_1M, GOLD_RESTATEMENTS, GOLD_TRADES
from tests.assets.lakes import DAY, NOON, SILVER, SmallLake, a_trade, trades_of
from tests.assets.test_refresh_candles import refresh_all


class Killed(BaseException):
    pass


def restated(lake: SmallLake) -> list[dict[str, Any]]:
    rows = lake.rows(GOLD_RESTATEMENTS)
    return [
        row | {"before": dict(row["before"]), "after": dict(row["after"])}
        for row in sorted(rows, key=lambda row: (row["table"], row["symbol"], row["window_start"], row["restated_at"]))
    ]


def of_minutes(lake: SmallLake) -> list[dict[str, Any]]:
    return [row for row in restated(lake) if row["table"] == GOLD_OHLCV_1M.name]


def minute(number: int) -> Any:
    return NOON + timedelta(minutes=number)


def test_what_grows_in_order_restates_nothing(lake: SmallLake) -> None:
    for first in range(1, 400, 40):
        lake.append(GOLD_TRADES, trades_of(range(first, first + 40), 13, first * 13))
        refresh_all(lake)

    assert restated(lake) == []


def test_a_late_trade_restates_its_windows_in_every_timeframe_and_again_nothing(lake: SmallLake) -> None:
    rows = [a_trade(n, (n - 1) * 30, price=str(100 + n)) for n in range(1, 13)]
    late = rows.pop(4)  # id 5 opens minute 2
    lake.append(GOLD_TRADES, [*rows, a_trade(13, 3 * 86_400)])
    refresh_all(lake)
    for spec in CANDLES:  # of the day three days later
        lake.candles_refresh(DAY + timedelta(days=3), spec).take_in_news()

    lake.append(GOLD_TRADES, [late])
    refresh_all(lake)

    found = of_minutes(lake)
    assert [(row["window_start"], row["reason"]) for row in found] == [(minute(1), "late"), (minute(2), "late")]
    assert found[0]["before"] == {"is_complete": "false", "missing_trades": "1"}
    assert found[0]["after"] == {"is_complete": "true", "missing_trades": "0"}
    assert found[1]["before"] | {"trade_count": "1", "open_price": "106"} == found[1]["before"]
    assert found[1]["after"] | {"trade_count": "2", "open_price": "105", "volume": "2"} == found[1]["after"]
    assert {row["table"] for row in restated(lake)} == {spec.name for spec in CANDLES}

    for spec in CANDLES:
        lake.candles_refresh(DAY, spec).replace_day()
    refresh_all(lake)
    assert of_minutes(lake) == found


@pytest.mark.parametrize("after", [10, 60, 3 * 1_440])
def test_the_candle_after_a_late_trade_is_restated_too_where_a_hole_lies_on_their_boundary(
    lake: SmallLake, after: int
) -> None:
    lake.append(GOLD_TRADES, [a_trade(1), a_trade(5, 60)])
    lake.append(GOLD_TRADES, [a_trade(6, 60 * after)])
    refresh_all(lake)

    lake.append(GOLD_TRADES, [a_trade(3, 30)])
    refresh_all(lake)

    found = {row["window_start"]: row["after"] for row in of_minutes(lake)}
    assert found[minute(1)] == {"missing_trades": "1"}


def test_a_minute_that_was_empty_and_one_that_goes(lake: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.append(GOLD_TRADES, [a_trade(1), a_trade(3, 180)])
    refresh_all(lake)
    begun, looks = clock.now(), count(1)
    monkeypatch.setattr(clock, "now", lambda: begun + timedelta(minutes=3 * next(looks)))
    lake.append(GOLD_TRADES, [a_trade(2, 60)])
    refresh_all(lake)
    came = next(row for row in of_minutes(lake) if row["window_start"] == minute(1))
    assert came["before"] == {}
    assert came["after"]["first_trade_id"] == "2"

    lake.table(GOLD_TRADES).delete(EqualTo("source_sequence", 2))
    lake.candles_refresh().replace_day()

    went = [row for row in of_minutes(lake) if row["window_start"] == minute(1)][-1]
    assert (went["before"]["first_trade_id"], went["after"], went["reason"]) == ("2", {}, "rebuild")


def test_a_day_of_trades_that_was_over_is_restated_with_its_counts(lake: SmallLake) -> None:
    rows = [a_trade(n, n * 60, offset=n) for n in range(1, 6)]
    later = a_trade(9, 86_400, offset=9)
    lake.append(SILVER, [*rows, later])
    for day in (DAY, DAY + timedelta(days=1)):
        lake.trades_refresh(day).take_in_news()
    assert restated(lake) == []

    lake.append(SILVER, [a_trade(6, 360, offset=10), a_trade(1, 60, offset=11)])
    lake.trades_refresh().take_in_news()
    lake.trades_refresh().take_in_news()
    lake.trades_refresh().replace_day()

    (found,) = restated(lake)
    assert (found["table"], found["reason"], found["window_end"] - found["window_start"]) == (
        GOLD_TRADES.name,
        "late",
        timedelta(days=1),
    )
    assert (found["before"], found["after"]) == ({"rows": "5"}, {"rows": "6"})

    lake.table(SILVER).overwrite(lake.table(SILVER).scan("source_sequence != 2").to_arrow())
    lake.trades_refresh().replace_day()
    assert restated(lake)[-1]["after"] == {"rows": "5"}
    assert restated(lake)[-1]["reason"] == "rebuild"


@pytest.mark.parametrize(
    "point", ["gold_ohlcv_1m.committed", "gold_restatements.commit", "gold_restatements.committed"]
)
def test_a_kill_between_the_two_commits_loses_no_restatement_and_repeats_none(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    rows = trades_of(range(1, 13), 30)
    late = rows.pop(4)
    lake.append(GOLD_TRADES, rows)
    refresh_all(lake)
    lake.append(GOLD_TRADES, [late])

    def killed(reached: str) -> None:
        if reached == point:
            raise Killed

    monkeypatch.setattr("k2_assets.lake.commits.reach", killed)
    with pytest.raises(Killed):
        lake.candles_refresh().take_in_news()
    monkeypatch.undo()
    lake.candles_refresh().take_in_news()
    lake.candles_refresh().take_in_news()

    assert [row["window_start"] for row in of_minutes(lake)] == [minute(1), minute(2)]


def test_minutes_of_an_earlier_version_get_their_ids_when_they_are_rebuilt_and_restate_nothing(lake: SmallLake) -> None:
    rows = trades_of(range(1, 9), 30)
    lake.append(GOLD_TRADES, [*rows, a_trade(9, 2 * 86_400)])
    refresh_all(lake)
    without = [row | {"lowest_sequence": None, "highest_sequence": None} for row in lake.rows(GOLD_OHLCV_1M)]
    lake.table(GOLD_OHLCV_1M).delete(EqualTo("exchange", "binance"))
    lake.append(GOLD_OHLCV_1M, without)
    before = lake.candles()

    lake.candles_refresh().replace_day()
    refresh_all(lake)

    minutes = {start: row for (_, start), row in lake.candles().items() if start < NOON + timedelta(days=1)}
    assert [row["lowest_sequence"] for _, row in sorted(minutes.items())] == [1, 3, 5, 7]
    assert all(row["updated_at"] == before["BTCUSDT", start]["updated_at"] for start, row in minutes.items())
    assert restated(lake) == []
