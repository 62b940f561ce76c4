"""Being asked to end: the signals that Dagster and the platform send become an event that the drain looks at."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_set(stop: threading.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set ``stop`` while the block runs, instead of breaking into it.

    Dagster's own handler raises wherever the main thread happens to be. The drain commits what it has read and ends:
    in the main thread alone, since signals arrive nowhere else.
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
