"""Locks in the catalog's own database, for work on a table that must not overlap: history, files, a rebuilt day.

Rows are appended without a lock: a drain never waits for maintenance.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog

from k2_core.errors import LockBusy
from k2_core.leases import Lease, Leases


def leases_of(catalog: Catalog) -> Leases:
    """Return the leases in a catalog's database."""
    assert isinstance(catalog, SqlCatalog)  # noqa: S101  # the only kind that open_catalog opens
    return Leases(catalog.engine)


@contextmanager
def lock(catalog: Catalog, name: str, wait_s: float) -> Iterator[Lease]:
    """Hold the lock ``name``, such as ``files:silver_binance_trades``, for the length of a block.

    Raises:
        LockBusy: another held it for ``wait_s``.
    """
    leases = leases_of(catalog)
    with leases.held(name, wait_s) as lease:
        if lease is None:
            msg = f"{name} is locked by {leases.holder(name) or 'nobody now'}: try again when it has ended"
            raise LockBusy(msg)
        yield lease
