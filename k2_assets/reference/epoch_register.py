"""The register of epochs in the lake: read it, and write what was found. Gold decides where an epoch begins."""

from collections.abc import Iterable, Mapping
from datetime import date
from functools import reduce
from typing import Any, Final

import polars as pl
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions import And, BooleanExpression, EqualTo, Or
from pyiceberg.table import Table

from k2_assets.lake.commits import Change, arrow_schema, commit_derived
from k2_assets.lake.first_partition import is_day_of_data
from k2_assets.lake.rebuilt_days import Taken, marked
from k2_assets.lake.source_files import live_files, read_files
from k2_core import clock
from k2_core.epochs import Epochs, Key
from k2_core.errors import CommitConflict
from k2_core.lake.removed_days import RemovedDays
from k2_core.lake.tables import GOLD_TRADES, REFERENCE_EPOCHS, silver_trades

_DRAINS_KNOW_S: Final = 120.0
_COLUMNS: Final = ("exchange", "symbol", "start")
_equal: Final[Any] = EqualTo


def epochs_table(catalog: Catalog, namespace: str) -> Table | None:
    """Load the table; None in a lake from before there was one."""
    try:
        return catalog.load_table((namespace, REFERENCE_EPOCHS.name))
    except NoSuchTableError:
        return None


def read_epochs(table: Table | None) -> Epochs:
    """Return all that the register holds."""
    files = [] if table is None else live_files(table, REFERENCE_EPOCHS.partition_by)
    if table is None or not files:
        return Epochs()
    rows = read_files(table, files, _COLUMNS).with_columns(pl.col("start").to_physical())
    starts: dict[Key, list[int]] = {}
    for exchange, symbol, start_us in rows.iter_rows():
        starts.setdefault((exchange, symbol), []).append(start_us)
    return Epochs(starts)


def drains_know(table: Table) -> bool:
    """Return whether every drain has read the newest register, and committed what it made with an older one."""
    snapshot = table.current_snapshot()
    return snapshot is None or clock.now().timestamp() - snapshot.timestamp_ms / 1000 >= _DRAINS_KNOW_S


def days_to_rebuild(epochs: Table, exchange: str, silver: Table, bronze: Table) -> set[date]:
    """Return the days of an exchange's silver that an epoch changes, that it has not taken in, and that it still can.

    The frames of a day are received on it or later. Once retention has removed one of these days of bronze, silver
    keeps the ids that it has.

    Args:
        epochs: the register.
        exchange: whose trades they are.
        silver: its trades.
        bronze: their frames.
    """
    if epochs.current_snapshot() is None or exchange not in {of for of, _ in read_epochs(epochs)}:
        return set()
    removed = RemovedDays.of(bronze.properties)
    behind = Taken.of(silver).behind(epochs)
    return {day for day in behind if is_day_of_data(day) and not removed.between(day, date.max)}


def write_epochs(
    catalog: Catalog, namespace: str, read: Epochs, found: Mapping[Key, tuple[int, ...]], days: Iterable[date]
) -> Epochs:
    """Replace the starts of some instruments, and mark the days that this changes.

    Silver and gold take in the marks: they rebuild the days, whose rows get other ids.

    Args:
        catalog: of the lake.
        namespace: of its tables.
        read: the register from which ``found`` follows.
        found: all starts of each instrument but the first epoch's, in µs.
        days: those with trades that now belong to another epoch.

    Returns:
        The register after that.

    Raises:
        CommitConflict: another writer has changed one of these instruments since: read again. Or other writers were
            first again and again.
    """
    days = list(days)

    def compute(table: Table) -> Change:
        existing = read_epochs(table)
        if moved := [key for key in found if existing.starts(*key) != read.starts(*key)]:
            msg = f"another writer has changed the epochs of {moved} since they were read"
            raise CommitConflict(msg)
        exchanges = {exchange for exchange, _ in (*existing, *found)}
        names = [GOLD_TRADES.name, *(silver_trades(exchange).name for exchange in sorted(exchanges))]
        derived = [catalog.load_table((namespace, name)) for name in names if catalog.table_exists((namespace, name))]
        now = clock.now()
        rows = [
            {"exchange": exchange, "symbol": symbol, "start": clock.from_us(start_us), "found_at": now}
            for (exchange, symbol), starts in found.items()
            for start_us in starts
        ]
        replaced: list[BooleanExpression] = [
            And(_equal("exchange", exchange), _equal("symbol", symbol))
            for exchange, symbol in found
            if existing.starts(exchange, symbol)
        ]
        arrow = pa.Table.from_pylist(rows, schema=arrow_schema(REFERENCE_EPOCHS))
        return Change(arrow, reduce(Or, replaced) if replaced else None, marked(table, days, derived))

    table, _ = commit_derived(lambda: catalog.load_table((namespace, REFERENCE_EPOCHS.name)), compute)
    return read_epochs(table)
