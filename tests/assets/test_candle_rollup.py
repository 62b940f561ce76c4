"""Candles rolled up from minutes equal those built from their trades, in every timeframe and whatever the order."""

from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_assets.gold.candle_rollup import MINUTE_COLUMNS, rolled_up
from k2_assets.gold.candle_rows import candles
from k2_core import clock
from k2_core.epochs import NO_EPOCHS, Epochs
from k2_core.timeframes import MINUTE_US, ONE_MINUTE, TIMEFRAMES, Timeframe
from tests.assets.lakes import NOON, Row, a_trade, trades_of
from tests.assets.test_candle_rows import PRICES, QUANTITIES, frame, whole

WIDER = [each for each in TIMEFRAMES if each != ONE_MINUTE]
WINDOW = ["exchange", "symbol", "window_start"]


def both_ways(rows: list[Row], width_us: int, epochs: Epochs = NO_EPOCHS) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Check that what is rolled up equals what trades give; return it, and the windows that were left to trades."""
    spans = whole(rows)
    minutes = candles(frame(rows), spans, MINUTE_US, epochs)
    rolled, unsure = rolled_up(minutes.select(MINUTE_COLUMNS), spans, width_us, epochs)
    exact = candles(frame(rows), spans, width_us, epochs).sort(WINDOW)
    assert exact.join(unsure, on=WINDOW, how="anti").equals(rolled.sort(WINDOW))
    assert rolled.height + unsure.height == exact.height
    return rolled, unsure


@st.composite
def nasty_trades(draw: st.DrawFn) -> list[Row]:
    """Trades of two symbols within hours, with holes, in whatever order of ids and times."""
    rows = []
    for symbol in ("BTCUSDT", "ETHUSDT"):
        ids = draw(st.lists(st.integers(1, 40), max_size=25, unique=True))
        pace, disorder = draw(st.sampled_from([1, 10, 45, 400])), draw(st.sampled_from([0, 2, 70, 2_000]))
        for number in ids:
            second = number * pace + draw(st.integers(0, disorder))
            price, quantity = str(draw(PRICES)), str(draw(QUANTITIES))
            rows.append(a_trade(number, second, price=price, quantity=quantity, symbol=symbol))
    return rows


@given(nasty_trades(), st.sampled_from(WIDER), st.lists(st.integers(0, 2_000), max_size=2))
def test_minutes_and_trades_give_the_same_candles(rows: list[Row], timeframe: Timeframe, breaks: list[int]) -> None:
    starts = {("binance", "BTCUSDT"): [clock.to_us(NOON + timedelta(seconds=each)) for each in breaks]}
    both_ways(rows, timeframe.width_us, Epochs(starts))


@pytest.mark.parametrize("timeframe", WIDER, ids=lambda each: each.name)
def test_minutes_tell_all_of_ids_that_rise_with_time_also_where_some_are_missing(timeframe: Timeframe) -> None:
    present = [number for number in range(1, 900) if number % 97 and not 300 <= number < 310]
    rows = [a_trade(number, number * 29, price=str(number)) for number in present]

    rolled, unsure = both_ways(rows, timeframe.width_us)

    assert unsure.is_empty()
    assert rolled["trade_count"].sum() == len(present)


def test_a_hole_between_two_minutes_of_a_window_counts_once() -> None:
    rolled, unsure = both_ways(trades_of([1, 2, 5, 6, 7], 59), 5 * MINUTE_US)

    assert unsure.is_empty()
    assert rolled["missing_trades"].to_list() == [2]


def test_windows_are_left_to_trades_where_minutes_cannot_tell() -> None:
    swapped = [a_trade(1, 0), a_trade(3, 50), a_trade(2, 61), a_trade(4, 200)]
    _, unsure = both_ways(swapped, 5 * MINUTE_US)
    assert unsure.height == 1

    huge = [a_trade(number, number * 30, price="9999999999999999", quantity="1000") for number in (1, 2, 3, 4)]
    _, unsure = both_ways(huge, 5 * MINUTE_US)
    assert unsure.height == 1


def test_no_minutes_give_no_candles() -> None:
    rolled, unsure = both_ways([], 5 * MINUTE_US)
    assert rolled.is_empty()
    assert unsure.is_empty()


def test_a_day_that_lacks_ids_in_each_minute_needs_no_memory_for_each_pair_of_window_and_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [a_trade(number, (number // 2) * 60 + number % 2) for number in range(2, 600) if number % 3]
    spans, compared = whole(rows), []
    minutes = candles(frame(rows), spans, MINUTE_US)
    join = pl.DataFrame.join

    def counted(self: pl.DataFrame, other: pl.DataFrame, **how: Any) -> pl.DataFrame:
        found = join(self, other, **how)
        compared.append(found.height)
        return found

    monkeypatch.setattr(pl.DataFrame, "join", counted)
    rolled, _ = rolled_up(minutes.select(MINUTE_COLUMNS), spans, 5 * MINUTE_US, NO_EPOCHS)

    assert rolled["missing_trades"].min() > 0  # type: ignore[operator]  # of integers
    assert max(compared) <= minutes.height
