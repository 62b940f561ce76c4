"""Being asked to end, by a signal or for a successor: an event that a kept run looks at between two pieces of work."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from k2_assets.kept_runs.kept_run import KeptRun
from k2_assets.kept_runs.liveness import successor_waits
from k2_core import clock

_LOOK_S: Final = 0.2
LONGEST: Final = 2.0
"""A run works at most so many times its work time, if no successor comes."""


@contextmanager
def signals_set(stop: threading.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set ``stop`` while the block runs, instead of breaking into it.

    Dagster's own handler raises wherever the main thread happens to be; a kept run must commit what it has first.
    Signals arrive in the main thread alone: elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def asked(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def hands_over(kept: KeptRun, stop: threading.Event) -> Iterator[None]:
    """Set ``stop`` once the run has worked for its time and a successor waits; without one, after twice that time."""
    over, began = threading.Event(), clock.monotonic()

    def watch() -> None:
        wait_s = kept.work_s
        while not over.wait(wait_s) and not stop.is_set():
            wait_s = _LOOK_S
            if successor_waits(kept) or clock.monotonic() - began > kept.work_s * LONGEST:
                stop.set()

    watching = threading.Thread(target=watch, name="handover", daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
