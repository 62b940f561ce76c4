"""Exactly one drain: what the sensor asks for when there is none, one that lives, one that died, one that hangs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData

from k2_assets.drain.drain_job import drain_job
from k2_assets.kept_runs.heartbeat import WAITING, Beat, Heart, read_beat
from k2_assets.kept_runs.keeping_sensor import keeping_sensor
from k2_assets.kept_runs.kept_run import kept_drain
from k2_assets.orchestration.run_processes import fail_orphaned_runs, process_of
from k2_core import clock, process_identity
from k2_core.settings import Drain, Settings
from k2_core.venues import binance


@pytest.fixture(name="instance")
def a_dagster_instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def some_settings(home: Path, **drain: float) -> Settings:
    return Settings(home=home, drain=Drain(**drain))


def tick(
    settings: Settings, instance: dg.DagsterInstance, cursor: str | None = None
) -> dg.SensorResult | dg.SkipReason:
    job = drain_job(settings, [binance])
    with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        result = keeping_sensor(kept_drain(settings), job, "main_feed_sensor")(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def a_run(
    settings: Settings,
    instance: dg.DagsterInstance,
    pid: int | None = None,
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED,
) -> dg.DagsterRun:
    """Make a run of the drain that process ``pid`` works on, as Dagster's launcher notes it."""
    run = instance.create_run_for_job(drain_job(settings, [binance]), status=status)
    if pid is not None:
        instance.report_engine_event("Waited in the queue.", run)
        instance.report_engine_event(f"Started process for run (pid: {pid}).", run, EngineEventData.in_process(pid))
    return run


def a_dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        pass
    return process.pid


@contextmanager
def a_drain(settings: Settings, run: dg.DagsterRun) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process that beats once, as the drain of ``run``, and then does nothing."""
    beating = (
        "import sys, time; from k2_core.settings import Settings; from k2_assets.kept_runs.heartbeat import Heart\n"
        "from k2_assets.kept_runs.kept_run import kept_drain\n"
        "with Heart(kept_drain(Settings(home=sys.argv[1], drain={'beat_interval_s': 60})), sys.argv[2]):\n"
        "    print('beats', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", beating, str(settings.home), run.run_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"beats\n"
            yield process
        finally:
            process.kill()


def status_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found
    return found.status


def test_no_drain_asks_for_one_with_the_next_generation(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    result = tick(some_settings(tmp_path), instance, cursor="16")
    assert isinstance(result, dg.SensorResult)
    assert [request.run_key for request in result.run_requests or []] == ["main:17"]
    assert result.cursor == "17"


def test_drain_that_has_not_started_yet_is_waited_for(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = some_settings(tmp_path)
    instance.create_run_for_job(drain_job(settings, [binance]), status=dg.DagsterRunStatus.NOT_STARTED)
    assert isinstance(tick(settings, instance), dg.SkipReason)


def test_drain_that_beats_is_left_alone_even_in_a_quiet_market(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = some_settings(tmp_path, hung_after_s=2, beat_interval_s=0.01)
    run = a_run(settings, instance, os.getpid())
    with Heart(kept_drain(settings), run.run_id) as heart:
        heart.progress(WAITING)
        progress_at = beat_when(settings, lambda beat: beat.phase == WAITING).progress_at
        beat_when(settings, lambda beat: beat.beat_at - progress_at > settings.drain.hung_after_s)
        assert isinstance(tick(settings, instance), dg.SkipReason)
    assert status_of(instance, run) is dg.DagsterRunStatus.STARTED


def test_drain_that_is_due_gets_one_successor(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = some_settings(tmp_path, work_minutes=1e-9)
    run = a_run(settings, instance)
    with Heart(kept_drain(settings), run.run_id):
        assert isinstance(tick(settings, instance), dg.SensorResult)
        successor = a_run(settings, instance)
        with Heart(kept_drain(settings).successor, successor.run_id) as heart:
            heart.progress(WAITING)
            assert isinstance(tick(settings, instance), dg.SkipReason)
    assert {status_of(instance, each) for each in (run, successor)} == {dg.DagsterRunStatus.STARTED}


def test_run_that_starts_after_one_that_was_due_died_is_the_only_one(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = some_settings(tmp_path, work_minutes=1e-9)
    with Heart(kept_drain(settings), "the one before"):
        pass
    a_run(settings, instance, os.getpid(), dg.DagsterRunStatus.STARTING)
    assert isinstance(tick(settings, instance), dg.SkipReason)


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
def test_drain_whose_process_is_gone_is_failed_and_replaced(
    tmp_path: Path, instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    settings = some_settings(tmp_path)
    run = a_run(settings, instance, a_dead_process(), status)
    result = tick(settings, instance, cursor="3")
    assert isinstance(result, dg.SensorResult)
    assert [request.run_key for request in result.run_requests or []] == ["main:4"]
    assert status_of(instance, run) is dg.DagsterRunStatus.FAILURE


def test_drain_that_hangs_is_killed_before_it_is_replaced(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = some_settings(tmp_path, hung_after_s=0.001)
    run = a_run(settings, instance)
    with a_drain(settings, run) as process:
        instance.report_engine_event("Started process.", run, EngineEventData.in_process(process.pid))
        result = tick(settings, instance)
        assert process.wait() == -signal.SIGKILL
    assert isinstance(result, dg.SensorResult)
    assert result.run_requests
    assert status_of(instance, run) is dg.DagsterRunStatus.FAILURE


HOLDS_LOCKS = """
import os, signal, sqlite3, sys, threading
from k2_assets.kept_runs.heartbeat import Heart
from k2_assets.kept_runs.kept_run import kept_drain
from k2_assets.kept_runs.run_lease import leased
from k2_core.settings import Settings

