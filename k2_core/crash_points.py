"""Places where a test may have a process killed, to look at what it leaves behind. Nobody else arms them.

A test arms one place by ``K2_CRASH_AT=<point>`` or ``<point>:<n>`` for the n-th time it is reached. Points are named
``<table>.<what is next or has just happened>``; those of a commit are ``commit`` (about to), ``committed`` (the catalog
has it, the caller does not know yet) and ``acknowledged`` (the caller knows).
"""

import os
import signal
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

from k2_core.settings import armed_crash

_reached: Counter[str] = Counter()


def reach(point: str) -> None:
    """Kill this process with SIGKILL if a test armed ``point``; otherwise do nothing."""
    armed = _armed()
    if armed is None or armed.point != point:
        return
    _reached[point] += 1
    if _reached[point] == armed.time:
        # The hit is counted in the test's log; then the process dies at once: no cleaning up, no flushing.
        if armed.log is not None:
            with armed.log.open("a", encoding="utf-8") as log:
                log.write(f"{point}\n")
        os.kill(os.getpid(), signal.SIGKILL)


class _Armed(NamedTuple):
    point: str
    time: int
    log: Path | None


@cache
def _armed() -> _Armed | None:
    at, log = armed_crash()
    if not at:
        return None
    point, _, time = at.partition(":")
    return _Armed(point, int(time or 1), Path(log) if log else None)
