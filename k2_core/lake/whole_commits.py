"""Which snapshots of a table are states that a commit ended in. Pure: what is read is a table's metadata."""

from typing import Final

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot

_ONE_TRANSACTION_MS: Final = 60_000
_STEPS: Final = {
    (Operation.DELETE, Operation.OVERWRITE),
    (Operation.DELETE, Operation.APPEND),
    (Operation.OVERWRITE, Operation.APPEND),
}


def whole_commits(metadata: TableMetadata) -> list[Snapshot]:
    """Return the snapshots that a commit ended in, oldest first.

    An overwrite is written as a deletion of whole files, a rewriting of others, and an append, in one commit; the
    states between them were never visible.
    """
    halves = first_halves(metadata.snapshots)
    whole = [snapshot for snapshot in metadata.snapshots if snapshot.snapshot_id not in halves]
    return sorted(whole, key=lambda snapshot: (snapshot.timestamp_ms, snapshot.sequence_number or 0))


def first_halves(snapshots: list[Snapshot]) -> set[int]:
    """Return the ids of the snapshots that another one of the same commit follows."""
    by_id = {snapshot.snapshot_id: snapshot for snapshot in snapshots}
    operations = {each.snapshot_id: each.summary.operation if each.summary is not None else None for each in snapshots}
    halves = set()
    for child in snapshots:
        parent = by_id.get(child.parent_snapshot_id) if child.parent_snapshot_id is not None else None
        if parent is None or (operations[parent.snapshot_id], operations[child.snapshot_id]) not in _STEPS:
            continue
        # Two commits may follow each other in that order as well, but not so soon and with the same id of a commit.
        soon = child.timestamp_ms - parent.timestamp_ms <= _ONE_TRANSACTION_MS
        if soon and _remembered(parent) == _remembered(child):
            halves.add(parent.snapshot_id)
    return halves


def _remembered(snapshot: Snapshot) -> dict[str, str]:
    """Return what the writer put beside a commit, its id among it; both snapshots of one commit carry the same."""
    properties = snapshot.summary.additional_properties if snapshot.summary is not None else {}
    return {name: value for name, value in properties.items() if name.startswith("k2.")}
