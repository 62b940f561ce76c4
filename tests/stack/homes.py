"""Homes as commands find them, without a platform."""

from collections.abc import Iterator
from contextlib import contextmanager

from k2_assets.alerts.alert_store import Look, opened
from k2_core import clock, process_identity
from k2_core.settings import Settings
from k2_stack import home_lock, stack_state
from k2_stack.stack_state import PartState, StackState


@contextmanager
def running_home(settings: Settings, **urls: str) -> Iterator[StackState]:
    """Have this process hold a home as a supervisor does, whose parts are found at these URLs."""
    me = process_identity.this_process()
    parts = [PartState(name, state=stack_state.READY, url=url) for name, url in urls.items()]
    now = StackState(str(settings.home), "simulator", me.pid, me.started, parts, phase="running")
    with held_home(settings):
        stack_state.write(settings, now)
        yield now


@contextmanager
def held_home(settings: Settings) -> Iterator[None]:
    """Have this process hold a home as its supervisor does, whose alerts have just been looked after."""
    with opened(settings.home) as store:
        store.commit({}, 0, [], Look(clock.now_s(), ""))
    with home_lock.held(settings) as is_ours:
        assert is_ours
        yield
