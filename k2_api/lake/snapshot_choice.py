"""Which snapshot a question means: the newest, or the one that ``as_of`` names. Pure; nothing is read here."""

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot

from k2_api.api_errors import NoLongerKept, UnknownSnapshot
from k2_api.timestamps import parse_moment
from k2_core.clock import from_us, iso, to_us
from k2_core.lake.whole_commits import first_halves, whole_commits


def resolve(metadata: TableMetadata, as_of: str | None) -> Snapshot | None:
    """Return the snapshot that ``as_of`` (a tag, a snapshot id or a time) means; None for a table without any.

    Raises:
        UnknownSnapshot: no such tag or id.
        NoLongerKept: the time lies before the first snapshot that is kept.
    """
    if as_of is None:
        return metadata.current_snapshot()
    ref = metadata.refs.get(as_of)
    if ref is not None and ref.snapshot_ref_type == SnapshotRefType.TAG:
        return metadata.snapshot_by_id(ref.snapshot_id)
    if as_of.isdecimal():
        snapshot = metadata.snapshot_by_id(int(as_of))
        # The first half of a commit was never a state of the table, though its metadata lists it.
        if snapshot is None or snapshot.snapshot_id in first_halves(metadata.snapshots):
            raise UnknownSnapshot(f"this table has no snapshot {int(as_of)}; it may have expired")
        return snapshot
    try:
        moment = parse_moment(as_of)
    except ValueError:
        raise UnknownSnapshot(f"as_of {as_of!r} is neither a tag of this table, a snapshot id, nor a time") from None
    # The newest that is kept and not later.
    commits = whole_commits(metadata)
    fitting = [snapshot for snapshot in commits if snapshot.timestamp_ms <= to_us(moment) // 1000]
    if commits and not fitting:
        raise no_longer_kept(metadata)
    return fitting[-1] if fitting else None


def closest(metadata: TableMetadata, moment_ms: int) -> Snapshot | None:
    """Return the newest kept snapshot not later than ``moment_ms``, or the earliest one; None if there is none."""
    commits = whole_commits(metadata)
    fitting = [snapshot for snapshot in commits if snapshot.timestamp_ms <= moment_ms]
    if fitting:
        return fitting[-1]
    return commits[0] if commits else None


def kept(metadata: TableMetadata, snapshot_id: int) -> Snapshot:
    """Return a snapshot that was there when a cursor was made.

    Raises:
        NoLongerKept: it has expired since.
    """
    snapshot = metadata.snapshot_by_id(snapshot_id)
    if snapshot is None:
        raise no_longer_kept(metadata)
    return snapshot


def no_longer_kept(metadata: TableMetadata) -> NoLongerKept:
    """Return the error that names the earliest state that can still be had."""
    commits = whole_commits(metadata)
    if not commits:
        return NoLongerKept("this state of the table is no longer kept", {"earliest": None})
    earliest = {"snapshot_id": str(commits[0].snapshot_id), "as_of": committed_at(commits[0])}
    message = f"this state of the table is no longer kept; the earliest that can be had is of {earliest['as_of']}"
    return NoLongerKept(message, {"earliest": earliest})


def committed_at(snapshot: Snapshot) -> str:
    """Return when the snapshot was committed, as RFC 3339."""
    return iso(from_us(snapshot.timestamp_ms * 1000))
