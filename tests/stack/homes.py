"""Homes as commands find them, without a platform."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from k2_core.settings import Settings
from k2_stack import processes, stack_state
from k2_stack.stack_state import Lock, PartState, StackState


@contextmanager
def running_home(settings: Settings, **urls: str) -> Iterator[StackState]:
    """Have this process hold a home as a supervisor does, whose parts are found at these URLs."""
    me = processes.identity(os.getpid())
    assert me
    parts = [PartState(name, state=stack_state.READY, url=url) for name, url in urls.items()]
    now = StackState(str(settings.home), "simulator", me.pid, me.started, parts, phase="running")
    lock = Lock(settings)
    assert lock.acquire()
    try:
        stack_state.write(settings, now)
        yield now
    finally:
        lock.release()
