"""What every store of leases promises: files of this machine, and rows in the catalog's database."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from k2_assets.lake.table_lock import RowLeases
from k2_core import process_identity
from k2_core.lake.catalog import open_catalog
from k2_core.leases import FileLeases, LeaseStore, held
from k2_core.settings import Settings

HOLD = """
import sys, time
from pathlib import Path
from tests.assets.test_leases import a_store

lease = a_store(sys.argv[1], Path(sys.argv[2])).take("work")
print("holds" if lease else "waits", flush=True)
time.sleep(600)
"""


def a_store(kind: str, home: Path) -> LeaseStore:
    return FileLeases(home / "run") if kind == "files" else RowLeases(open_catalog(Settings(home=home)))


@pytest.fixture(params=["files", "rows"])
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


def test_a_lease_is_held_by_one_names_it_and_is_given_back(kind: str, tmp_path: Path) -> None:
    one, other = a_store(kind, tmp_path), a_store(kind, tmp_path)
    assert one.holder("work") is None
    with held(one, "work", 0) as lease:
        assert lease
        lease.check()
        holder = other.holder("work")
        assert holder
        assert holder.is_here
        assert holder.process.is_same(process_identity.this_process())
        assert other.take("work") is None
        with held(other, "other work", 0) as beside:
            assert beside
    assert other.holder("work") is None
    with held(other, "work", 0) as again:
        assert again


def test_one_that_waits_gives_up_when_it_is_asked_to_stop(kind: str, tmp_path: Path) -> None:
    store, stop = a_store(kind, tmp_path), threading.Event()
    with held(store, "work", 0):
        threading.Timer(0.2, stop.set).start()
        with held(store, "work", 600, stop) as lease:
            assert lease is None


def test_a_lease_of_a_killed_process_is_free_at_once(kind: str, tmp_path: Path) -> None:
    store = a_store(kind, tmp_path)
    with another_holder(kind, tmp_path) as process:
        holder = store.holder("work")
        assert holder
        assert holder.process.pid == process.pid
        process.kill()
        process.wait()
        with held(store, "work", 0) as lease:
            assert lease


def test_a_lease_stays_with_a_process_that_a_signal_has_stopped(kind: str, tmp_path: Path) -> None:
    store = a_store(kind, tmp_path)
    with another_holder(kind, tmp_path) as process:
        process.send_signal(signal.SIGSTOP)
        while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
            threading.Event().wait(0.01)
        holder = store.holder("work")
        assert holder
        assert holder.process.is_stopped()
        assert store.take("work") is None
