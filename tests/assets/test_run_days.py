"""Runs of several days, as backfills launch them: each day by itself, and a bad one stops no other."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.partition_status_cache import AssetPartitionStatus

from k2_assets.gold.assets import gold_assets
from k2_assets.gold.checks import gold_checks
from k2_assets.gold.gold_day import GoldDay
from k2_assets.gold.refresh_counts import RefreshCounts
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.daily_partitions import daily
from k2_assets.orchestration.run_days import days_of
from k2_assets.silver.assets import silver_assets
from k2_core.lake.tables import GOLD_OHLCV_1M, GOLD_TABLES, GOLD_TRADES
from k2_core.venues import kraken
from tests.assets.lakes import DAY, NOON, SILVER, SmallLake, a_trade

DAYS = [DAY + timedelta(days=number) for number in range(4)]
RANGE = {"dagster/asset_partition_range_start": str(DAYS[0]), "dagster/asset_partition_range_end": str(DAYS[-1])}
PARTITIONS = daily(DAY)


@pytest.fixture(name="lake")
def a_lake_of_four_days(lake: SmallLake) -> SmallLake:
    lake.append(SILVER, [a_trade(number, NOON + timedelta(days=number - 1)) for number in range(1, 5)])
    return lake


def run(lake: SmallLake, instance: dg.DagsterInstance, *assets: str) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [*gold_assets(PARTITIONS), *gold_checks(PARTITIONS)],
        selection=list(assets),
        tags=RANGE,
        resources={"lake": Lake(lake.settings)},
        instance=instance,
        raise_on_error=False,
    )


def reported(instance: dg.DagsterInstance, asset: str) -> list[date]:
    """Return the days of an asset in the order in which Dagster got them."""
    found = instance.fetch_materializations(dg.AssetKey(asset), limit=100, ascending=True).records
    return [date.fromisoformat(each.partition_key) for each in found if each.partition_key]


def failing_once(
    rebuild: Callable[[GoldDay], RefreshCounts], day: date, times: int
) -> Callable[[GoldDay], RefreshCounts]:
    left = {day: times}

    def rebuild_or_fail(self: GoldDay) -> RefreshCounts:
        if left.get(self.day, 0):
            left[self.day] -= 1
            raise OSError(f"{self.day} cannot be read")
        return rebuild(self)

    return rebuild_or_fail


def test_every_day_of_a_run_is_rebuilt_and_reported_with_what_it_is(lake: SmallLake) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        done = run(lake, instance, GOLD_TRADES.name, GOLD_OHLCV_1M.name)
        assert done.success
        newest = instance.get_latest_materialization_event(dg.AssetKey(GOLD_TRADES.name))
        seen = [reported(instance, asset) for asset in (GOLD_TRADES.name, GOLD_OHLCV_1M.name)]

    assert sorted(row["trade_id"] for row in lake.gold().values()) == ["1", "2", "3", "4"]
    assert {row["window_start"].date() for row in lake.candles().values()} == set(DAYS)
    assert seen == [DAYS * 2, DAYS * 2]  # as each ended, and by Dagster when the step did
    assert newest
    assert newest.asset_materialization
    assert newest.asset_materialization.metadata["rows added"].value == 1


def test_a_bad_day_stops_no_other_and_the_run_fails_naming_it(lake: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GoldDay, "rebuild", failing_once(GoldDay.rebuild, DAYS[1], times=2))

    with dg.DagsterInstance.ephemeral() as instance:
        done = run(lake, instance, GOLD_TRADES.name)
        seen = reported(instance, GOLD_TRADES.name)
        shown = instance.get_status_by_partition(dg.AssetKey(GOLD_TRADES.name), list(map(str, DAYS)), PARTITIONS)

    assert shown is not None
    assert {day for day, status in shown.items() if status is AssetPartitionStatus.FAILED} == {str(DAYS[1])}
    assert not done.success
    assert sorted(row["trade_id"] for row in lake.gold().values()) == ["1", "3", "4"]
    assert seen == [DAYS[0], DAYS[2], DAYS[3]]
    error = done.failure_data_for_node(GOLD_TRADES.name)
    assert error
    assert error.user_failure_data
    assert error.user_failure_data.description == f"1 of 4 days were not rebuilt: {DAYS[1]}: {DAYS[1]} cannot be read"


def test_a_day_that_failed_is_tried_once_more_after_the_others(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GoldDay, "rebuild", failing_once(GoldDay.rebuild, DAYS[1], times=1))

    with dg.DagsterInstance.ephemeral() as instance:
        done = run(lake, instance, GOLD_TRADES.name)
        seen = reported(instance, GOLD_TRADES.name)

    assert done.success
    assert seen[:4] == [DAYS[0], DAYS[2], DAYS[3], DAYS[1]]


def test_candles_of_a_day_with_an_unfit_trade_stay_and_the_other_days_are_rebuilt(lake: SmallLake) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(lake, instance, GOLD_TRADES.name).success
        lake.append(GOLD_TRADES, [a_trade(9, NOON + timedelta(days=2), price="-1")])  # past our own writer
        done = run(lake, instance, GOLD_OHLCV_1M.name)

    assert {row["window_start"].date() for row in lake.candles().values()} == {DAYS[0], DAYS[1], DAYS[3]}
    error = done.failure_data_for_node(GOLD_OHLCV_1M.name)
    assert error
    assert error.user_failure_data
    said: Any = error.user_failure_data.description
    assert said.startswith(f"1 of 4 days were not rebuilt: {DAYS[2]}: the check fit_for_candles of gold_crypto_trades ")


def test_checks_are_recorded_of_each_day_and_of_nothing_else(lake: SmallLake) -> None:
    key = dg.AssetCheckKey(dg.AssetKey(GOLD_TRADES.name), "fit_for_candles")
    with dg.DagsterInstance.ephemeral() as instance:
        run(lake, instance, GOLD_TRADES.name)
        lake.append(SILVER, [a_trade(9, NOON + timedelta(days=2), price="-1")])  # past our own parser
        run(lake, instance, GOLD_TRADES.name)
        records = instance.event_log_storage.get_asset_check_execution_history(key, limit=20)

    newest = {record.partition: record.status.value for record in reversed(records)}
    assert newest == {str(day): "FAILED" if day == DAYS[2] else "SUCCEEDED" for day in DAYS}


def test_a_run_has_the_days_that_its_tags_say_partitions_or_not() -> None:
    assert days_of(RANGE) == DAYS
    assert days_of({"dagster/partition": "1999-12-31"}) == [date(1999, 12, 31)]


def test_a_backfill_takes_a_month_of_gold_or_a_week_of_silver_into_a_run() -> None:
    found = {
        each.key.to_user_string(): each.backfill_policy.max_partitions_per_run
        for each in [*gold_assets(PARTITIONS), *silver_assets(kraken, PARTITIONS)]
        if isinstance(each, dg.AssetsDefinition) and each.backfill_policy
    }

    assert found == {
        **{name: 30 if spec.timeframe is None else 31 for name, spec in GOLD_TABLES.items()},
        "silver_kraken_trades": 7,
        "silver_kraken_quotes": 7,
    }
