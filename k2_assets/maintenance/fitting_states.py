"""Which states of several tables belong together: all as they were at one moment. Pure; times in ms since 1970.

Maintenance removes states in between, so the newest kept state before a moment need not be the one of that moment.
"""

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from k2_assets.maintenance.history_thinning import period_end_ms
from k2_core.clock import from_us, iso
from k2_core.errors import TagRefused
from k2_core.lake.whole_commits import whole_commits


def newest_until_ms(metadata: TableMetadata, state: Snapshot, now_ms: int) -> int:
    """Return until when a state is known to have been the newest one of its table, its own time at least."""
    if metadata.current_snapshot() == state:
        return now_ms
    following = [each.timestamp_ms - 1 for each in _children(metadata, state)]
    return max([state.timestamp_ms, *following[:1], *_period_ends(metadata, state)])


def state_at(table: str, metadata: TableMetadata, moment_ms: int, all_kept_since_ms: int) -> Snapshot | None:
    """Return the state that a table had at a moment; None when it had none yet.

    Args:
        table: its name.
        metadata: of the table.
        moment_ms: the moment.
        all_kept_since_ms: every state that was the newest one since then is kept.

    Raises:
        TagRefused: it is not kept, or nobody can tell whether it is.
    """
    commits = whole_commits(metadata)
    before = [each for each in commits if each.timestamp_ms <= moment_ms]
    # Sequence numbers begin with 1, and an expiry changes none; a parent that expired is forgotten.
    if not before and (not commits or commits[0].sequence_number == 1):
        return None
    found = before[-1] if before else None
    if found is not None and (
        moment_ms >= all_kept_since_ms
        or _children(metadata, found)  # what followed it came later
        or newest_until_ms(metadata, found, moment_ms) >= moment_ms
    ):
        return found
    near = [
        f"{each.snapshot_id} of {moment(each)}" for each in (found, *commits[len(before) :][:1]) if each is not None
    ]
    msg = (
        f"the state that {table} had at {iso(from_us(moment_ms * 1000))} is no longer kept; next to it are kept "
        f"{' and '.join(near)}: choose a moment or an automatic tag of which all tables keep their state "
        "(`k2 tag list --all`), or name the tables one by one with --table"
    )
    raise TagRefused(msg)


def moment(state: Snapshot) -> str:
    """Return when a state was committed, as RFC 3339."""
    return iso(from_us(state.timestamp_ms * 1000))


def _children(metadata: TableMetadata, state: Snapshot) -> list[Snapshot]:
    children = [each for each in metadata.snapshots if each.parent_snapshot_id == state.snapshot_id]
    return sorted(children, key=lambda child: child.timestamp_ms)


def _period_ends(metadata: TableMetadata, state: Snapshot) -> list[int]:
    names = [name for name, ref in metadata.refs.items() if ref.snapshot_id == state.snapshot_id]
    return [end_ms for name in names if (end_ms := period_end_ms(name)) is not None]
