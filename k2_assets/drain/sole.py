"""One drain at a time: a lock of the operating system, which goes with its process however that ends."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from k2_assets.drain.run_processes import RunProcess
from k2_core import clock
from k2_core.errors import LockBusy

_LOOK_S: Final = 0.2


@contextmanager
def alone(lock: Path, stop: threading.Event, wait_s: float) -> Iterator[None]:
    """Hold ``lock`` while the block runs.

    The sensor ends the old process before it launches the next run. This holds also where it cannot know: a tick that
    is repeated, a run that a person started. Waiting bridges the moment in which the one before still ends.

    Args:
        lock: a file of this machine.
        stop: set to stop waiting.
        wait_s: how long to wait for the one before.

    Raises:
        LockBusy: another drain works, and went on doing so.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+", encoding="ascii") as file:
        deadline = clock.monotonic() + wait_s
        while not _acquired(file.fileno()):
            if stop.is_set() or clock.monotonic() > deadline:
                file.seek(0)
                raise LockBusy(f"another drain works already, as process {file.read() or '?'}: one is enough.")
            stop.wait(_LOOK_S)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def holder(lock: Path) -> RunProcess | None:
    """Return the process that ``lock`` names: the last that held it. None when there never was one."""
    try:
        return RunProcess(int(lock.read_text(encoding="ascii")), lock.stat().st_mtime)
    except (OSError, ValueError):
        return None


def _acquired(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
