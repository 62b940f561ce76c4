"""A lock by name in the catalog's own database, for work on a table that must not overlap: history, files.

A lease: its holder renews it while it works, and one whose process is gone can be taken over at once on the same
machine, elsewhere when it runs out. Rows are appended without it: a drain never waits for maintenance.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psutil
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy import BigInteger, Column, Engine, MetaData, String, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError

from k2_core import clock
from k2_core.errors import LockBusy, LockLost
from k2_core.logs import logger

log = logger(__name__)

LEASE_S: Final = 30.0
_POLL_S: Final = 0.1
_LOCKS: Final = Table(
    "k2_locks",
    MetaData(),
    Column("name", String(255), primary_key=True),
    Column("holder", String(255), nullable=False),
    Column("until_ns", BigInteger, nullable=False),
)


class Lease:
    """A lock that is held; renewed in a thread of its own."""

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
            except SQLAlchemyError as error:  # check() tells when the lease has run out
                log.warning("lease not renewed", lock=self._name, error=str(error))


@contextmanager
def lock(catalog: Catalog, name: str, wait_s: float) -> Iterator[Lease]:
    """Hold the lock ``name``, such as ``files:silver_binance_trades``, for the length of a block.

    Raises:
        LockBusy: another held it for ``wait_s``.
    """
    assert isinstance(catalog, SqlCatalog)  # noqa: S101  # the only kind that open_catalog opens
    engine = catalog.engine
    _ensure_table(engine)
    holder = f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}:{threading.get_ident()}"
    waits_until = clock.monotonic() + wait_s
    waiting = threading.Event()
    while not _take(engine, name, holder):
        if clock.monotonic() > waits_until:
            msg = f"{name} is locked by {_holder_of(engine, name)}: try again when it has ended"
            raise LockBusy(msg)
        waiting.wait(_POLL_S)
    lease = Lease(engine, name, holder)
    try:
        yield lease
    finally:
        lease.release()


def is_locked(catalog: Catalog, *names: str) -> bool:
    """Tell whether a process that lives holds one of the locks ``names``."""
    assert isinstance(catalog, SqlCatalog)  # noqa: S101  # as above
    _ensure_table(catalog.engine)
    with catalog.engine.connect() as connection:
        rows = connection.execute(select(_LOCKS.c.holder, _LOCKS.c.until_ns).where(_LOCKS.c.name.in_(names))).all()
    return any(row.until_ns > clock.now_ns() and not _died(row.holder) for row in rows)


def _ensure_table(engine: Engine) -> None:
    try:
        _LOCKS.create(engine, checkfirst=True)
    except (IntegrityError, OperationalError, ProgrammingError):
        _LOCKS.create(engine, checkfirst=True)  # another process made it at the same moment


def _take(engine: Engine, name: str, holder: str) -> bool:
    try:
        with engine.begin() as connection:
            connection.execute(insert(_LOCKS).values(name=name, holder=holder, until_ns=_lease_end()))
    except IntegrityError:
        return _take_over(engine, name, holder)
    return True


def _take_over(engine: Engine, name: str, holder: str) -> bool:
    """Take the lock of one that let its lease run out or died."""
    with engine.begin() as connection:
        row = connection.execute(select(_LOCKS.c.holder, _LOCKS.c.until_ns).where(_LOCKS.c.name == name)).first()
        if row is None or (row.until_ns > clock.now_ns() and not _died(row.holder)):
            return False
        same = (_LOCKS.c.name == name, _LOCKS.c.holder == row.holder, _LOCKS.c.until_ns == row.until_ns)
        return bool(
            connection.execute(update(_LOCKS).where(*same).values(holder=holder, until_ns=_lease_end())).rowcount
        )


def _died(holder: str) -> bool:
    host, pid, started, _ = holder.rsplit(":", 3)
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(pid))
        another = abs(process.create_time() - float(started)) > 1.0
        return another or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _holder_of(engine: Engine, name: str) -> str:
    with engine.begin() as connection:
        return str(connection.execute(select(_LOCKS.c.holder).where(_LOCKS.c.name == name)).scalar() or "nobody now")


def _lease_end() -> int:
    return clock.now_ns() + int(LEASE_S * clock.NS_PER_SECOND)
