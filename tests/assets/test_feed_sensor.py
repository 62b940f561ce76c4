"""Exactly one drain: what the sensor asks for when there is none, one that lives, one that died, one that hangs."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest

from k2_assets.drain.beat import WAITING, Heart, read_beat
from k2_assets.drain.drain import beat_store
from k2_assets.drain.job import drain_job
from k2_assets.drain.supervision import PROCESS_TAG, fail_orphaned_runs
from k2_assets.sensors.feed import feed_sensor
from k2_core.settings import Drain, Settings


@pytest.fixture(name="instance")
def a_dagster_instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def some_settings(home: Path, **drain: float) -> Settings:
    return Settings(home=home, drain=Drain(**drain))


def tick(
    settings: Settings, instance: dg.DagsterInstance, cursor: str | None = None
) -> dg.SensorResult | dg.SkipReason:
    job = drain_job(settings.drain)
    with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        result = feed_sensor(settings, job)(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def a_started_run(settings: Settings, instance: dg.DagsterInstance, process: str | None = None) -> dg.DagsterRun:
    tags = {PROCESS_TAG: process} if process else {}
    job = drain_job(settings.drain)
    return instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)


def a_dead_process() -> str:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = psutil.Process(process.pid).create_time()
    return f"{process.pid}:{started:.2f}"


def own_process() -> str:
    process = psutil.Process()
    return f"{process.pid}:{process.create_time():.2f}"


def test_no_drain_asks_for_one_with_the_next_generation(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    result = tick(some_settings(tmp_path), instance, cursor="16")
    assert isinstance(result, dg.SensorResult)
    assert [request.run_key for request in result.run_requests or []] == ["main:17"]
    assert result.cursor == "17"


def test_drain_that_has_not_started_yet_is_waited_for(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = some_settings(tmp_path)
    instance.create_run_for_job(drain_job(settings.drain), status=dg.DagsterRunStatus.NOT_STARTED)
    assert isinstance(tick(settings, instance), dg.SkipReason)


def test_drain_that_beats_is_left_alone_even_in_a_quiet_market(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = some_settings(tmp_path, hung_after_s=0.001)
    run = a_started_run(settings, instance, own_process())
    with Heart(beat_store(settings), "main", run.run_id, 0.01) as heart:
        heart.progress(WAITING)
        while (beat := read_beat(beat_store(settings), "main")) is None or beat.phase != WAITING:
            pass
        assert isinstance(tick(settings, instance), dg.SkipReason)
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.STARTED  # type: ignore[union-attr]


def test_drain_whose_process_is_gone_is_failed_and_replaced(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = some_settings(tmp_path)
    run = a_started_run(settings, instance, a_dead_process())
    result = tick(settings, instance, cursor="3")
    assert isinstance(result, dg.SensorResult)
    assert [request.run_key for request in result.run_requests or []] == ["main:4"]
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE  # type: ignore[union-attr]


def test_drain_that_hangs_is_killed_before_it_is_replaced(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = some_settings(tmp_path, hung_after_s=0.001)
    beating = (
        "import sys, time; from pathlib import Path; from k2_assets.drain.beat import Heart\n"
        "with Heart(Path(sys.argv[1]), 'main', sys.argv[2], 60) as heart: print('beats', flush=True); time.sleep(600)"
    )
    run = a_started_run(settings, instance)
    command = [sys.executable, "-c", beating, str(beat_store(settings)), run.run_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"beats\n"
        result = tick(settings, instance)
        assert process.wait() == -9
    assert isinstance(result, dg.SensorResult)
    assert result.run_requests
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE  # type: ignore[union-attr]


def test_store_that_cannot_be_read_means_unknown_not_dead(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = some_settings(tmp_path)
    run = a_started_run(settings, instance, own_process())
    beat_store(settings).parent.mkdir(parents=True)
    beat_store(settings).write_bytes(b"no database at all" * 100)
    assert isinstance(tick(settings, instance), dg.SkipReason)
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.STARTED  # type: ignore[union-attr]


def test_only_runs_whose_process_is_gone_are_failed(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = some_settings(tmp_path)
    gone = a_started_run(settings, instance, a_dead_process())
    alive = a_started_run(settings, instance, own_process())
    unknown = a_started_run(settings, instance)
    assert fail_orphaned_runs(instance) == [gone.run_id]
    assert {instance.get_run_by_id(run.run_id).status for run in (alive, unknown)} == {dg.DagsterRunStatus.STARTED}  # type: ignore[union-attr]
