"""One kept run works at a time, and one more may wait.

A successor starts while the run before still works. It waits under a lease of its own, so that only one waits, and
takes the other one as soon as the run before hands over.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import URL, NullPool, create_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from k2_assets.kept_runs.heartbeat import WAITING, Heart
from k2_assets.kept_runs.kept_run import KeptRun
from k2_core.errors import LeasesAway, LockBusy
from k2_core.leases import Leases

_FOREVER: Final = float("inf")
_BUSY_S: Final = 5.0


def leases_in(folder: Path) -> Leases:
    """Return the leases of a home's ``run/``: the kept run that works has the lease of its name. Makes nothing.

    They are in a database of their own: the catalog may be away, or locked by the very run that has a lease. Every look
    opens it and closes it again, so that nothing open is copied into a process that is forked.
    """
    url = URL.create("sqlite", database=str(folder / "leases.db"))
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": _BUSY_S})
    return Leases(engine, while_alive=True)


@contextmanager
def leased(kept: KeptRun, run_id: str, stop: threading.Event) -> Iterator[bool]:
    """Wait until the run before has handed over, and hold the lease while the block runs.

    Yields:
        Whether the block may work; False when ``stop`` was set first.

    Raises:
        LockBusy: one works and another waits already.
        LeasesAway: it cannot be seen which of them work, as on a full disk.
    """
    # There are two leases: one for the run that works and one for the run that waits. The waiting run takes the first
    # while it still holds the second, so that no third run can come between. The inner stack then gives the second
    # back, and the next successor may come.
    kept.folder.mkdir(parents=True, exist_ok=True)
    leases, successor = leases_in(kept.folder), kept.successor
    with ExitStack() as working:
        try:
            with ExitStack() as waiting:
                lease = working.enter_context(leases.held(kept.name, 0, stop))
                if lease is None and waiting.enter_context(leases.held(successor.name, kept.dead_after_s, stop)):
                    with Heart(successor, run_id) as heart:
                        heart.progress(WAITING, "for the run before to hand over")
                        lease = working.enter_context(leases.held(kept.name, _FOREVER, stop))
                elif lease is None and not stop.is_set():
                    works = leases.holder(kept.name) or "another process"
                    msg = f"one {kept.label} works, as {works}, and another waits: they are enough."
                    raise LockBusy(msg)
        except SQLAlchemyError as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            msg = f"the leases in {leases.engine.url.database} cannot be read or written ({reason})"
            raise LeasesAway(msg) from error
        yield lease is not None
