"""Compare-and-set commits of rows together with what a writer remembers.

Nothing here retries blindly: a commit that failed has an unknown outcome until the table was reloaded.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import pyarrow as pa
from pyiceberg.expressions import BooleanExpression
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2_assets.lake.commit_outcome import commit_once
from k2_assets.lake.data_files import without_rows, write_files
from k2_assets.lake.pending_files import naming, pending_files, write_pending
from k2_assets.lake.transaction import LakeTransaction
from k2_core.crash_points import reach
from k2_core.errors import CommitConflict
from k2_core.lake.commit_attempts import until_committed
from k2_core.lake.source_memory import REPLACING
from k2_core.lake.table_spec import TableSpec
from k2_core.logs import logger
from k2_core.offsets import Offsets

log = logger(__name__)

ATTEMPTS: Final = 10
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def commit_id() -> dict[str, str]:
    """Return the property by which the snapshots of one commit are known: their summaries carry it."""
    return {"k2.commit": uuid.uuid4().hex[:12]}


def arrow_schema(spec: TableSpec) -> pa.Schema:
    """Return the Arrow schema that rows of a table are written with."""
    schema: pa.Schema = schema_to_pyarrow(spec.schema, include_field_ids=False)
    return schema


def commit_drained(table: Table, rows: pa.Table | Sequence[DataFile], start: Offsets, following: Offsets) -> Table:
    """Append ``rows`` and move the table's vector from ``start`` to ``following`` in one commit.

    Args:
        table: as last loaded.
        rows: any number of rows in the table's Arrow schema, or the files that they were written into.
        start: next offset of each partition before this batch; a partition that the table does not know is absent.
        following: next offset of each partition after it.

    Returns:
        The table after the commit.

    Raises:
        CommitConflict: the table's vector is no longer ``start``: another writer was first, throw the batch away.
    """
    # Compare-and-set: the rows are committed only while the table's vector is where they began. The vector is compared
    # on the partitions of `following` alone, so that other drains may share the table. The catalog refuses a commit to
    # a state that is not the newest, so nothing can come between comparison and commit; a batch without rows makes a
    # snapshot too, for the same reason. After a refusal or a lost answer the newest state decides once more.
    files = _Files(write_files(table, [rows]) if isinstance(rows, pa.Table) else rows)
    keys = {key for key, _ in following.items()}

    def attempt(table: Table) -> Table | None:
        current = Offsets.from_properties(table.properties)
        if current.only(keys) != start.only(keys):
            msg = f"{table.name()[-1]} is at {current.only(keys)}, the batch began at {start.only(keys)}"
            raise CommitConflict(msg)
        remembered = current.advanced(following).to_properties()
        return table if _try_commit(table, files, remembered, in_summary=remembered) else None

    return until_committed(table.refresh, attempt, table=table, attempts=ATTEMPTS)


@dataclass(frozen=True)
class Change:
    """What a derived table's run wants to commit.

    Args:
        rows: in the table's Arrow schema.
        replace: names the rows that they replace; None when they are only added.
        remember: the table's properties after the commit, those that change.
        remember_in: returns the same for a newer state of the table, if all that the rows were computed from is as it
            was; None where they have to be computed again, by default always.
        other_rows: rows for another table that belong to the change: see ``pending_rows.py``.
        taken: the files of such rows that the table names and that the other table has taken.
    """

    rows: pa.Table
    replace: BooleanExpression | None
    remember: Mapping[str, str]
    remember_in: Callable[[Table], Mapping[str, str] | None] = lambda _: None
    other_rows: pa.Table | None = None
    taken: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Files:
    """The files of a change: those that come, those that go, and how many rows replace others."""

    added: Sequence[DataFile]
    removed: Sequence[DataFile] = ()
    replacing: int | None = None


def commit_derived(
    load: Callable[[], Table], compute: Callable[[Table], Change | None], *, attempts: int = ATTEMPTS
) -> tuple[Table, Change | None]:
    """Compute a change from the table's newest state and commit it.

    After a conflict the same files are committed if the change is still right; otherwise it is computed again.

    Args:
        load: loads the table's newest state.
        compute: returns the change for that state, or None when there is nothing to do. Must be idempotent. It may
            raise :class:`~k2_core.errors.CommitConflict` when it finds that another writer was first.
        attempts: how often it is computed at most.

    Returns:
        The table after the commit, and the change that was committed.

    Raises:
        CommitConflict: other writers were first again and again.
    """
    left = attempts

    def attempt(table: Table) -> tuple[Table, Change | None] | None:
        nonlocal left
        left -= 1
        try:
            change = compute(table)
        except CommitConflict:
            if not left:  # its reason says more than the number of attempts
                raise
            return None
        try:
            return table if change is None else _committed(load, table, change), change
        except CommitConflict as conflict:
            log.info("another writer was first; the change is computed again", conflict=str(conflict))
            return None

    return until_committed(load, attempt, attempts=attempts)


def _committed(load: Callable[[], Table], table: Table, change: Change) -> Table:
    """Commit a change, also to a newer state for which it is still right.

    Raises:
        CommitConflict: it has to be computed again, or other writers were first again and again.
    """
    if change.replace is None:
        files = _Files(write_files(table, [change.rows]))
    else:  # the rows beside those that it replaces stay, in new files
        touched = list(without_rows(table, change.replace))
        kept = [file for _, others in touched for file in others]
        added = [*kept, *write_files(table, [change.rows])]
        files = _Files(added, [file for file, _ in touched], change.rows.num_rows)
    pending = [] if change.other_rows is None else [write_pending(table, change.other_rows)]

    def attempt(newest: Table) -> Table | None:
        remember = change.remember if newest is table else change.remember_in(newest)
        if remember is None:
            msg = f"{table.name()[-1]}: what the change was computed from has moved"
            raise CommitConflict(msg)
        if pending or change.taken:
            remember = {
                **remember,
                **naming([each for each in pending_files(newest) if each not in change.taken] + pending),
            }
        return newest if _try_commit(newest, files, remember) else None

    return until_committed(load, attempt, table=table)


def _try_commit(
    table: Table, files: _Files, remember: Mapping[str, str], *, in_summary: Mapping[str, str] = NOTHING
) -> bool:
    """Commit once; False when the table was seen without it."""
    # What is remembered goes into the table's properties. Every load reads the summaries of all snapshots: only offsets
    # and the commit's id are worth that.
    summary = {**in_summary, **commit_id()}
    reach(f"{table.name()[-1]}.commit")
    transaction = LakeTransaction(table)
    if files.replacing is None:
        with transaction.update_snapshot(snapshot_properties=summary).merge_append() as append:
            for file in files.added:
                append.append_data_file(file)
    else:
        replacing = {**summary, REPLACING: str(files.replacing)}
        with transaction.update_snapshot(snapshot_properties=replacing).overwrite() as overwrite:
            for file in files.removed:
                overwrite.delete_data_file(file)
            for file in files.added:
                overwrite.append_data_file(file)
    transaction.set_properties(dict(remember))
    if not commit_once(transaction):
        return False
    reach(f"{table.name()[-1]}.committed")
    return True
