"""One kept run works at a time, and one more may wait.

A successor starts while the run before still works. It waits under a lease of its own, so that only one waits, and
takes the other one as soon as the run before hands over.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from k2_assets.kept_runs.heartbeat import WAITING, Heart
from k2_assets.kept_runs.kept_run import KeptRun
from k2_core.errors import LockBusy
from k2_core.leases import held

_FOREVER: Final = float("inf")


@contextmanager
def leased(kept: KeptRun, run_id: str, stop: threading.Event) -> Iterator[bool]:
    """Wait until the run before has handed over, and hold the lease while the block runs.

    Yields:
        Whether the block may work; False when ``stop`` was set first.

    Raises:
        LockBusy: one works and another waits already.
    """
    # There are two leases: one for the run that works and one for the run that waits. The waiting run takes the first
    # while it still holds the second, so that no third run can come between. The inner stack then gives the second
    # back, and the next successor may come.
    store, successor = kept.leases, kept.successor
    with ExitStack() as working:
        with ExitStack() as waiting:
            lease = working.enter_context(held(store, kept.name, 0, stop))
            if lease is None and waiting.enter_context(held(store, successor.name, kept.dead_after_s, stop)):
                with Heart(successor, run_id) as heart:
                    heart.progress(WAITING, "for the run before to hand over")
                    lease = working.enter_context(held(store, kept.name, _FOREVER, stop))
            elif lease is None and not stop.is_set():
                works = store.holder(kept.name) or "another process"
                msg = f"one {kept.label} works, as {works}, and another waits: they are enough."
                raise LockBusy(msg)
        yield lease is not None
