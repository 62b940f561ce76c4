"""The checks of gold, each on rows that pass and on rows that fail it: pure, and on small lakes."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from k2_assets.gold import candle_checks, quote_checks, trade_checks
from k2_assets.gold.checks import GOLD_CHECKS
from k2_assets.gold.judged_day import JudgedDay
from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.source_files import as_frame
from k2_assets.orchestration.verdict import Verdict
from k2_core import clock
from k2_core.epochs import NO_EPOCHS, Epochs
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import CANDLES, GOLD_QUOTES, GOLD_TRADES
from k2_core.timeframes import ONE_MINUTE, TIMEFRAMES
from tests.assets.lakes import DAY, NOON, SILVER, SILVER_QUOTES, Row, SmallLake, a_quote, a_trade, to_arrow, trades_of

ALWAYS = (0, 2**62)
HOURS_LATER = NOON + timedelta(hours=5)


def trades(*rows: Row) -> pl.DataFrame:
    return as_frame(to_arrow(GOLD_TRADES, list(rows)))


def quotes(*rows: Row) -> pl.DataFrame:
    return as_frame(to_arrow(GOLD_QUOTES, list(rows)))


def judged(lake: SmallLake, table: str, name: str, *, whole: bool = True) -> Verdict:
    [check] = [each for each in GOLD_CHECKS if (each.table, each.name) == (table, name)]
    return check.judge(JudgedDay(Lake(lake.settings), table, DAY, whole))


def test_a_hole_in_the_ids_is_found_with_its_size_and_its_bounding_trades() -> None:
    rows = trades(*trades_of([1, 2, 5, 6, 10]), *trades_of([7, 8], symbol="ETHUSDT"))

    found = trade_checks.contiguous_ids(rows, "the whole day", NO_EPOCHS, ALWAYS)

    assert not found.passed
    assert found.sentence == (
        "5 trades are missing in 2 holes between the ids of 7 trades in the whole day; "
        "the largest, of 3, is of binance BTCUSDT."
    )
    assert found.samples.select("symbol", "last before", "first after", "missing").rows() == [
        ("BTCUSDT", 6, 10, 3),
        ("BTCUSDT", 2, 5, 2),
    ]
    whole = trade_checks.contiguous_ids(trades(*trades_of([3, 1, 2])), "the whole day", NO_EPOCHS, ALWAYS)
    assert (whole.passed, whole.sentence) == (True, "No id is missing between 3 trades in the whole day.")


def test_ids_of_two_epochs_and_holes_outside_the_times_read_are_no_holes() -> None:
    again = trades(*trades_of([100, 101]), *trades_of([1, 2], start=3600))
    epochs = Epochs({("binance", "BTCUSDT"): [clock.to_us(NOON + timedelta(hours=1))]})
    assert trade_checks.contiguous_ids(again, "", epochs, ALWAYS).passed
    assert not trade_checks.contiguous_ids(again, "", NO_EPOCHS, ALWAYS).passed

    early = trades(*trades_of([1, 5, 6]))
    from_second = (clock.to_us(NOON) + 1, 2**62)
    assert trade_checks.contiguous_ids(early, "", NO_EPOCHS, from_second).passed
    assert not trade_checks.contiguous_ids(early, "", NO_EPOCHS, ALWAYS).passed


def test_a_price_that_jumps_is_found_and_a_market_that_moves_is_not() -> None:
    moving = [a_trade(n, n, price=f"{100 * 1.002**n:.6f}") for n in range(1, 100)]
    still = [a_trade(n, n, symbol="ETHUSDT", price="10") for n in range(1, 100)]
    calm = trade_checks.price_jumps(trade_checks.jumps(trades(*moving, *still)), "the whole day")
    assert (calm.passed, calm.sentence) == (True, "The price of no trade of 138 in the whole day jumps.")

    odd = a_trade(100, 100, symbol="ETHUSDT", price="11")
    found = trade_checks.price_jumps(trade_checks.jumps(trades(*moving, *still, odd)), "the whole day")
    assert (found.passed, found.sentence) == (
        False,
        "The price of 1 trade of 139 in the whole day jumps; the furthest, of binance ETHUSDT, by +10 % (score 95.3).",
    )
    assert found.samples["trade_id"].to_list() == ["100"]


def test_trades_outside_the_spread_are_found_where_a_recent_quote_is() -> None:
    spread = quotes(*(a_quote(n, n) for n in range(60)))  # 99 to 101
    inside = [a_trade(n, n + 0.5, price=str(99 + n % 3)) for n in range(50)]

    fine = trade_checks.inside_spread(trade_checks.outside_spread(trades(*inside), spread), "the whole day")
    late = trade_checks.outside_spread(trades(a_trade(90, 90, price="500")), spread)
    far = trade_checks.outside_spread(trades(*inside, a_trade(77, 30.5, price="102.3")), spread)
    found = trade_checks.inside_spread(far, "the whole day")

    assert (fine.passed, fine.sentence) == (True, "no trade of 50 in the whole day lies outside the spread.")
    assert (late.judged, late.unjudged) == (0, 1)
    assert (found.passed, found.sentence) == (
        False,
        "1 trade of 51 (2 %) in the whole day lies outside the spread; the furthest by 1.3 %.",
    )
    assert found.samples["trade_id"].to_list() == ["77"]


def test_an_order_that_takes_several_levels_lies_inside_the_spread_of_the_quote_after_it() -> None:
    moving = quotes(a_quote(1, 0), a_quote(2, 1, bid="104", ask="105"))
    assert trade_checks.outside_spread(trades(a_trade(1, 0.9, price="105")), moving).rows.is_empty()
    assert trade_checks.outside_spread(trades(a_trade(1, 0.9, price="106")), moving).rows.height == 1


def test_a_symbol_that_stops_trading_is_stale_and_one_that_seldom_trades_is_not() -> None:
    lively = trades_of(range(600))
    seldom = trades_of(range(25), 20.0, symbol="ADAUSDT")  # for 110 s nothing
    few = trades_of(range(3), symbol="XRPUSDT")
    assert trade_checks.stale_symbols(trades(*lively, *seldom, *few)).passed

    stopped = trades_of(range(120), symbol="ETHUSDT")
    found = trade_checks.stale_symbols(trades(*lively, *seldom, *few, *stopped))

    assert (found.passed, found.sentence) == (
        False,
        "1 instrument of 3 that trade regularly went quiet: binance ETHUSDT has not traded for 8 min, "
        "and usually pauses for at most 1 s.",
    )


def test_a_feed_that_was_down_makes_no_symbol_stale_before_it_trades_again() -> None:
    before = [*trades_of(range(100)), *trades_of(range(100), symbol="ETHUSDT")]
    again = trades_of(range(500, 510), start=1000)
    assert trade_checks.stale_symbols(trades(*before, *again)).passed
    assert trade_checks.stale_symbols(trades()).passed


@pytest.mark.parametrize(
    ("behind_s", "day", "passed", "severity"),
    [
        (60, DAY, True, "warning"),
        (300, DAY, False, "warning"),
        (3600, DAY, False, "error"),
        (3600, DAY - timedelta(days=1), True, "warning"),  # a backfill of the day before makes nothing fresh
        (14 * 86_400, DAY, True, "warning"),
    ],
)
def test_the_newest_day_lags_when_nothing_comes(behind_s: int, day: Any, passed: bool, severity: str) -> None:
    newest_us = clock.to_us(NOON)
    found = trade_checks.event_time_lag(newest_us, day, newest_us + behind_s * clock.US_PER_SECOND)
    assert (found.passed, passed or found.severity) == (passed, passed or severity)
    assert trade_checks.event_time_lag(None, day, newest_us).passed


@pytest.mark.parametrize(
    ("later_s", "passed"), [(0.1, True), (-1, True), (-5, False), (45, False), (86_400 * 300, True)]
)
def test_a_venue_whose_trades_come_before_they_happened_or_very_late_is_named(later_s: float, passed: bool) -> None:
    odd = [a_trade(n, n, ingestion_timestamp=NOON + timedelta(seconds=n + later_s)) for n in range(9)]
    fine = [a_trade(n, n, exchange="kraken") for n in range(9)]
    found = trade_checks.clock_skew(trades(*odd, *fine), "the whole day", 2, 30)
    assert found.passed == passed
    assert passed or "binance" in found.sentence
    assert ("9 trades loaded later are not judged" in found.sentence) == (later_s > 86_400)


def test_a_bid_above_the_offer_is_found_by_instrument() -> None:
    fine = [a_quote(n, n) for n in range(2000)] + [a_quote(2001, 1, bid=None)]
    assert quote_checks.bid_not_above_ask(quotes(*fine, a_quote(3000, 3, bid="102")), "the whole day").passed

    found = quote_checks.bid_not_above_ask(
        quotes(*fine, *(a_quote(n, n, symbol="ETHUSDT", bid="102" if n < 3 else "100") for n in range(10))),
        "the whole day",
    )
    assert (found.passed, found.sentence) == (
        False,
        "3 quotes of 2,011 in the whole day are crossed, more than 1 % of 1 instrument: of binance ETHUSDT 3 of 10 "
        "(30 %).",
    )
    assert found.samples["symbol"].to_list() == ["ETHUSDT"] * 3


def some_candles(*incomplete: int, of: int = 60) -> pl.DataFrame:
    starts = [NOON + timedelta(minutes=n) for n in range(of)]
    return pl.DataFrame(
        {
            "exchange": ["binance"] * of,
            "symbol": ["BTCUSDT"] * of,
            "window_start": starts,
            "window_end": [each + timedelta(minutes=1) for each in starts],
            "is_complete": [n not in incomplete for n in range(of)],
            "missing_trades": [2 if n in incomplete and 0 < n < of - 1 else 0 for n in range(of)],
        }
    )


def test_incomplete_candles_are_counted_but_for_the_first_and_the_newest() -> None:
    def found(*incomplete: int, timeframe: int = 0, **other: int) -> Verdict:
        return candle_checks.complete_candles(some_candles(*incomplete, **other), TIMEFRAMES[timeframe], HOURS_LATER)

    assert found(0, 59).sentence == "no candle of 58 that are over is incomplete."
    assert found(0, 5, 199, of=200).passed
    assert (found(0, 5).passed, found(0, 5).severity) == (False, "warning")
    assert found(0, 5).sentence == (
        "1 candle of 59 that are over is incomplete (1.7 %); 2 trades are known to be missing."
    )
    assert found(*range(1, 20)).severity == "error"
    assert found(*range(1, 20), timeframe=1).severity == "warning"
    open_windows = candle_checks.complete_candles(some_candles(*range(60)), ONE_MINUTE, NOON)
    assert open_windows.passed


def a_lake_of_candles(lake: SmallLake, *specs: TableSpec) -> None:
    """Eleven minutes of two instruments, one trade a second."""
    rows = [*trades_of(range(1, 660)), *trades_of(range(1, 660), symbol="ETHUSDT", price="7.5")]
    lake.append(SILVER, rows)
    lake.trades_refresh().take_in_news()
    for spec in (CANDLES[0], *(each for each in specs if each is not CANDLES[0])):
        lake.candles_refresh(spec=spec).take_in_news()


@pytest.mark.parametrize("spec", [CANDLES[0], CANDLES[-1]], ids=lambda spec: spec.name)
def test_sampled_candles_equal_their_trades_until_one_is_changed(lake: SmallLake, spec: TableSpec) -> None:
    a_lake_of_candles(lake, spec)
    assert judged(lake, spec.name, "equal_to_trades").passed
    fine = judged(lake, spec.name, "equal_to_trades", whole=False)
    assert fine.passed

    stored = lake.table(spec).scan().to_arrow()
    wrong = as_frame(stored).with_columns(pl.col("volume") + Decimal("0.00000001"))
    lake.table(spec).overwrite(wrong.to_arrow().cast(stored.schema))

    found = judged(lake, spec.name, "equal_to_trades")
    assert not found.passed
    assert "differ from what their trades give" in found.sentence
    assert set(found.samples["column"]) == {"volume"}
    if spec is CANDLES[0]:
        assert fine.sentence == "2 candles of 1 sampled window: each equals what its trades give."
        assert not judged(lake, spec.name, "equal_to_trades", whole=False).passed


def test_the_same_windows_are_sampled_each_time_and_others_of_another_day() -> None:
    starts = some_candles(of=1440)["window_start"].to_list()
    chosen = candle_checks.sampled_windows(starts, "gold_ohlcv_1m 2024-08-09", 5)
    assert chosen == candle_checks.sampled_windows(starts[::-1], "gold_ohlcv_1m 2024-08-09", 5)
    assert chosen != candle_checks.sampled_windows(starts, "gold_ohlcv_1m 2024-08-10", 5)
    assert len(chosen) == 5
    assert candle_checks.sampled_windows([], "", 5) == []


BAD_TRADES: dict[str, Callable[[], list[Row]]] = {
    "contiguous_ids": lambda: [a_trade(5000, 101)],
    "price_jumps": lambda: [a_trade(101, 101, price="150")],
    "inside_spread": lambda: [a_trade(101, 101, price="150")],
    "stale_symbols": lambda: trades_of(range(101, 500), start=101),
    "clock_skew": lambda: [
        a_trade(n, n, ingestion_timestamp=NOON + timedelta(seconds=n - 60)) for n in range(101, 400)
    ],
}


@pytest.mark.parametrize("name", BAD_TRADES)
def test_each_check_of_trades_reads_a_lake(lake: SmallLake, name: str) -> None:
    lake.append(GOLD_QUOTES, [a_quote(n, n) for n in range(110)])
    lake.append(GOLD_TRADES, [*trades_of(range(1, 101)), *trades_of(range(1, 101), symbol="ETHUSDT")])
    assert all(judged(lake, GOLD_TRADES.name, name, whole=whole).passed for whole in (True, False))

    lake.append(GOLD_TRADES, BAD_TRADES[name]())

    for whole in (True, False):
        found = judged(lake, GOLD_TRADES.name, name, whole=whole)
        assert not found.passed, found
        assert found.samples.height
        assert found.counts


def test_the_newest_files_show_no_hole_where_an_older_file_has_the_ids(lake: SmallLake) -> None:
    lake.append(GOLD_TRADES, [a_trade(n, n / 10) for n in range(1, 400) if n % 7])
    for first in range(0, 400, 40):  # each the missing ids of some seconds
        lake.append(GOLD_TRADES, [a_trade(n, n / 10) for n in range(first, first + 40) if n % 7 == 0 and n])
    assert judged(lake, GOLD_TRADES.name, "contiguous_ids", whole=False).passed


def test_quotes_that_cross_are_found_in_a_lake(lake: SmallLake) -> None:
    lake.append(SILVER_QUOTES, [a_quote(n, n) for n in range(1, 50)])
    lake.quotes_refresh().take_in_news()
    assert judged(lake, GOLD_QUOTES.name, "bid_not_above_ask").passed
    lake.append(SILVER_QUOTES, [a_quote(n, n, bid="102") for n in range(60, 63)])
    lake.quotes_refresh().take_in_news()
    for whole in (True, False):
        assert not judged(lake, GOLD_QUOTES.name, "bid_not_above_ask", whole=whole).passed
