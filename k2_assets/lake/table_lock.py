"""Leases in rows of the catalog's own database, for work on a table that must not overlap: history, files.

The holder renews its lease while it works. If its process is gone, another may take the lease: at once on the same
machine, elsewhere when it runs out. Rows are appended without a lease: a drain never waits for maintenance.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy import BigInteger, Column, Engine, MetaData, Row, String, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from k2_core import clock, process_identity
from k2_core.errors import LockBusy, LockLost
from k2_core.lake.made_once import ensure_table
from k2_core.leases import Holder, Lease, held
from k2_core.logs import logger
from k2_core.process_identity import ProcessIdentity

log = logger(__name__)

LEASE_S: Final = 30.0
_LOCKS: Final = Table(
    "k2_locks",
    MetaData(),
    Column("name", String(255), primary_key=True),
    Column("holder", String(255), nullable=False),
    Column("until_ns", BigInteger, nullable=False),
)


@contextmanager
def lock(catalog: Catalog, name: str, wait_s: float) -> Iterator[Lease]:
    """Hold the lock ``name``, such as ``files:silver_binance_trades``, for the length of a block.

    Raises:
        LockBusy: another held it for ``wait_s``.
    """
    store = RowLeases(catalog)
    with held(store, name, wait_s) as lease:
        if lease is None:
            msg = f"{name} is locked by {store.holder(name) or 'nobody now'}: try again when it has ended"
            raise LockBusy(msg)
        yield lease


class RowLeases:
    """The leases of a catalog: those of one thread of a process keep out its other threads as well."""

    def __init__(self, catalog: Catalog) -> None:
        assert isinstance(catalog, SqlCatalog)  # noqa: S101  # the only kind that open_catalog opens
        self._engine = catalog.engine
        ensure_table(self._engine, _LOCKS)

    def take(self, name: str) -> "Lease | None":
        """Take the lease ``name``, also of a holder that died or let it run out; None when another has it."""
        me = process_identity.this_process()
        holder = f"{socket.gethostname()}:{me.pid}:{me.started:.2f}:{threading.get_ident()}"
        mine = {"holder": holder, "until_ns": _lease_end()}
        # A lease is a row, and its name is the key: of several who insert it, one succeeds. The row of a dead holder is
        # updated only if nobody else has changed it since it was read: of several who find it, one succeeds again.
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(_LOCKS).values(name=name, **mine))
        except IntegrityError:
            with self._engine.begin() as connection:
                row = connection.execute(select(_LOCKS).where(_LOCKS.c.name == name)).first()
                if row is None or _holds(row):
                    return None
                same = (_LOCKS.c.name == name, _LOCKS.c.holder == row.holder, _LOCKS.c.until_ns == row.until_ns)
                if not connection.execute(update(_LOCKS).where(*same).values(**mine)).rowcount:
                    return None
        return _RowLease(self._engine, name, holder)

    def holder(self, name: str) -> Holder | None:
        """Return who has the lease ``name``; None when nobody does whose process may live."""
        with self._engine.connect() as connection:
            row = connection.execute(select(_LOCKS).where(_LOCKS.c.name == name)).first()
        return None if row is None else _holds(row)


class _RowLease:
    """A lease that is held; renewed in a thread of its own."""

    def __init__(self, engine: Engine, name: str, holder: str) -> None:
        self._engine = engine
        self._name = name
        self._holder = holder
        self._lost = threading.Event()
        self._stop = threading.Event()
        self._until = clock.monotonic() + LEASE_S
        self._thread = threading.Thread(target=self._renew, name=f"lease {name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Make sure that the lock is still held; call it last before a commit.

        Raises:
            LockLost: it could not be renewed in time, and another may hold it now.
        """
        if self._lost.is_set() or clock.monotonic() > self._until:
            msg = f"the lock {self._name} could not be renewed in {LEASE_S:.0f} s; begin again"
            raise LockLost(msg)

    def release(self) -> None:
        """Give the lock back."""
        self._stop.set()
        self._thread.join()
        with self._engine.begin() as connection:
            connection.execute(delete(_LOCKS).where(_LOCKS.c.name == self._name, _LOCKS.c.holder == self._holder))

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_S / 5):
            asked = clock.monotonic()
            try:
                with self._engine.begin() as connection:
                    mine = update(_LOCKS).where(_LOCKS.c.name == self._name, _LOCKS.c.holder == self._holder)
                    if not connection.execute(mine.values(until_ns=_lease_end())).rowcount:
                        self._lost.set()
                        return
                self._until = asked + LEASE_S
            except SQLAlchemyError as error:  # check() raises when the lease has run out
                log.warning("lease not renewed", lock=self._name, error=str(error))


def _holds(row: Row[Any]) -> Holder | None:
    """Return who holds the lease of a row; None when it ran out, or its process is known to be gone."""
    host, pid, started, _ = row.holder.rsplit(":", 3)
    found = Holder(host, ProcessIdentity(int(pid), float(started)))
    return None if row.until_ns <= clock.now_ns() or found.has_died() else found


def _lease_end() -> int:
    return clock.now_ns() + int(LEASE_S * clock.NS_PER_SECOND)
