"""What ended a process: its exit status, a signal by its name, or the kernel's out-of-memory killer."""

import signal
from pathlib import Path
from typing import Final

_SHELL: Final = 128  # of a program that ends itself after a signal, as Java does: 128 and the signal's number
_COUNTERS: Final = (
    Path("/sys/fs/cgroup/memory.events"),  # of this container, cgroup version 2
    Path("/sys/fs/cgroup/memory/memory.oom_control"),  # version 1
    Path("/proc/vmstat"),  # of the machine
)


class Deaths:
    """Finds out why a process ended; call :meth:`look` now and then while it lives.

    The kernel does not record which process it killed for want of memory, but it counts them. A SIGKILL is put down to
    it when the count has grown since the look before the newest one, which may have come after the kill.
    """

    def __init__(self) -> None:
        self._before = self._newest = out_of_memory_kills()

    def look(self) -> None:
        self._before, self._newest = self._newest, out_of_memory_kills()

    def sentence(self, code: int) -> str:
        """Return why a process ended, in words; ``code`` is its return code as subprocess gives it."""
        if code != -signal.SIGKILL:
            return f"it was {cause(code)}" if code < 0 else f"it ended by itself ({cause(code)})"
        if out_of_memory_kills() > self._before:
            return "it was killed by SIGKILL, most likely by the kernel's out of memory killer"
        return "it was killed by SIGKILL"


def cause(code: int) -> str:
    """Return the words for a return code: ``killed by SIGKILL``, ``exit status 143, after SIGTERM``."""
    number = -code if code < 0 else code - _SHELL
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if code < 0:
        return f"killed by {name}"
    return f"exit status {code}, after {name}" if code > _SHELL else f"exit status {code}"


def out_of_memory_kills() -> int:
    """Return the sum of the kernel's counters of out-of-memory kills; only its growth means anything."""
    total = 0
    for counter in _COUNTERS:
        try:
            lines = counter.read_text().splitlines()
        except OSError:
            continue
        counts = (line.partition(" ")[2] for line in lines if line.startswith("oom_kill "))
        total += sum(int(count) for count in counts if count.isdecimal())
    return total
