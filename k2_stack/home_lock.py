"""The lock file of a home's supervisor: ``run/stack.lock``, locked by the system (flock) while it runs, its pid inside.

The lock goes with its process, however that ends. Every K2 has used this file: ``k2 down`` finds a platform that an
earlier one has started.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from k2_core import clock, process_identity
from k2_core.process_identity import ProcessIdentity
from k2_core.settings import Settings

_WAIT_S: Final = 0.25  # whoever asks for the holder has the lock for a moment
_LOOK_S: Final = 0.05


def path(settings: Settings) -> Path:
    """Return where a home's lock file is."""
    return settings.home / "run" / "stack.lock"


@contextmanager
def held(settings: Settings, wait_s: float = _WAIT_S) -> Iterator[bool]:
    """Hold a home while the block runs. Yields whether it does: False when another still has it after ``wait_s``.

    Raises:
        OSError: the file cannot be written, as on a full disk.
    """
    path(settings).parent.mkdir(parents=True, exist_ok=True)
    deadline = clock.monotonic() + wait_s
    with path(settings).open("a+", encoding="ascii") as file:
        while not (locked := _locked(file, fcntl.LOCK_EX)) and clock.monotonic() < deadline:
            time.sleep(_LOOK_S)
        if locked:
            # The lock is what counts. The pid only names its holder, and may be that of the one before for a moment.
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()  # without the pid nobody could tell who has it
        yield locked


def holder(settings: Settings) -> ProcessIdentity | None:
    """Return the process that runs the platform of a home; None when none does. Makes nothing."""
    try:
        with path(settings).open(encoding="ascii") as file:
            # A shared lock that is granted shows that nobody has the exclusive one; closing the file gives it back.
            if _locked(file, fcntl.LOCK_SH):
                return None
            pid = int(file.read() or 0)
    except (OSError, ValueError):
        return None
    # The lock shows that its holder lives: whoever has the pid now is it. For a moment after the lock was taken the
    # file names the holder before, which is gone.
    return process_identity.of(pid) or ProcessIdentity(pid, 0.0)


def _locked(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