home, run_id, *others = sys.argv[1:]
held, kept = [], kept_drain(Settings(home=home, drain={"beat_interval_s": 60}))
with leased(kept, run_id, threading.Event()), Heart(kept, run_id):
    for database in others:
        held.append(sqlite3.connect(database, isolation_level=None))
        held[-1].execute("PRAGMA locking_mode = EXCLUSIVE")
        held[-1].execute("BEGIN EXCLUSIVE")
    print("holds", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@contextmanager
def a_stopped_drain(settings: Settings, run: dg.DagsterRun, *locked: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process that beats once as the drain of ``run``, locks databases, and is stopped by a signal."""
    command = [sys.executable, "-c", HOLDS_LOCKS, settings.home, run.run_id, *locked]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"holds\n"
            while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("locked", ["Dagster", "heartbeats", "leases"])
def test_drain_that_is_stopped_while_it_holds_a_lock_is_killed_first(tmp_path: Path, locked: str) -> None:
    """A process that closes the last connection to a database of Dagster's holds all others off meanwhile."""
    settings = some_settings(tmp_path, beat_interval_s=0.01, dead_after_s=0.01)
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        run = a_run(settings, instance)
        store = kept_drain(settings).store
        databases = [store.with_name("leases.db")] if locked == "leases" else [store]
        databases += (tmp_path / "dagster").rglob("*.db") if locked == "Dagster" else []
        with a_stopped_drain(settings, run, *databases) as process:
            result = tick(settings, instance)
            assert process.wait(60) == -signal.SIGKILL
    assert isinstance(result, dg.SensorResult)
    assert result.run_requests


def test_drain_that_was_stopped_a_moment_ago_is_left_alone(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = some_settings(tmp_path, beat_interval_s=60)
    run = a_run(settings, instance)
    with a_stopped_drain(settings, run) as process:
        assert isinstance(tick(settings, instance), dg.SkipReason)
        assert process.poll() is None


def test_drain_that_works_on_after_its_run_is_over_is_killed_before_it_is_replaced(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """As when it was canceled and did not end in time, or went beyond its longest time."""
    settings = some_settings(tmp_path)
    run = a_run(settings, instance, status=dg.DagsterRunStatus.CANCELED)
    with a_drain(settings, run) as process:
        result = tick(settings, instance)
        assert process.wait() == -signal.SIGKILL
    assert isinstance(result, dg.SensorResult)
    assert result.run_requests


def test_process_that_drained_and_has_stopped_is_left_alone(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = some_settings(tmp_path)
    with Heart(kept_drain(settings), "the one before"):
        pass  # this very process
    assert isinstance(tick(settings, instance), dg.SensorResult)


def test_store_that_cannot_be_read_means_unknown_not_dead(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = some_settings(tmp_path)
    run = a_run(settings, instance, os.getpid())
    kept_drain(settings).folder.mkdir(parents=True)
    kept_drain(settings).store.write_bytes(b"no database at all" * 100)
    assert isinstance(tick(settings, instance), dg.SkipReason)
    assert status_of(instance, run) is dg.DagsterRunStatus.STARTED


def test_only_runs_whose_process_is_gone_are_failed(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = some_settings(tmp_path)
    gone = a_run(settings, instance, a_dead_process())
    alive = a_run(settings, instance, os.getpid())
    unknown = a_run(settings, instance)
    assert fail_orphaned_runs(instance, launchers_since_s=now_s()) == [gone.run_id]
    assert {status_of(instance, run) for run in (alive, unknown)} == {dg.DagsterRunStatus.STARTED}


def test_run_that_no_code_server_can_start_any_more_is_failed(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = some_settings(tmp_path)
    run = a_run(settings, instance, status=dg.DagsterRunStatus.STARTING)
    assert fail_orphaned_runs(instance, launchers_since_s=now_s() - 60) == []
    assert fail_orphaned_runs(instance, launchers_since_s=now_s() + 60) == [run.run_id]
    assert status_of(instance, run) is dg.DagsterRunStatus.FAILURE


def test_run_that_went_back_into_the_queue_does_not_have_the_process_of_before(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """As when the code server dies while it starts a run: the queue hands the run to the next server."""
    settings = some_settings(tmp_path)
    run = a_run(settings, instance, a_dead_process(), dg.DagsterRunStatus.STARTING)
    queued = DagsterEvent(DagsterEventType.RUN_ENQUEUED.value, run.job_name)
    instance.event_log_storage.store_event(
        dg.EventLogEntry(None, "debug", "", run.run_id, now_s(), dagster_event=queued)
    )
    assert process_of(instance, run.run_id) is None
    launching = DagsterEvent(DagsterEventType.RUN_STARTING.value, run.job_name)
    instance.report_dagster_event(launching, run_id=run.run_id)
    assert fail_orphaned_runs(instance, launchers_since_s=now_s() - 60) == []
    instance.report_engine_event("Started process for run.", run, EngineEventData.in_process(os.getpid()))
    assert fail_orphaned_runs(instance, launchers_since_s=now_s() + 60) == []
    process = process_of(instance, run.run_id)
    assert process
    assert process.pid == os.getpid()


def test_run_that_was_being_canceled_when_its_process_went_is_canceled(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    run = a_run(some_settings(tmp_path), instance, a_dead_process())
    instance.report_run_canceling(run)
    assert fail_orphaned_runs(instance, launchers_since_s=now_s()) == [run.run_id]
    assert status_of(instance, run) is dg.DagsterRunStatus.CANCELED


def test_process_with_the_pid_of_an_earlier_one_is_another(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    run = a_run(some_settings(tmp_path), instance, os.getpid())
    process = process_of(instance, run.run_id)
    assert process
    assert process.is_running()
    another = process_identity.noted(os.getpid(), process.started - 60)
    assert not another.is_running()
    assert another.end()


def test_run_of_any_job_notes_its_process_by_itself(instance: dg.DagsterInstance) -> None:
    @dg.op
    def work() -> None: ...

    @dg.job(executor_def=dg.in_process_executor)
    def a_job() -> None:
        work()

    run = a_job.execute_in_process(instance=instance)
    process = process_of(instance, run.run_id)
    assert process
    assert process.pid == os.getpid()


def now_s() -> float:
    return clock.now_ns() / clock.NS_PER_SECOND


def beat_when(settings: Settings, holds: Callable[[Beat], bool]) -> Beat:
    deadline = clock.monotonic() + 60
    while (beat := read_beat(kept_drain(settings).store, "main")) is None or not holds(beat):
        assert clock.monotonic() < deadline, beat
    return beat
