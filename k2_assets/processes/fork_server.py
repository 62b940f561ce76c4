"""The process from which runs are forked. It is itself forked from the code server before that has a thread.

Both and all runs share the memory of what they have loaded. Before each fork garbage collection has to leave these
objects alone (``gc.freeze``): it writes into every object that it looks at, and each process would soon have a copy of
nearly all pages.
"""

import gc
import os
import signal
import traceback
from collections.abc import Sequence
from multiprocessing import forkserver, resource_tracker, util
from typing import Final

_MOST_DESCRIPTORS: Final = 1024


def begin() -> None:
    """Fork it from this process. Whoever asks multiprocessing for a run's process later has it forked from there."""
    resource_tracker.ensure_running()
    start_afresh = util.spawnv_passfds
    util.spawnv_passfds = _fork  # type: ignore[assignment]  # it needs only the descriptors
    try:
        forkserver.ensure_running()
    finally:
        util.spawnv_passfds = start_afresh


def _fork(_executable: str, _arguments: Sequence[str], descriptors: Sequence[int]) -> int:
    """Fork where multiprocessing would start a fresh Python, which would load everything once more."""
    gc.freeze()
    if pid := os.fork():
        return pid
    status = 1
    try:
        listener, alive = descriptors
        # Everything else is closed: a copy of the pipe's other end here would hide that the code server is gone.
        kept = {listener, alive, resource_tracker.getfd()}
        for descriptor in set(range(3, _MOST_DESCRIPTORS)) - kept:
            try:
                os.close(descriptor)
            except OSError:
                continue
        outlive_the_code_server()
        forkserver.main(listener, alive, [])
    except SystemExit:  # the code server and the last run are gone
        status = 0
    except BaseException:  # noqa: BLE001  # the edge of this process
        traceback.print_exc()
    finally:
        os._exit(status)


def outlive_the_code_server() -> None:
    """Live as long as the runs do, in this process.

    ``k2 down`` asks every process to end. If this one did, the code server would think that its runs are gone, and call
    them failed, while they still finish what they have begun. It ends by itself, after code server and last run.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.register_at_fork(before=gc.freeze, after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
