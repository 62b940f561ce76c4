"""Start and end operating-system processes. Each part leads a session of its own, which its descendants stay in."""

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from k2_core import clock

_SAME_START_S: Final = 2.0  # the kernel's clock of process starts is coarse, and moves when wall time is set
_LOG_BYTES: Final = 20_000_000


@dataclass(frozen=True)
class Identity:
    """A process that leads a session: its pid, and when it started, since pids are used again."""

    pid: int
    started: float


def start(command: list[str], *, log: Path, env: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
    """Start ``command`` as the leader of a new session, its output appended to ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )


def identity(pid: int) -> Identity | None:
    """Return the identity of a running process; None when there is none."""
    try:
        return Identity(pid, psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def is_running(process: Identity) -> bool:
    """Tell whether that very process runs; a zombie does not."""
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.started) < _SAME_START_S
        return same and found.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def members(leader: Identity) -> list[psutil.Process]:
    """Return the living processes of the leader's session, also when the leader itself is gone.

    While a session has members, the kernel gives its number to no new process: a process of that pid with another
    start time means that the session has ended.
    """
    current = identity(leader.pid)
    if current and abs(current.started - leader.started) >= _SAME_START_S:
        return []
    return [process for process in psutil.process_iter() if _belongs(process, leader)]


def _belongs(process: psutil.Process, leader: Identity) -> bool:
    try:
        return (
            os.getsid(process.pid) == leader.pid
            and process.create_time() > leader.started - _SAME_START_S
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except (psutil.Error, OSError):
        return False


def end(leaders: Iterable[Identity], grace_s: float) -> None:
    """End whole sessions: ask all of them with SIGTERM, and kill what is left after ``grace_s`` seconds."""
    wanted = list(leaders)
    _signal(wanted, signal.SIGTERM)
    deadline = clock.monotonic() + grace_s
    while (left := [process for leader in wanted for process in members(leader)]) and clock.monotonic() < deadline:
        psutil.wait_procs(left, timeout=0.1)
    while _signal(wanted, signal.SIGKILL):
        psutil.wait_procs([process for leader in wanted for process in members(leader)], timeout=0.1)


def _signal(leaders: list[Identity], number: signal.Signals) -> int:
    found = [process for leader in leaders for process in members(leader)]
    for process in found:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
    return len(found)


def memory_mb(leader: Identity) -> float:
    """Return the resident memory of a session in MB: the sum of its processes' PSS.

    PSS counts a page that n processes share as 1/n in each, so that a sum over processes counts it once.
    """
    total = 0
    for process in members(leader):
        try:
            total += getattr(process.memory_full_info(), "pss", 0) or process.memory_info().rss
        except psutil.Error:
            continue
    return round(total / 1e6, 1)
