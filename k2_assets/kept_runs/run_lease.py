"""One kept run works at a time: locks of the operating system, which go with their process however that ends.

A successor starts while the run before still works. It waits under a lock of its own, so that only one waits, and takes
the lease in the moment in which the other hands over.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from k2_assets.kept_runs.heartbeat import WAITING, Heart
from k2_assets.kept_runs.kept_run import KeptRun
from k2_assets.orchestration.run_processes import RunProcess
from k2_core import clock
from k2_core.errors import LockBusy

_LOOK_S: Final = 0.1
_FOREVER: Final = float("inf")


@contextmanager
def leased(kept: KeptRun, run_id: str, stop: threading.Event) -> Iterator[bool]:
    """Wait until the run before has handed over, and hold the lease while the block runs.

    Yields:
        Whether the block may work; False when ``stop`` was set first.

    Raises:
        LockBusy: one works and another waits already.
    """
    with ExitStack() as held:
        with ExitStack() as waiting:
            free = held.enter_context(_locked(kept.lock, stop, 0))
            if not free and waiting.enter_context(_locked(kept.successor.lock, stop, kept.dead_after_s)):
                with Heart(kept.successor, run_id) as heart:
                    heart.progress(WAITING, "for the run before to hand over")
                    free = held.enter_context(_locked(kept.lock, stop, _FOREVER))
            elif not free and not stop.is_set():
                msg = f"one {kept.label} works, as process {_named(kept.lock)}, and another waits: they are enough."
                raise LockBusy(msg)
        yield free


def holder(lock: Path) -> RunProcess | None:
    """Return the process that ``lock`` names: the last that held it. None when there never was one."""
    try:
        return RunProcess(int(_named(lock)), lock.stat().st_mtime)
    except (OSError, ValueError):
        return None


@contextmanager
def _locked(lock: Path, stop: threading.Event, wait_s: float) -> Iterator[bool]:
    """Hold ``lock`` while the block runs; yield False when it did not become free before ``stop`` or in time."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+", encoding="ascii") as file:
        deadline = clock.monotonic() + wait_s
        while not (acquired := _acquired(file.fileno())) and not stop.is_set() and clock.monotonic() < deadline:
            stop.wait(_LOOK_S)
        if acquired:
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield acquired


def _named(lock: Path) -> str:
    return lock.read_text(encoding="ascii") or "?"


def _acquired(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
