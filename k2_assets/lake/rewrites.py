"""Replace or remove data files, beside writers that go on appending: rebuilds, compaction, retention.

The files that go are named, never found again by a filter: rows that were appended meanwhile stay. Callers hold the
lock ``files:<table>``, so that no two of them replace the same files; a drain needs no lock.
"""

from collections.abc import Callable, Mapping, Sequence

from pyiceberg.exceptions import ValidationException
from pyiceberg.manifest import DataFile, ManifestEntry, ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _OverwriteFiles

from k2_assets.lake.commit_outcome import commit_once
from k2_assets.lake.commits import commit_id
from k2_assets.lake.transaction import LakeTransaction
from k2_core.crash_points import reach
from k2_core.errors import CommitConflict
from k2_core.lake.commit_attempts import until_committed
from k2_core.leases import Lease


def replace_files(
    load: Callable[[], Table],
    lease: Lease,
    removed: Sequence[DataFile],
    added: Sequence[DataFile],
    remember: Mapping[str, str],
    *,
    age: int | None = None,
) -> Table:
    """Replace ``removed`` by ``added`` in one commit; what other writers appended meanwhile stays.

    Args:
        load: loads the table's newest state.
        lease: of the lock ``files:<table>``.
        removed: live files, by name.
        added: from :func:`~k2_assets.lake.data_files.write_files`.
        remember: table properties to set in the same commit.
        age: data sequence number of the new files, when their rows are those of ``removed``: the largest that these
            had, so that derived tables which have read the old files need not read the new ones. None gives a new one.

    Returns:
        The table after the commit.

    Raises:
        CommitConflict: one of ``removed`` is no longer live, or other writers were first again and again; the new
            files are left to the removal of files that no snapshot names.
        LockLost: the lock was lost before the commit.
    """

    def attempt(table: Table) -> Table | None:
        lease.check()
        return table if _try_replace(table, removed, added, remember, age) else None

    return until_committed(load, attempt)


def remove_files(
    load: Callable[[], Table],
    lease: Lease,
    removed: Sequence[DataFile],
    remember: Callable[[Table], Mapping[str, str]],
) -> Table:
    """Remove files, and with them their rows, in one commit; what other writers appended meanwhile stays.

    Args:
        load: loads the table's newest state.
        lease: of the lock ``files:<table>``.
        removed: live files, by name.
        remember: returns the table properties to set in the same commit, for the state that they are removed from.

    Returns:
        The table after the commit.

    Raises:
        CommitConflict: one of ``removed`` is no longer live, or other writers were first again and again.
        LockLost: the lock was lost before the commit.
    """

    def attempt(table: Table) -> Table | None:
        lease.check()
        return table if _try_replace(table, removed, (), remember(table), None) else None

    return until_committed(load, attempt)


def _try_replace(
    table: Table, removed: Sequence[DataFile], added: Sequence[DataFile], remember: Mapping[str, str], age: int | None
) -> bool:
    name = table.name()[-1]
    reach(f"{name}.replace")
    transaction = LakeTransaction(table)
    try:
        rewrite = _Rewrite(Operation.OVERWRITE, transaction, table.io, snapshot_properties={**remember, **commit_id()})
        rewrite.age = age
        for file in removed:
            rewrite.delete_data_file(file)
        for file in added:
            rewrite.append_data_file(file)
        rewrite.commit()
        transaction.set_properties(dict(remember))
    except ValidationException as error:
        msg = f"{name}: a file that was to be replaced is gone: {error}"
        raise CommitConflict(msg) from None
    if not commit_once(transaction):
        return False
    reach(f"{name}.replaced")
    return True


class _Rewrite(_OverwriteFiles):
    """An overwrite whose new files may keep the age of those they replace; pyiceberg has none."""

    age: int | None = None

    def _manifests(self) -> list[ManifestFile]:
        # Derived tables read only files that are younger than what they remember. Files that hold the same rows as
        # before therefore keep an age: that of the youngest file that they replace. pyiceberg writes each new file as
        # young as its commit; so it writes the other manifests, and the new files get one here, with an explicit age.
        if self.age is None:
            return super()._manifests()
        added, self._added_data_files = self._added_data_files, []
        others = super()._manifests()
        self._added_data_files = added
        with self.new_manifest_writer(self._transaction.table_metadata.spec()) as writer:
            for file in added:
                entry = ManifestEntry.from_args(
                    status=ManifestEntryStatus.ADDED, snapshot_id=None, sequence_number=self.age, data_file=file
                )
                writer.add(entry)
        return [writer.to_manifest_file(), *others]
