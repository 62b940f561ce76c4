"""Change a table's history: make tags, delete tags, expire snapshots. No row is touched.

Callers hold the lock ``history:<table>`` and decide by the table as loaded under it. The commit is refused when a tag
or branch that was not known then names one of the snapshots.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Literal

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import RemoveSnapshotRefUpdate, RemoveSnapshotsUpdate, ValidatableTableRequirement
from pyiceberg.table.update.snapshot import ManageSnapshots

from k2_assets.lake.table_lock import lock
from k2_assets.lake.transaction import LakeTransaction
from k2_core.crash_points import reach
from k2_core.errors import CommitConflict
from k2_core.lake.commit_attempts import until_committed
from k2_core.leases import Lease

_DONE: Final = {"tag": "tagged", "expire": "expired"}

Expiry = tuple[Collection[str], Collection[int]]


def make_tags(load: Callable[[], Table], lease: Lease, choose: Callable[[Table], Mapping[str, int]]) -> Table:
    """Make the tags that ``choose`` returns: snapshot ids by name.

    Args:
        load: loads the table's newest state.
        lease: of the lock ``history:<table>``.
        choose: is called again after every conflict.

    Returns:
        The table with the tags.

    Raises:
        CommitConflict: other writers were first again and again.
        LockLost: the lock was lost before the commit.
    """

    def attempt(table: Table) -> Table | None:
        tags = choose(table)

        def stage(transaction: Transaction) -> None:
            with ManageSnapshots(transaction) as manage:
                for name, snapshot_id in tags.items():
                    manage.create_tag(snapshot_id, name)

        return _committed(table, lease, "tag", stage) if tags else table

    return until_committed(load, attempt)


def expire(
    load: Callable[[], Table],
    lease: Lease,
    choose: Callable[[Table], Expiry],
    note: Callable[[list[Snapshot]], None],
) -> Table:
    """Delete tags and expire snapshots, in one commit; properties, and so offsets, stay.

    Args:
        load: loads the table's newest state.
        lease: of the lock ``history:<table>``.
        choose: returns names of tags and ids of snapshots; is called again after every conflict.
        note: gets the snapshots before they go, so that their files can be found after a crash.

    Returns:
        The table without them.

    Raises:
        CommitConflict: other writers were first again and again.
        LockLost: the lock was lost before the commit.
    """

    def attempt(table: Table) -> Table | None:
        tags, snapshot_ids = choose(table)
        if not tags and not snapshot_ids:
            return table
        note([each for each in table.metadata.snapshots if each.snapshot_id in snapshot_ids])
        updates: list[Any] = [RemoveSnapshotRefUpdate(ref_name=name) for name in sorted(tags)]
        if snapshot_ids:
            updates.append(RemoveSnapshotsUpdate(snapshot_ids=list(snapshot_ids)))
        untagged: Any = _Untagged(snapshot_ids=frozenset(snapshot_ids), lapsing=frozenset(tags))
        # pyiceberg has no public way to stage a requirement of one's own.
        return _committed(table, lease, "expire", lambda staged: staged._stage(tuple(updates), (untagged,)))  # noqa: SLF001

    return until_committed(load, attempt)


def create_tag(catalog: Catalog, identifier: tuple[str, str], name: str, snapshot_id: int, wait_s: float = 60) -> None:
    """Tag a snapshot, which then stays until the tag is deleted.

    Raises:
        CommitConflict: the tag exists, or the snapshot has expired.
        LockBusy: the table's history was being changed for ``wait_s``.
    """
    with lock(catalog, f"history:{identifier[1]}", wait_s) as lease:
        add_tag(lambda: catalog.load_table(identifier), lease, name, snapshot_id)


def add_tag(load: Callable[[], Table], lease: Lease, name: str, snapshot_id: int) -> None:
    """Tag a snapshot under the lock that the caller holds; errors are those of :func:`create_tag`."""

    def choose(table: Table) -> Mapping[str, int]:
        existing = table.metadata.refs.get(name)
        if existing is not None and existing.snapshot_id == snapshot_id:
            return {}
        if existing is not None or table.metadata.snapshot_by_id(snapshot_id) is None:
            found = f"names another snapshot, {existing.snapshot_id}" if existing else "would name none"
            msg = f"{table.name()[-1]}: tag {name} {found}; snapshot {snapshot_id} was asked for"
            raise CommitConflict(msg)
        return {name: snapshot_id}

    make_tags(load, lease, choose)


def delete_tag(catalog: Catalog, identifier: tuple[str, str], name: str, wait_s: float = 60) -> None:
    """Delete a tag if it exists; its snapshot expires with the next maintenance.

    Raises:
        LockBusy: the table's history was being changed for ``wait_s``.
    """
    with lock(catalog, f"history:{identifier[1]}", wait_s) as lease:
        remove_tag(lambda: catalog.load_table(identifier), lease, name)


def remove_tag(load: Callable[[], Table], lease: Lease, name: str) -> None:
    """Delete a tag, if it exists, under the lock that the caller holds."""

    def choose(table: Table) -> Expiry:
        existing = table.metadata.refs.get(name)
        is_tag = existing is not None and existing.snapshot_ref_type == SnapshotRefType.TAG
        return ([name] if is_tag else [], [])

    expire(load, lease, choose, lambda _: None)


class _Untagged(ValidatableTableRequirement):
    """Only the tags that lapse may name the snapshots that go: a tag made meanwhile keeps its snapshot."""

    type: Literal["k2-untagged"] = "k2-untagged"
    snapshot_ids: frozenset[int]
    lapsing: frozenset[str]

    def validate(self, base_metadata: TableMetadata | None) -> None:  # type: ignore[override]  # pydantic's namesake
        refs = base_metadata.refs if base_metadata is not None else {}
        for name, ref in refs.items():
            if name not in self.lapsing and ref.snapshot_id in self.snapshot_ids:
                msg = f"{name} names snapshot {ref.snapshot_id}, which was to expire"
                raise CommitFailedException(msg)


def _committed(table: Table, lease: Lease, point: str, stage: Callable[[Transaction], object]) -> Table | None:
    """Commit once, and return the table; None when the outcome is a conflict or unknown."""
    name = table.name()[-1]
    reach(f"{name}.{point}")
    lease.check()
    try:
        with LakeTransaction(table) as transaction:
            stage(transaction)
    except (CommitFailedException, CommitStateUnknownException):
        return None
    reach(f"{name}.{_DONE[point]}")
    return table
