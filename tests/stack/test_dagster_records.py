"""Failed runs and failing checks, as a real Dagster instance records them."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from k2_core import clock
from k2_stack import dagster_records
from k2_stack.layer_status import layers_of_run

DAYS = dg.DailyPartitionsDefinition("2024-08-01", end_date="2024-08-10")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dagster")


@pytest.fixture(scope="module")
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(home)) as opened:
        yield opened


@dg.asset(partitions_def=DAYS)
def gold_ohlcv_1m() -> None:
    """Never succeeds."""
    raise ValueError("no candles today")


@dg.asset(partitions_def=DAYS)
def gold_crypto_trades() -> None:
    """Always succeeds."""


def evaluated(
    instance: dg.DagsterInstance,
    check: str,
    *passed: bool,
    day: str | None = None,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> None:
    """Record evaluations of a check, one run each, as the drain and the checks of a day do."""
    for each in passed:

        @dg.op
        def judge(context: dg.OpExecutionContext, each: bool = each) -> None:
            key = dg.AssetKey("gold_crypto_trades")
            found = dg.AssetCheckEvaluation(
                asset_key=key, check_name=check, passed=each, metadata={}, partition=day, severity=severity
            )
            context.log_event(found)  # type: ignore[arg-type]

        @dg.job
        def judging() -> None:
            judge()

        assert judging.execute_in_process(instance=instance).success


def now_s() -> float:
    return clock.now_ns() / clock.NS_PER_SECOND


def test_runs_that_failed_of_late_name_their_assets(instance: dg.DagsterInstance, home: Path) -> None:
    began_s = now_s()
    dg.materialize([gold_crypto_trades], instance=instance, partition_key="2024-08-09")
    dg.materialize([gold_ohlcv_1m], instance=instance, partition_key="2024-08-09", raise_on_error=False)

    (failed,) = dagster_records.failed_runs(home, began_s)

    assert failed.assets == ("gold_ohlcv_1m",)
    assert layers_of_run(failed.job, failed.assets) == {"candles"}
    assert began_s <= failed.ended_at_s <= now_s()
    assert dagster_records.failed_runs(home, now_s()) == []


def failing(home: Path, check: str) -> list[str | None]:
    """The days of which a check fails."""
    found = [each for each in dagster_records.failing_checks(home) if each.check == check]
    assert {each.asset for each in found} <= {"gold_crypto_trades"}
    return [each.partition for each in found]


def test_of_a_check_the_newest_evaluation_counts(instance: dg.DagsterInstance, home: Path) -> None:
    evaluated(instance, "ranges", True, False)
    assert failing(home, "ranges") == [None]

    evaluated(instance, "ranges", True)
    assert failing(home, "ranges") == []


def test_of_a_check_of_days_each_day_counts(instance: dg.DagsterInstance, home: Path) -> None:
    evaluated(instance, "unique", False)
    evaluated(instance, "unique", False, day="2024-08-08")
    evaluated(instance, "unique", True, day="2024-08-09")
    assert failing(home, "unique") == ["2024-08-08"]

    evaluated(instance, "unique", True, day="2024-08-08")
    assert failing(home, "unique") == []


def test_a_failing_check_says_when_it_was_judged_and_whether_it_only_warns(
    instance: dg.DagsterInstance, home: Path
) -> None:
    began_s = now_s()
    evaluated(instance, "grave", False, day="2024-08-08")
    evaluated(instance, "light", False, day="2024-08-08", severity=dg.AssetCheckSeverity.WARN)

    found = {each.check: each for each in dagster_records.failing_checks(home)}

    assert (found["grave"].only_warns, found["light"].only_warns) == (False, True)
    assert began_s <= found["grave"].judged_at_s <= found["light"].judged_at_s <= now_s()


def test_a_home_without_records_has_none(tmp_path: Path) -> None:
    assert dagster_records.failed_runs(tmp_path, 0.0) == []
    assert dagster_records.failing_checks(tmp_path) == []


def test_a_drain_makes_two_layers() -> None:
    assert layers_of_run("main_drain", ()) == {"bronze", "silver"}
    assert layers_of_run("maintain", ()) == set()
