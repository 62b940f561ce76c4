"""What leases promise, for locks of tables and for kept runs; and what a kept run's process keeps while it lives."""

import multiprocessing
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from k2_assets.kept_runs.kept_run import kept_drain
from k2_assets.kept_runs.run_lease import leased, leases_in
from k2_assets.lake.table_lock import leases_of as leases_of_catalog
from k2_core import leases as leases_module
from k2_core import process_identity
from k2_core.errors import LeasesAway, LockLost
from k2_core.lake.catalog import open_catalog
from k2_core.leases import Lease, Leases
from k2_core.process_identity import ProcessIdentity
from k2_core.settings import Settings

KEPT_RUNS, TABLES = "of kept runs", "of tables"
HOLD = """
import sys, time
from pathlib import Path
from tests.assets.test_leases import some_leases

lease = some_leases(sys.argv[1], Path(sys.argv[2])).take("work")
print("holds" if lease else "waits", flush=True)
time.sleep(600)
"""


def some_leases(kind: str, home: Path) -> Leases:
    settings = Settings(home=home)
    if kind == TABLES:
        return leases_of_catalog(open_catalog(settings))
    (home / "run").mkdir(exist_ok=True)
    return leases_in(kept_drain(settings).folder)


@pytest.fixture(params=[KEPT_RUNS, TABLES])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def another_holder(kind: str, home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-c", HOLD, kind, str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"holds\n"
            yield process
        finally:
            process.kill()


@contextmanager
def a_stopped_holder(kind: str, home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with another_holder(kind, home) as process:
        process.send_signal(signal.SIGSTOP)
        while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
            threading.Event().wait(0.01)
        yield process


def database(leases: Leases) -> Path:
    return Path(leases.engine.url.database or "")


def change(leases: Leases, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(database(leases))) as connection, connection:
        assert connection.execute(sql, values).rowcount == 1


def run_out(leases: Leases) -> None:
    change(leases, "UPDATE k2_locks SET until_ns = 1")


def of_another_machine(leases: Leases) -> None:
    change(leases, "UPDATE k2_locks SET holder = 'elsewhere:1:2.00:3/4.00'")


def refuse_writes(leases: Leases) -> Callable[[], None]:
    """Have every connection refuse to write from now on; return what ends it."""

    def refuse(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute("PRAGMA query_only = ON")

    leases.engine.dispose()
    event.listen(leases.engine, "connect", refuse)

    def allow() -> None:
        event.remove(leases.engine, "connect", refuse)
        leases.engine.dispose()

    return allow


def test_a_lease_is_held_by_one_names_it_and_is_given_back(kind: str, tmp_path: Path) -> None:
    one, other = some_leases(kind, tmp_path), some_leases(kind, tmp_path)
    assert one.holder("work") is None
    with one.held("work", 0) as lease:
        assert lease
        lease.check()
        holder = other.holder("work")
        assert holder
        assert holder.is_here
        assert holder.process.is_same(process_identity.this_process())
        assert other.take("work") is None
        with other.held("other work", 0) as beside:
            assert beside
    assert other.holder("work") is None
    with other.held("work", 0) as again:
        assert again


def test_one_that_waits_gives_up_when_it_is_asked_to_stop(kind: str, tmp_path: Path) -> None:
    leases, stop = some_leases(kind, tmp_path), threading.Event()
    with leases.held("work", 0):
        threading.Timer(0.2, stop.set).start()
        with leases.held("work", 600, stop) as lease:
            assert lease is None


def test_one_that_waits_writes_nothing(kind: str, tmp_path: Path) -> None:
    leases, waiting = some_leases(kind, tmp_path), some_leases(kind, tmp_path)
    with leases.held("work", 0):
        refuse_writes(waiting)
        with waiting.held("work", 0.3) as lease:
            assert lease is None


def test_a_lease_of_a_killed_process_is_free_at_once(kind: str, tmp_path: Path) -> None:
    leases = some_leases(kind, tmp_path)
    with another_holder(kind, tmp_path) as process:
        holder = leases.holder("work")
        assert holder
        assert holder.process.pid == process.pid
        process.kill()
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            threading.Event().wait(0.01)
        with leases.held("work", 0) as lease:  # nobody has waited for the process yet
            assert lease
        process.wait()


def test_a_lease_stays_with_a_process_that_a_signal_has_stopped(kind: str, tmp_path: Path) -> None:
    leases = some_leases(kind, tmp_path)
    with a_stopped_holder(kind, tmp_path):
        holder = leases.holder("work")
        assert holder
        assert holder.process.is_stopped()
        assert leases.take("work") is None


def test_a_lease_that_a_stopped_process_cannot_renew_ends_but_for_a_kept_run(kind: str, tmp_path: Path) -> None:
    leases = some_leases(kind, tmp_path)
    with a_stopped_holder(kind, tmp_path):
        run_out(leases)
        with leases.held("work", 0) as lease:
            assert bool(lease) is (kind == TABLES)


def test_a_lease_of_another_machine_ends_when_it_runs_out(kind: str, tmp_path: Path) -> None:
    leases = some_leases(kind, tmp_path)
    assert leases.take("work")
    of_another_machine(leases)
    holder = leases.holder("work")
    assert str(holder) == "process 1 of elsewhere"
    assert leases.take("work") is None
    run_out(leases)
    assert leases.holder("work") is None
    with leases.held("work", 0) as lease:
        assert lease


def test_one_whose_lease_is_anothers_learns_it(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases_module, "LEASE_S", 0.1)
    leases = some_leases(kind, tmp_path)
    late = leases.take("work")
    assert late
    of_another_machine(leases)
    while not late._lost.is_set():
        threading.Event().wait(0.01)
    with pytest.raises(LockLost, match="work"):
        late.check()
    late.release()
    change(leases, "DELETE FROM k2_locks")  # it has given back nothing of the other's


def test_a_lease_that_cannot_be_renewed_is_lost_but_for_a_kept_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "LEASE_S", 0.3)
    leases = some_leases(kind, tmp_path)
    lease = leases.take("work")
    assert lease
    allow = refuse_writes(leases)
    while leases_module.clock.monotonic() <= lease._until:
        threading.Event().wait(0.01)
    if kind == TABLES:
        with pytest.raises(LockLost, match="was not renewed"):
            lease.check()
        assert leases.holder("work") is None
    else:
        lease.check()
        assert leases.holder("work")
    allow()
    lease.release()


def test_a_lease_that_cannot_be_given_back_is_given_back_later(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: the process lives on, and a successor must find a place to wait in later."""
    monkeypatch.setattr(leases_module, "LEASE_S", 1)
    leases, other = some_leases(kind, tmp_path), some_leases(kind, tmp_path)
    lease = leases.take("work")
    assert lease
    allow = refuse_writes(leases)
    lease.release()
    allow()
    with other.held("work", float("inf")) as free:
        assert free


def test_a_database_that_cannot_be_written_is_an_error(kind: str, tmp_path: Path) -> None:
    leases = some_leases(kind, tmp_path)
    with leases.held("work", 0):
        pass
    refuse_writes(leases)
    with pytest.raises(OperationalError, match="readonly"):
        leases.take("work")


def test_a_kept_run_names_the_leases_that_it_cannot_read(tmp_path: Path) -> None:
    leases = some_leases(KEPT_RUNS, tmp_path)
    database(leases).write_bytes(b"no database at all" * 100)
    with (
        pytest.raises(LeasesAway, match=rf"{database(leases)} cannot be read or written \(file is not a database\)"),
        leased(kept_drain(Settings(home=tmp_path)), "a run", threading.Event()),
    ):
        pass


def test_whoever_asks_for_a_holder_makes_nothing(tmp_path: Path) -> None:
    assert leases_in(tmp_path / "run").holder("main") is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "leases.db").touch()
    assert leases_in(tmp_path / "run").holder("main") is None
    assert (tmp_path / "run" / "leases.db").stat().st_size == 0


def test_a_correction_of_wall_time_takes_no_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel then gives other starts of all processes; a suspended virtual machine wakes so."""
    leases = some_leases(KEPT_RUNS, tmp_path)
    with leases.held("work", 0) as lease:
        assert lease
        run_out(leases)
        started, boot = psutil.Process.create_time, psutil.boot_time()
        monkeypatch.setattr(psutil.Process, "create_time", lambda process: started(process) + 3600)
        monkeypatch.setattr(psutil, "boot_time", lambda: boot + 3600)
        assert leases.take("work") is None


def test_a_lease_of_a_process_whose_pid_is_anothers_now_is_free(tmp_path: Path) -> None:
    leases, me = some_leases(KEPT_RUNS, tmp_path), process_identity.this_process()
    assert leases.take("work")
    assert me.since_boot
    before = replace(me, started=me.started - 60, since_boot=me.since_boot - 60)
    change(leases, "UPDATE k2_locks SET holder = ?", as_row(before))
    with leases.held("work", 0) as lease:
        assert lease


def as_row(process: ProcessIdentity) -> str:
    return f"{socket.gethostname()}:{process.pid}:{process.started}:0/{process.since_boot}"


def race(kind: str, home: Path, seed: int, count: int, report: Callable[[bool], None]) -> None:
    """Take the lease ``count`` times, as soon as it is free, and report whether another had it meanwhile."""
    leases, chance, inside = some_leases(kind, home), random.Random(seed), home / "inside"
    for _ in range(count):
        with leases.held("work", float("inf")) as lease:
            assert lease
            lease.check()
            inside.touch(exist_ok=False)  # raises when another is inside
            threading.Event().wait(chance.random() / 100)
            inside.unlink()
        threading.Event().wait(chance.random() / 100)
    report(True)


def test_of_many_threads_and_processes_one_has_the_lease(kind: str, tmp_path: Path) -> None:
    some_leases(kind, tmp_path)
    spawning = multiprocessing.get_context("spawn")
    done = spawning.SimpleQueue()
    processes = [spawning.Process(target=race, args=(kind, tmp_path, seed, 5, done.put)) for seed in range(3)]
    for process in processes:
        process.start()
    with ThreadPoolExecutor(4) as beside:
        threads = [beside.submit(race, kind, tmp_path, seed, 5, done.put) for seed in range(3, 7)]
        for thread in threads:
            thread.result()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [done.get() for _ in range(7)] == [True] * 7


def test_of_many_who_find_a_dead_holder_one_takes_its_lease(kind: str, tmp_path: Path) -> None:
    leases = some_leases(kind, tmp_path)
    with another_holder(kind, tmp_path) as process:
        process.kill()
    barrier = threading.Barrier(8)

    def take(own: Leases) -> Lease | None:
        barrier.wait()
        return own.take("work")

    with ThreadPoolExecutor(8) as beside:
        taken = [lease for lease in beside.map(take, [some_leases(kind, tmp_path) for _ in range(8)]) if lease]
    assert leases.holder("work")
    (lease,) = taken
    lease.release()
    assert leases.holder("work") is None
