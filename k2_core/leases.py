"""Rights by name that one process has at a time, and that end with it: rows in an SQL database, whichever it is.

A holder renews its lease while it works. Whether a holder on this machine is gone is seen at once; one elsewhere has
lost its lease when that runs out. In the catalog's database they keep work on a table from overlapping
(``k2_assets/lake/table_lock.py``), in one of a home's own they keep two kept runs from working at once
(``k2_assets/kept_runs/run_lease.py``).
"""

import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Engine, MetaData, Row, String, Table, delete, insert, inspect, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from k2_core import clock, process_identity
from k2_core.errors import LockLost
from k2_core.logs import logger
from k2_core.made_once import ensure_table
from k2_core.process_identity import ProcessIdentity

log = logger(__name__)

LEASE_S: Final = 30.0
_LOOK_S: Final = 0.1
_LOCKS: Final = Table(
    "k2_locks",
    MetaData(),
    Column("name", String(255), primary_key=True),
    Column("holder", String(255), nullable=False),
    Column("until_ns", BigInteger, nullable=False),
)


@dataclass(frozen=True)
class Holder:
    """Who has a lease: a process of a machine."""

    host: str
    process: ProcessIdentity

    def __str__(self) -> str:
        return f"process {self.process.pid}{'' if self.is_here else f' of {self.host}'}"

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()


class Leases:
    """The leases of a database; those of one thread of a process keep out its other threads as well.

    Args:
        engine: of the database.
        while_alive: whether a process of this machine keeps its lease until it is gone, also when a signal has stopped
            it, or when it cannot renew. Without it, and on another machine, a lease that is not renewed for
            :data:`LEASE_S` runs out.
    """

    def __init__(self, engine: Engine, *, while_alive: bool = False) -> None:
        self.engine = engine
        self.while_alive = while_alive

    @contextmanager
    def held(self, name: str, wait_s: float, stop: threading.Event | None = None) -> Iterator["Lease | None"]:
        """Hold the lease ``name`` while the block runs; None when it was not free in time, or before ``stop`` was set.

        Raises:
            SQLAlchemyError: the database cannot be read or written.
        """
        stop, deadline = stop or threading.Event(), clock.monotonic() + wait_s
        while (lease := self.take(name)) is None and not stop.is_set() and clock.monotonic() < deadline:
            stop.wait(_LOOK_S)
        try:
            yield lease
        finally:
            if lease is not None:
                lease.release()

    def take(self, name: str) -> "Lease | None":
        """Take the lease ``name``, also of a holder that has lost it; None when another has it.

        Raises:
            SQLAlchemyError: the database cannot be read or written.
        """
        # One that waits asks ten times a second: it writes only when the lease looks free.
        row = self._row(name)
        if row is not None and self._holds(row):
            return None
        ensure_table(self.engine, _LOCKS)
        mine = {"holder": _new_holder(), "until_ns": _lease_end()}
        # A lease is a row, and its name is the key: of several who insert it, one succeeds. A row that is no lease any
        # more is updated only if nobody else has changed it since it was read: of several, one succeeds again.
        try:
            with self.engine.begin() as connection:
                if row is None:
                    connection.execute(insert(_LOCKS).values(name=name, **mine))
                else:
                    same = (_LOCKS.c.name == name, _LOCKS.c.holder == row.holder, _LOCKS.c.until_ns == row.until_ns)
                    if not connection.execute(update(_LOCKS).where(*same).values(**mine)).rowcount:
                        return None
        except IntegrityError:
            return None
        return Lease(self, name, str(mine["holder"]))

    def holder(self, name: str) -> Holder | None:
        """Return who has the lease ``name``; None when nobody does. Makes nothing.

        Raises:
            SQLAlchemyError: the database cannot be read.
        """
        url = self.engine.url
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():  # connecting would make it
            return None
        row = self._row(name)
        return None if row is None else self._holds(row)

    def _row(self, name: str) -> Row[Any] | None:
        with self.engine.connect() as connection:
            if not inspect(connection).has_table(_LOCKS.name):
                return None
            return connection.execute(select(_LOCKS).where(_LOCKS.c.name == name)).first()

    def _holds(self, row: Row[Any]) -> Holder | None:
        """Return who holds the lease of a row; None when it ran out, or its process is known to be gone."""
        found, in_time = _read_holder(row.holder), row.until_ns > clock.now_ns()
        if found.is_here:
            return found if found.process.is_running() and (self.while_alive or in_time) else None
        return found if in_time else None


class Lease:
    """A right that this process has; renewed in a thread of its own."""

    def __init__(self, leases: Leases, name: str, holder: str) -> None:
        self._leases = leases
        self._name = name
        self._mine = (_LOCKS.c.name == name, _LOCKS.c.holder == holder)
        self._lost = threading.Event()
        self._stop = threading.Event()
        self._until = clock.monotonic() + LEASE_S
        self._thread = threading.Thread(target=self._keep, name=f"lease {name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Make sure that it is still held; call it last before a commit.

        Raises:
            LockLost: it ended, and another may have it now.
        """
        if self._leases.while_alive:  # nothing but its row can tell
            self._renew()
        if self._lost.is_set() or (not self._leases.while_alive and clock.monotonic() > self._until):
            msg = f"the lease {self._name} was not renewed in {LEASE_S:.0f} s, or is another's now; begin again"
            raise LockLost(msg)

    def release(self) -> None:
        """Give it back. Where its row cannot be deleted, as on a full disk, that is tried again later."""
        self._stop.set()
        self._thread.join()
        if not self._give_back():
            # This process may live for long, and would keep others from a lease that it does not use.
            threading.Thread(target=self._give_back_later, name=f"lease {self._name}", daemon=True).start()

    def _keep(self) -> None:
        while not self._lost.is_set() and not self._stop.wait(LEASE_S / 5):
            self._renew()

    def _renew(self) -> None:
        asked = clock.monotonic()
        try:
            with self._leases.engine.begin() as connection:
                if connection.execute(update(_LOCKS).where(*self._mine).values(until_ns=_lease_end())).rowcount:
                    self._until = asked + LEASE_S
                else:
                    self._lost.set()
        except SQLAlchemyError as error:  # check() raises when the lease has run out
            log.warning("lease not renewed", lease=self._name, error=str(error))

    def _give_back(self) -> bool:
        try:
            with self._leases.engine.begin() as connection:
                connection.execute(delete(_LOCKS).where(*self._mine))
        except SQLAlchemyError as error:
            log.warning("lease not given back", lease=self._name, error=str(error))
            return False
        return True

    def _give_back_later(self) -> None:
        later = threading.Event()
        while not self._give_back():
            later.wait(LEASE_S / 5)


def _new_holder() -> str:
    """Return this process as the text of a row, which no other lease has."""
    me = process_identity.this_process()
    return f"{socket.gethostname()}:{me.pid}:{me.started:.2f}:{uuid.uuid4().hex}/{me.since_boot:.2f}"


def _read_holder(text: str) -> Holder:
    host, pid, started, rest = text.rsplit(":", 3)
    since_boot = rest.partition("/")[2]  # an earlier K2 did not write it
    return Holder(host, ProcessIdentity(int(pid), float(started), float(since_boot) if since_boot else None))


def _lease_end() -> int:
    return clock.now_ns() + int(LEASE_S * clock.NS_PER_SECOND)
