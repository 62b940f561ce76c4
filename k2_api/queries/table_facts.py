"""What tables say of themselves: their size by their manifests, their snapshots by their metadata. Reads no rows."""

from typing import Any, Final

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot

from k2_api.lake.file_index import snapshot_files
from k2_api.lake.snapshot_choice import committed_at
from k2_api.lake.table_versions import TableVersion
from k2_core.clock import from_us, iso
from k2_core.lake.manifests import END_US
from k2_core.lake.whole_commits import whole_commits

Facts = dict[str, Any]
_COUNTS: Final = {name: pa.int64() for name in ("rows", "bytes", "files")}
STATS: Final = pa.schema(
    {
        "table": pa.string(),
        **_COUNTS,
        "newest_at": pa.string(),
        "snapshots": pa.int64(),
        "committed_at": pa.string(),
    }
)
SNAPSHOTS: Final = pa.schema(
    {
        "snapshot_id": pa.string(),
        "tags": pa.list_(pa.string()),
        "committed_at": pa.string(),
        "operation": pa.string(),
        "rows": pa.int64(),
        "rows_added": pa.int64(),
        "files_added": pa.int64(),
    }
)
"""The columns of the two answers; times are text."""


def files_facts(version: TableVersion, time_column: str) -> Facts:
    """Return the rows, bytes and files of a table's current snapshot, and its newest time by the bounds of its files.

    Raises:
        FilesGone: its manifests were removed.
    """
    snapshot = version.snapshot
    if version.table is None or snapshot is None:
        return {"rows": 0, "bytes": 0, "files": 0, "newest_at": None}
    files = snapshot_files(version.table, snapshot, time_column).files
    newest_us = max((each.last_us for each in files if each.last_us != END_US), default=None)
    return {
        "rows": sum(each.rows for each in files),
        "bytes": sum(each.size_bytes for each in files),
        "files": len(files),
        "newest_at": None if newest_us is None else iso(from_us(newest_us)),
    }


def snapshot_count(version: TableVersion) -> int:
    """Return how many states of a table ``as_of`` can name."""
    return len(whole_commits(version.table.metadata)) if version.table is not None else 0


def newest_snapshots(version: TableVersion, limit: int) -> list[Facts]:
    """Return the newest states of a table, newest first, with what each commit added."""
    if version.table is None:
        return []
    tags = _tags(version.table)
    return [
        {
            "snapshot_id": str(each.snapshot_id),
            "tags": tags.get(each.snapshot_id, []),
            "committed_at": committed_at(each),
            "operation": each.summary.operation.value if each.summary is not None else None,
            "rows": _count(each, "total-records"),
            "rows_added": _count(each, "added-records"),
            "files_added": _count(each, "added-data-files"),
        }
        for each in reversed(whole_commits(version.table.metadata)[-limit:])
    ]


def _tags(table: Table) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for name, ref in sorted(table.metadata.refs.items()):
        if ref.snapshot_ref_type == SnapshotRefType.TAG:
            found.setdefault(ref.snapshot_id, []).append(name)
    return found


def _count(snapshot: Snapshot, name: str) -> int:
    return int(snapshot.summary.additional_properties.get(name, 0)) if snapshot.summary is not None else 0
