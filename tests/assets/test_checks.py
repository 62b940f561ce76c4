"""The asset checks on small lakes: what passes, what is found, and how much of a day is read."""

from contextlib import nullcontext
from datetime import timedelta
from decimal import Decimal

import dagster as dg
import polars as pl
import pytest

from k2_assets.drain.drain_report import faults_by_day
from k2_assets.gold.assets import gold_assets
from k2_assets.gold.candle_fitness import unfit_for_candles
from k2_assets.gold.checks import GOLD_CHECKS
from k2_assets.gold.judged_day import JudgedDay
from k2_assets.gold.row_checks import broken_invariants
from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.source_files import live_files, newest_and_beside
from k2_assets.orchestration.daily_partitions import daily
from k2_assets.silver import checks
from k2_core.lake.tables import GOLD_OHLCV_1M, GOLD_TRADES
from tests.assets.lakes import DAY, NOON, SILVER, Row, SmallLake, a_trade, to_arrow, trades_of

DAYS = daily(DAY)


def materialize(lake: SmallLake, kept: dg.DagsterInstance | None = None) -> dg.ExecuteInProcessResult:
    with nullcontext(kept) if kept else dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [*gold_assets(DAYS), *(each.definition(DAYS) for each in GOLD_CHECKS if each.by_refine)],
            selection=[GOLD_TRADES.name, GOLD_OHLCV_1M.name],
            partition_key=DAY.isoformat(),
            resources={"lake": Lake(lake.settings)},
            instance=instance,
            raise_on_error=True,
        )


def test_gold_is_made_and_passes_its_checks(lake: SmallLake) -> None:
    lake.append(SILVER, trades_of(range(1, 200)))
    run = materialize(lake)
    assert run.success
    assert {check.check_name: check.passed for check in run.get_asset_check_evaluations()} == {
        check.name: True
        for check in GOLD_CHECKS
        if check.table in {GOLD_TRADES.name, GOLD_OHLCV_1M.name} and check.by_refine
    }
    assert len(lake.gold()) == 199
    assert [row["trade_count"] for row in sorted(lake.candles().values(), key=lambda c: c["window_start"])] == [
        *(60, 60, 60, 19),
    ]


def test_each_check_of_a_day_is_recorded_once_and_says_what_it_saw(lake: SmallLake) -> None:
    lake.append(SILVER, trades_of(range(1, 200)))
    with dg.DagsterInstance.ephemeral() as instance:
        materialize(lake, instance)
        checks = {GOLD_TRADES.name: "unique_message_id", GOLD_OHLCV_1M.name: "candle_invariants"}
        history = instance.event_log_storage.get_asset_check_execution_history
        found = [history(dg.AssetCheckKey(dg.AssetKey(asset), name), limit=9) for asset, name in checks.items()]

    reported = [
        (each.partition, each.evaluation and each.evaluation.description) for records in found for each in records
    ]
    assert reported == [
        (DAY.isoformat(), "no repeated trade among 199 in the whole day."),
        (DAY.isoformat(), "4 candles: every invariant holds."),
    ]


def test_faults_that_a_drain_finds_are_of_the_day_they_stand_in() -> None:
    rows = pl.from_arrow(to_arrow(SILVER, [a_trade(1), a_trade(2, NOON + timedelta(days=1), price="-1")]))
    assert isinstance(rows, pl.DataFrame)

    found = faults_by_day(rows, "trades")

    assert {day: sorted(column for column, _ in faults) for day, faults in found.items() if faults} == {
        DAY + timedelta(days=1): ["price"]
    }


def test_trade_that_stands_twice_is_found(lake: SmallLake) -> None:
    lake.append(SILVER, trades_of(range(1, 10)))
    materialize(lake)
    lake.append(GOLD_TRADES, [a_trade(5, NOON + timedelta(seconds=4))])  # past our own writer
    [check] = [each for each in GOLD_CHECKS if (each.table, each.name) == (GOLD_TRADES.name, "unique_message_id")]
    for whole in (True, False):
        judged = check.judge(JudgedDay(Lake(lake.settings), GOLD_TRADES.name, DAY, whole))
        assert not judged.passed
        where = "the whole day" if whole else "its newest files and those beside them"
        assert judged.sentence == f"1 repeated trade among 10 in {where}."


def test_newest_files_are_judged_with_all_that_overlap_them_in_time(lake: SmallLake) -> None:
    for start in (0, 100, 200, 50):  # the last one lies among the first ones' times
        lake.append(GOLD_TRADES, trades_of(range(start, start + 60), start=float(start)))
    files = live_files(lake.table(GOLD_TRADES), "timestamp")
    judged = newest_and_beside(files, 1)
    seconds = sorted((each.first_us - min(f.first_us for f in files)) // 1_000_000 for each in judged)
    assert seconds == [0, 50, 100]
    assert newest_and_beside(files, 10) == files
    assert newest_and_beside([], 10) == []


@pytest.mark.parametrize(
    ("fault", "column"),
    [
        ({"price": Decimal(0)}, "price"),
        ({"quantity": Decimal(-1)}, "quantity"),
        ({"side": "buy"}, "side"),
        ({"message_id": "1"}, "message_id"),
        ({"source_sequence": -1}, "source_sequence"),
    ],
)
def test_silver_row_out_of_range_is_named(fault: Row, column: str) -> None:
    rows = pl.from_arrow(to_arrow(SILVER, [a_trade(1), a_trade(2) | fault]))
    assert isinstance(rows, pl.DataFrame)
    found = checks.faults(rows)
    assert found["column"].to_list() == [column]
    assert found["failures"].to_list() == [1]
    assert checks.faults(rows.head(1)).is_empty()


def test_broken_candle_is_found_by_its_invariant(lake: SmallLake) -> None:
    lake.append(SILVER, trades_of(range(1, 100)))
    materialize(lake)
    stored = pl.from_arrow(lake.table(GOLD_OHLCV_1M).scan().to_arrow())
    assert isinstance(stored, pl.DataFrame)
    assert broken_invariants(stored) == {}
    broken = stored.with_columns(pl.lit(Decimal(1)).cast(pl.Decimal(28, 12)).alias("high_price"))
    assert set(broken_invariants(broken)) == {"low ≤ open ≤ high", "low ≤ close ≤ high", "low ≤ vwap ≤ high"}
    assert broken_invariants(pl.concat([stored, stored.head(1)])) == {"one candle a window": 1}


@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        ({}, {}),
        ({"price": Decimal(0)}, {"price > 0": 1}),
        ({"quantity": None}, {"quantity > 0": 1}),
        ({"timestamp": NOON + timedelta(days=1)}, {"a time of the day": 1}),
    ],
)
def test_trade_of_which_no_candle_can_be_made_is_found(fault: Row, broken: dict[str, int]) -> None:
    rows = pl.DataFrame([{name: (a_trade(2) | fault)[name] for name in ("timestamp", "price", "quantity")}])
    assert unfit_for_candles(rows, DAY) == broken
    assert unfit_for_candles(rows.clear(), DAY) == {}


def test_ids_that_begin_again_are_warned_of(lake: SmallLake) -> None:
    lake.append(SILVER, [*trades_of(range(1, 10), 10), *trades_of(range(1, 10), 10, 3600, quantity="2")])

    [found] = [each for each in materialize(lake).get_asset_check_evaluations() if each.check_name == "ids_go_on"]

    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.metadata["binance BTCUSDT"].value == (NOON + timedelta(hours=1)).isoformat()
