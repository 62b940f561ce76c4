"""Which process: a pid with the time of its start, since pids are used again. The one place that compares the two."""

import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import psutil

from k2_core import clock

_TOLERANCE_S: Final = 2.0
"""So far apart two times may be that name one start.

The kernel counts a start in hundredths of a second since boot, and gives the time of boot in whole seconds: a process
that wrote its start and one that compares it may see the boot a second or two apart after wall time was corrected. The
kernel gives a pid again only after all others, which takes longer.
"""
_TICKS_S: Final = 0.02  # so far apart two starts since boot may be that are one: the kernel counts hundredths
_LOOK_S: Final = 0.05


@dataclass(frozen=True)
class ProcessIdentity:
    """A process of this machine.

    Args:
        pid: of the process.
        started: when it began, in seconds since 1970.
        since_boot: the same in seconds since the machine began, if known; no correction of wall time changes it.
    """

    pid: int
    started: float
    since_boot: float | None = field(default=None, compare=False)

    def found(self) -> psutil.Process | None:
        """Return that very process if it runs; None when it is gone, is a zombie, or another has its pid."""
        try:
            process = psutil.Process(self.pid)
            return process if self.is_same(_identity_of(process)) and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def is_same(self, other: "ProcessIdentity") -> bool:
        """Tell whether both name one process."""
        # After a larger correction of wall time, only the start since boot shows that it is the same.
        one, two = self.since_boot, other.since_boot
        same_ticks = one is not None and two is not None and abs(one - two) <= _TICKS_S
        return self.pid == other.pid and (same_ticks or abs(self.started - other.started) <= _TOLERANCE_S)

    def is_before(self, moment: float) -> bool:
        """Tell whether the process surely began before a moment, in seconds since 1970."""
        return self.started < moment - _TOLERANCE_S

    def is_running(self) -> bool:
        """Tell whether that very process runs; one that a signal has stopped does, a zombie does not."""
        return self.found() is not None

    def is_stopped(self) -> bool:
        """Tell whether the process is there but was stopped by a signal, so that it can do nothing."""
        with suppress(psutil.NoSuchProcess):
            return (process := self.found()) is not None and process.status() == psutil.STATUS_STOPPED
        return False

    def terminate(self) -> None:
        """Ask the process to end, if it runs."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process, if it runs."""
        self._send(signal.SIGKILL)

    def end(self, within_s: float = 5.0) -> bool:
        """Kill the process, and tell whether it is gone; one inside the kernel may take its time. Blocks."""
        self.kill()
        deadline = clock.monotonic() + within_s
        while (runs := self.is_running()) and clock.monotonic() < deadline:
            time.sleep(_LOOK_S)  # not wait(): it may be a child of this process, whose exit code others want
        return not runs

    def _send(self, number: signal.Signals) -> None:
        with suppress(psutil.NoSuchProcess):
            if process := self.found():
                process.send_signal(number)


def of(pid: int) -> ProcessIdentity | None:
    """Return the process that has a pid now, also as a zombie; None when none has."""
    try:
        return _identity_of(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return None


def this_process() -> ProcessIdentity:
    """Return the process that asks."""
    return _identity_of(psutil.Process())


def noted(pid: int, at: float) -> ProcessIdentity:
    """Return the process that had a pid at a moment (seconds since 1970), where its start was not noted.

    One that has the pid now and began later is another; what had it then is gone.
    """
    now = of(pid)
    gone = ProcessIdentity(pid, at)
    return gone if now is None or gone.is_before(now.started) else now


def _identity_of(process: psutil.Process) -> ProcessIdentity:
    started = process.create_time()
    return ProcessIdentity(process.pid, started, started - psutil.boot_time())
