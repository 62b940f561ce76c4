"""Rights by name that one process has at a time, and that end with it: what a store of them offers, and files as one.

There are two stores. Rows in the catalog's database (``k2_assets/lake/table_lock.py``) serve several machines: a lease
there is renewed, and ends when its process is seen to be gone or when it was not renewed in time. A file's lease is a
lock of the operating system. It needs no database, which may be away or locked by the very process that has the
lease. It goes at once with its process, however that ends, and stays with one that a signal has stopped, which might
work on later. Kept runs and the platform of a home need these two properties, and are on one machine as yet.
"""

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

from k2_core import clock, process_identity
from k2_core.process_identity import ProcessIdentity

_LOOK_S: Final = 0.1
_TRIES: Final = 5
_TRY_S: Final = 0.05


@dataclass(frozen=True)
class Holder:
    """Who has a lease: a process of a machine."""

    host: str
    process: ProcessIdentity

    def __str__(self) -> str:
        return f"process {self.process.pid}{'' if self.is_here else f' of {self.host}'}"

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    def has_died(self) -> bool:
        """Tell whether its process is known to be gone; of another machine's nothing is known."""
        return self.is_here and not self.process.is_running()


class Lease(Protocol):
    """A right that this process has."""

    def check(self) -> None:
        """Make sure that it is still had; call it last before a commit.

        Raises:
            LockLost: it ended, and another may have it now.
        """

    def release(self) -> None:
        """Give it back."""


class LeaseStore(Protocol):
    """Where leases are kept, and which processes can see them."""

    def take(self, name: str) -> Lease | None:
        """Take the lease ``name`` if nobody has it; None when another has."""

    def holder(self, name: str) -> Holder | None:
        """Return who has the lease ``name``; None when nobody does."""


@contextmanager
def held(store: LeaseStore, name: str, wait_s: float, stop: threading.Event | None = None) -> Iterator[Lease | None]:
    """Hold the lease ``name`` while the block runs; None when it was not free in time, or before ``stop`` was set."""
    stop, deadline = stop or threading.Event(), clock.monotonic() + wait_s
    while (lease := store.take(name)) is None and not stop.is_set() and clock.monotonic() < deadline:
        stop.wait(_LOOK_S)
    try:
        yield lease
    finally:
        if lease is not None:
            lease.release()


class FileLeases:
    """Leases of this machine: each is a lock of the operating system on ``<name>.lock`` in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, name: str) -> "Lease | None":
        """Take the lease ``name``; None when another has it. Makes the folder."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._path(name).open("a+", encoding="ascii")
        for _ in range(_TRIES):  # whoever asks for the holder has it for a moment
            if _locked(file, fcntl.LOCK_EX):
                break
            time.sleep(_TRY_S)
        else:
            file.close()
            return None
        # The lock is the lease. The pid in the file only tells others who has it, and may be that of an earlier holder
        # for a moment.
        try:
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        except OSError:  # a full disk: without the pid nobody could tell who has it
            file.close()
            raise
        return _FileLease(file)

    def holder(self, name: str) -> Holder | None:
        """Return who has the lease ``name``; None when nobody does. Makes nothing."""
        try:
            with self._path(name).open(encoding="ascii") as file:
                # A shared lock that is granted shows that nobody has the exclusive one; closing the file gives it back.
                if _locked(file, fcntl.LOCK_SH):
                    return None
                pid = int(file.read() or 0)
                # The lock shows that its holder lives: whoever has the pid now is it. For a moment after a lease was
                # taken the file names the holder before, which is gone.
                return Holder(socket.gethostname(), process_identity.of(pid) or ProcessIdentity(pid, 0.0))
        except (OSError, ValueError):
            return None

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.lock"


class _FileLease:
    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def check(self) -> None:
        """Return: the operating system takes no lock back."""

    def release(self) -> None:
        self._file.close()


def _locked(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
