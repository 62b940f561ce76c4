"""One process or another with its pid; alive, stopped, a zombie or gone."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psutil

from k2_core import clock, process_identity
from k2_core.process_identity import ProcessIdentity


@contextmanager
def a_child() -> Iterator[tuple["subprocess.Popen[bytes]", ProcessIdentity]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        identity = process_identity.of(process.pid)
        assert identity
        try:
            yield process, identity
        finally:
            process.kill()


def await_status(process: "subprocess.Popen[bytes]", status: str) -> None:
    deadline = clock.monotonic() + 60
    while psutil.Process(process.pid).status() != status:
        assert clock.monotonic() < deadline, f"{status} was never reached"
        time.sleep(0.01)


def test_this_process_runs_and_is_found_by_its_pid() -> None:
    me = process_identity.this_process()
    assert me.is_running()
    assert not me.is_stopped()
    assert process_identity.of(me.pid) == me


def test_process_is_the_same_though_wall_time_was_corrected_by_a_second() -> None:
    with a_child() as (_, identity):
        assert replace(identity, started=identity.started + 1.5, since_boot=None).is_running()
        assert replace(identity, started=identity.started - 1.5, since_boot=None).is_running()


def test_process_is_the_same_after_any_correction_of_wall_time_where_its_start_since_boot_is_known() -> None:
    with a_child() as (_, identity):
        for by in (-3600, 3600):
            assert replace(identity, started=identity.started + by).is_running()
            assert not replace(identity, started=identity.started + by, since_boot=None).is_running()


def test_another_with_its_pid_does_not_run_and_gets_no_signal() -> None:
    with a_child() as (process, identity):
        assert identity.since_boot
        for by in (-60, 60):
            another = ProcessIdentity(identity.pid, identity.started + by, identity.since_boot + by)
            another.terminate()
            another.kill()
            assert another.end()
            assert not another.is_running()
        assert process.poll() is None


def test_stopped_process_runs_and_a_zombie_does_not() -> None:
    with a_child() as (process, identity):
        process.send_signal(signal.SIGSTOP)
        await_status(process, psutil.STATUS_STOPPED)
        assert identity.is_running()
        assert identity.is_stopped()
        process.kill()
        await_status(process, psutil.STATUS_ZOMBIE)
        assert not identity.is_running()
        assert not identity.is_stopped()
        assert process_identity.of(process.pid) == identity
    assert process_identity.of(process.pid) is None


def test_process_that_ends_is_gone_and_may_be_ended_again() -> None:
    with a_child() as (process, identity):
        assert identity.end()
        assert process.wait() == -signal.SIGKILL
        identity.terminate()
        assert identity.end()


def test_noted_process_is_the_one_that_had_the_pid_then() -> None:
    with a_child() as (process, identity):
        now = clock.now_s()
        assert process_identity.noted(process.pid, now) == identity
        assert not process_identity.noted(process.pid, identity.started - 60).is_running()
    assert not process_identity.noted(process.pid, now - 60).is_running()
