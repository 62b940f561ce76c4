"""Start and end operating-system processes. Each part leads a session of its own, which its descendants stay in."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import psutil

from k2_core import clock, process_identity
from k2_core.process_identity import ProcessIdentity

Process = psutil.Process

_LOG_BYTES: Final = 20_000_000
MARK: Final = "_K2_STACK"  # in the environment of every process of a platform: the home folder


def start(command: list[str], *, log: Path, env: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
    """Start ``command`` as the leader of a new session, its output appended to ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    limit_log(log)
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


def limit_log(log: Path) -> None:
    """Set a log beyond 20 MB aside as ``.log.1``; its writer appends, and goes on in the emptied file."""
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        shutil.copyfile(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)


def sessions(leaders: Iterable[ProcessIdentity]) -> dict[ProcessIdentity, list[Process]]:
    """Return the living processes of each leader's session, also when the leader itself is gone.

    While a session has members, the kernel gives its number to no new process: a process of that pid with another
    start time means that the session has ended. All processes of the machine are looked at once.
    """
    found: dict[ProcessIdentity, list[Process]] = {leader: [] for leader in leaders}
    living = {leader.pid: leader for leader in found if (process_identity.of(leader.pid) or leader).is_same(leader)}
    for pid in psutil.pids() if living else ():
        try:
            if leader := living.get(os.getsid(pid)):
                process = psutil.Process(pid)
                late = not ProcessIdentity(pid, process.create_time()).is_before(leader.started)
                if late and process.status() != psutil.STATUS_ZOMBIE:
                    found[leader].append(process)
        except (psutil.Error, OSError):
            continue
    return found


def marked(home: Path) -> list[Process]:
    """Return the living processes that a supervisor of this home started, and their descendants, whoever their parent.

    They are known by their environment, so none is missed when the supervisor was killed before it noted a pid.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == str(home):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def end_marked(home: Path, grace_s: float) -> int:
    """End everything that :func:`marked` finds, and return how many processes that were."""
    found = marked(home)
    _send(found, signal.SIGTERM)
    psutil.wait_procs(found, timeout=grace_s)
    while left := marked(home):
        _send(left, signal.SIGKILL)
        psutil.wait_procs(left, timeout=0.1)
    return len(found)


def end(leaders: Iterable[ProcessIdentity], grace_s: float) -> None:
    """End whole sessions: ask all of them with SIGTERM, and kill what is left after ``grace_s`` seconds."""
    wanted = list(leaders)
    _send(_members_of(wanted), signal.SIGTERM)
    deadline = clock.monotonic() + grace_s
    while (left := _members_of(wanted)) and clock.monotonic() < deadline:
        psutil.wait_procs(left, timeout=0.1)
    while left := _members_of(wanted):
        _send(left, signal.SIGKILL)
        psutil.wait_procs(left, timeout=0.1)


def _members_of(leaders: list[ProcessIdentity]) -> list[Process]:
    return [process for found in sessions(leaders).values() for process in found]


def _send(found: list[Process], number: signal.Signals) -> None:
    for process in found:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def memory_mb(pids: Iterable[int]) -> float:
    """Return the memory of processes in MB: the sum of their PSS; of one that is gone, 0.

    PSS counts a page that n processes share as 1/n in each, so that a sum over processes counts it once.
    """
    found = []
    for pid in pids:
        try:
            found.append(float(psutil.Process(pid).memory_full_info().pss) / 1e6)
        except psutil.Error:
            found.append(0.0)
    return round(sum(found), 1)
