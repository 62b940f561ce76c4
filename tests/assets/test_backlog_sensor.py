"""The safety net below automation: it asks for the days behind, and only for those."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from k2_assets.automation import REFINE_TAGS
from k2_assets.reference import epochs
from k2_assets.resources.lake import Lake
from k2_assets.sensors.backlog import backlog_sensor
from k2_core import seen
from k2_core.tables import GOLD_OHLCV_1M, GOLD_QUOTES, GOLD_TRADES
from tests.assets.lakes import DAY, NOON, SILVER, SILVER_QUOTES, SmallLake, a_quote, a_trade, trades_of

BOTH, CANDLES = {GOLD_TRADES.name, GOLD_OHLCV_1M.name}, {GOLD_OHLCV_1M.name}


@pytest.fixture(name="instance")
def a_dagster_instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def asked(sensor: dg.SensorDefinition, instance: dg.DagsterInstance) -> dict[str, set[str]]:
    """Day → names of the assets that the sensor asks for."""
    with dg.build_sensor_context(instance=instance) as context:
        result = sensor(context)
    if isinstance(result, dg.SkipReason):
        return {}
    assert isinstance(result, dg.SensorResult)
    for request in result.run_requests or []:
        assert request.has_resolved_partition()  # so that no first partition stands in its way
        assert request.tags["k2/queue"] == REFINE_TAGS["k2/queue"]
    return {
        str(request.partition_key): {key.to_user_string() for key in request.asset_selection or []}
        for request in result.run_requests or []
    }


def some_job() -> dg.JobDefinition:
    @dg.op
    def work() -> None:
        """Do nothing."""

    @dg.job
    def job() -> None:
        work()

    return job


def refresh(lake: SmallLake, days: int = 0) -> None:
    lake.trades_refresh(DAY + timedelta(days=days)).append_new()
    lake.candles_refresh(DAY + timedelta(days=days)).recompute_touched()


def test_days_behind_are_asked_for_until_they_are_taken_in(lake: SmallLake, instance: dg.DagsterInstance) -> None:
    sensor = backlog_sensor(Lake(lake.settings))
    assert asked(sensor, instance) == {}

    lake.append(SILVER, [a_trade(1), a_trade(2, NOON + timedelta(days=1))])
    assert asked(sensor, instance) == {"2024-08-09": BOTH, "2024-08-10": BOTH}

    lake.trades_refresh().append_new()
    assert asked(sensor, instance) == {"2024-08-09": CANDLES, "2024-08-10": BOTH}

    refresh(lake)
    assert asked(sensor, instance) == {"2024-08-10": BOTH}

    refresh(lake, days=1)
    assert asked(sensor, instance) == {}

    lake.append(SILVER, [a_trade(1, offset=99)])
    assert asked(sensor, instance) == {"2024-08-09": BOTH}
    refresh(lake)
    assert asked(sensor, instance) == {}


def test_a_day_that_a_run_works_on_is_not_asked_for(lake: SmallLake, instance: dg.DagsterInstance) -> None:
    sensor = backlog_sensor(Lake(lake.settings))
    lake.append(SILVER, [a_trade(1), a_trade(2, NOON + timedelta(days=1))])
    tags = {**REFINE_TAGS, "dagster/partition": "2024-08-09"}
    run = instance.create_run_for_job(some_job(), status=dg.DagsterRunStatus.STARTED, tags=tags)

    assert asked(sensor, instance) == {"2024-08-10": BOTH}

    instance.report_run_failed(run)
    assert set(asked(sensor, instance)) == {"2024-08-09", "2024-08-10"}


def test_days_that_are_no_partition_are_not_asked_for(lake: SmallLake, instance: dg.DagsterInstance) -> None:
    sensor = backlog_sensor(Lake(lake.settings))

    lake.append(SILVER, [a_trade(1, datetime(1999, 1, 1, tzinfo=UTC)), a_trade(2, datetime(2199, 1, 1, tzinfo=UTC))])

    assert asked(sensor, instance) == {}


def test_days_older_than_the_memory_are_not_asked_for_again_and_again(
    lake: SmallLake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backfill of more days than are remembered ends, and leaves nothing to ask for."""
    monkeypatch.setattr(seen, "DAYS_REMEMBERED", 2)
    lake.append(SILVER, [a_trade(n, NOON + timedelta(days=n)) for n in range(4)])

    for day in (3, 2, 1, 0):
        refresh(lake, day)

    assert asked(backlog_sensor(Lake(lake.settings)), instance) == {}
    assert len(lake.gold()) == len(lake.candles()) == 4

    lake.append(SILVER, [a_trade(9, offset=9)])
    refresh(lake)
    assert len(lake.gold()) == 5


def test_days_of_quotes_are_asked_for_beside_those_of_trades(lake: SmallLake, instance: dg.DagsterInstance) -> None:
    sensor = backlog_sensor(Lake(lake.settings))
    lake.append(SILVER_QUOTES, [a_quote(1), a_quote(2, NOON + timedelta(days=1))])
    lake.append(SILVER, [a_trade(1)])
    tomorrow = (DAY + timedelta(days=1)).isoformat()

    assert asked(sensor, instance) == {DAY.isoformat(): {*BOTH, GOLD_QUOTES.name}, tomorrow: {GOLD_QUOTES.name}}

    lake.quotes_refresh().append_new()
    refresh(lake)
    assert asked(sensor, instance) == {tomorrow: {GOLD_QUOTES.name}}


def test_days_whose_ids_an_epoch_changes_are_asked_for_in_gold_and_once_drains_know_it_in_silver(
    lake: SmallLake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.append(SILVER, [*trades_of(range(1, 5), 30), *trades_of(range(1, 5), 30, 43_190, quantity="2")])
    for days in (0, 1):
        refresh(lake, days)
    sensor = backlog_sensor(Lake(lake.settings))

    assert asked(sensor, instance) == {"2024-08-09": BOTH}
    monkeypatch.setattr(epochs, "_DRAINS_KNOW_S", 0.0)
    assert asked(sensor, instance) == {"2024-08-09": {*BOTH, SILVER.name}, "2024-08-10": {SILVER.name}}
    refresh(lake)
    assert asked(sensor, instance) == {"2024-08-09": {SILVER.name}, "2024-08-10": {SILVER.name}}
