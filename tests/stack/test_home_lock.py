"""The lock file of a home's supervisor: held by one, named by its pid, gone with its process."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from k2_core.settings import Settings
from k2_stack import home_lock

HOLD = """
import sys, time
from k2_core.settings import Settings
from k2_stack import home_lock

with home_lock.held(Settings(home=sys.argv[1])) as is_ours:
    print("holds" if is_ours else "waits", flush=True)
    assert "sqlalchemy" not in sys.modules  # which takes longer to load than all that a command needs
    time.sleep(600)
"""


@contextmanager
def another_holder(home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(home)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"holds\n"
            yield process
        finally:
            process.kill()


def test_whoever_asks_makes_nothing(tmp_path: Path) -> None:
    assert home_lock.holder(Settings(home=tmp_path)) is None
    assert list(tmp_path.iterdir()) == []


def test_a_home_is_held_by_one_and_given_back(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    with home_lock.held(settings) as is_ours:
        assert is_ours
        assert (settings.home / "run" / "stack.lock").read_text() == str(os.getpid())
        holder = home_lock.holder(settings)
        assert holder
        assert holder.pid == os.getpid()
        assert holder.is_running()
        with home_lock.held(settings, wait_s=0) as beside:
            assert not beside
        assert home_lock.holder(settings) == holder
    assert home_lock.holder(settings) is None
    with home_lock.held(settings) as again:
        assert again


def test_a_home_is_free_when_its_process_was_killed(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with another_holder(tmp_path) as process:
        holder = home_lock.holder(settings)
        assert holder
        assert holder.pid == process.pid
        process.kill()
        process.wait()
        assert home_lock.holder(settings) is None
        with home_lock.held(settings, wait_s=0) as is_ours:
            assert is_ours


def test_a_home_stays_with_a_process_that_a_signal_has_stopped(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with another_holder(tmp_path) as process:
        process.send_signal(signal.SIGSTOP)
        while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
            threading.Event().wait(0.01)
        holder = home_lock.holder(settings)
        assert holder
        assert holder.is_stopped()
        with home_lock.held(settings) as is_ours:
            assert not is_ours


def test_a_home_that_an_earlier_k2_holds_is_found(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "stack.lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(str(os.getpid()))
        file.flush()
        holder = home_lock.holder(Settings(home=tmp_path))
        assert holder
        assert holder.pid == os.getpid()
        with home_lock.held(Settings(home=tmp_path), wait_s=0) as is_ours:
            assert not is_ours
