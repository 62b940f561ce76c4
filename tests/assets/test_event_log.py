"""Dagster's own storage after a purge: small, and everything that is derived from it is as it was."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from k2_assets.maintenance.event_log import purge
from k2_assets.orchestration.daily_partitions import daily
from k2_core import clock
from k2_core.settings import Dagster

KEEP = Dagster()
SOON, LATE = timedelta(hours=KEEP.runs_keep_hours, minutes=1), timedelta(days=KEEP.others_keep_days, minutes=1)
MACHINE = {"dagster/sensor_name": "main_feed_sensor"}
SOURCE, DERIVED = dg.AssetKey("source"), dg.AssetKey("derived")


DAYS = daily(date(2010, 1, 1))


@dg.asset(name="source", partitions_def=DAYS)
def a_source() -> None: ...


@dg.asset(name="derived", deps=[a_source], partitions_def=DAYS)
def a_derived() -> None: ...


@dg.asset_check(asset="source", name="judged")
def a_check() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@contextmanager
def an_instance(home: Path) -> Iterator[dg.DagsterInstance]:
    (home / "dagster.yaml").write_text((Path(__file__).parents[2] / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(home)) as found:
        yield found


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with an_instance(tmp_path) as found:
        yield found


def a_drain(reports: int, days: tuple[str, ...], *, succeeds: bool = True) -> dg.JobDefinition:
    """Make a job that reports as a drain does: a materialization of each day and a check, again and again."""

    @dg.op
    def work(context: dg.OpExecutionContext) -> None:
        for number in range(reports):
            context.log.info("%d frames", number)
            for day in days:
                context.log_event(dg.AssetMaterialization(SOURCE, partition=day, metadata={"rows": number}))
            evaluation = dg.AssetCheckEvaluation(asset_key=SOURCE, check_name="judged", passed=True)
            context.log_event(evaluation)  # type: ignore[arg-type]  # it takes evaluations of checks too
        if not succeeds:
            raise dg.Failure

    @dg.job(executor_def=dg.in_process_executor)
    def main_drain() -> None:
        work()

    return main_drain


def drained(
    instance: dg.DagsterInstance, reports: int, *days: str, tags: dict[str, str] | None = None, succeeds: bool = True
) -> str:
    job = a_drain(reports, days, succeeds=succeeds)
    tags = MACHINE if tags is None else tags
    return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False).run_id


def materialized(instance: dg.DagsterInstance, day: str, tags: dict[str, str] | None = None) -> str:
    result = dg.materialize(
        [a_source, a_derived],
        selection=[DERIVED],
        partition_key=day,
        instance=instance,
        tags=MACHINE if tags is None else tags,
    )
    return result.run_id


def what_is_derived(instance: dg.DagsterInstance) -> dict[str, Any]:
    """Return what pages make of the events."""
    log = instance.event_log_storage
    kinds = (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    keys = (SOURCE, DERIVED)
    newest = {(key, kind): log.get_latest_storage_id_by_partition(key, kind) for key in keys for kind in kinds}
    record = log.get_asset_check_execution_history(dg.AssetCheckKey(SOURCE, "judged"), limit=1)[0]
    return {
        "days": {key: set(instance.get_materialized_partitions(key)) for key in keys},
        "newest": newest,
        "newest of all": {key: instance.get_latest_materialization_event(key) for key in keys},
        "check": (record.id, record.status, record.run_id),
    }


def bytes_of(home: Path) -> int:
    return sum(path.stat().st_size for path in home.rglob("*") if path.is_file())


def runs(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs()}


def test_what_is_derived_stays_while_the_rest_goes(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    for _ in range(5):
        drained(instance, 20, "2024-08-07", "2024-08-08")
        materialized(instance, "2024-08-08")
    yesterday = drained(instance, 20, "2024-08-07", "2024-08-08")
    today = drained(instance, 20, "2024-08-08")
    behind = drained(instance, 1, "2024-08-09")
    gold = materialized(instance, "2024-08-08")
    before, bytes_before = what_is_derived(instance), bytes_of(tmp_path)

    purged = purge(instance, KEEP, clock.now() + SOON)

    assert what_is_derived(instance) == before
    assert runs(instance) == {yesterday, today, behind, gold}
    assert purged.runs == 10
    assert bytes_of(tmp_path) < bytes_before
    left = {path.stem for path in (tmp_path / "history" / "runs").glob("*.db")}
    assert left == {"index", yesterday, today, behind, gold}
    assert {path.name for path in (tmp_path / "storage").iterdir()} == runs(instance)


def test_a_second_purge_finds_nothing(instance: dg.DagsterInstance) -> None:
    for _ in range(3):
        drained(instance, 3, "2024-08-07", "2024-08-08")
    assert purge(instance, KEEP, clock.now() + SOON).runs == 2
    again = purge(instance, KEEP, clock.now() + SOON)
    assert (again.runs, again.logs_of_runs) == (0, 0)


def test_young_runs_stay_whole(instance: dg.DagsterInstance) -> None:
    found = [drained(instance, 3, "2024-08-08") for _ in range(3)]
    purged = purge(instance, KEEP, clock.now())
    assert purged.runs == 0
    assert runs(instance) == set(found)


@pytest.mark.parametrize(
    "make",
    [
        lambda instance: drained(instance, 2, "2024-08-08", succeeds=False),
        lambda instance: drained(instance, 2, "2024-08-08", tags={}),
        lambda instance: drained(instance, 2, "2024-08-08", tags={**MACHINE, "dagster/backfill": "some"}),
    ],
    ids=["failed", "of a person", "of a backfill"],
)
def test_runs_that_somebody_may_look_for_stay_for_a_month(
    instance: dg.DagsterInstance, make: Callable[[dg.DagsterInstance], str]
) -> None:
    found = make(instance)
    newest = drained(instance, 1, "2024-08-08")
    purge(instance, KEEP, clock.now() + SOON)
    assert runs(instance) == {found, newest}
    assert len(instance.all_logs(found, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)) == 2
    purge(instance, KEEP, clock.now() + LATE)
    assert runs(instance) == {newest}


def test_log_of_a_run_that_stays_goes_after_a_month(instance: dg.DagsterInstance) -> None:
    newest = drained(instance, 5, "2024-08-08")
    before = what_is_derived(instance)
    assert purge(instance, KEEP, clock.now() + LATE).logs_of_runs == 1
    assert what_is_derived(instance) == before
    assert runs(instance) == {newest}
    assert purge(instance, KEEP, clock.now() + LATE).logs_of_runs == 0


def test_unfinished_runs_stay(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(a_drain(1, ()), status=dg.DagsterRunStatus.STARTED, tags=MACHINE)
    purge(instance, KEEP, clock.now() + LATE)
    assert runs(instance) == {run.run_id}
