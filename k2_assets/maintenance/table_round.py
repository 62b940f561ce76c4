"""One round of maintenance of one table: join small files, tag and thin its history, remove unnamed files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType

from k2_assets.lake.source_files import live_files
from k2_assets.lake.table_history import Expiry, expire, make_tags
from k2_assets.lake.table_lock import lock
from k2_assets.maintenance.compaction import Limits, compact
from k2_assets.maintenance.file_removal import remove_due, remove_orphans
from k2_assets.maintenance.history_thinning import Commit, History, Keep, Plan, plan
from k2_assets.maintenance.removal_ledger import Ledger
from k2_core import clock
from k2_core.errors import CommitConflict, LockBusy, LockLost
from k2_core.lake.removed_days import RemovedDays
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.whole_commits import whole_commits
from k2_core.leases import Lease
from k2_core.settings import Maintenance

_WAIT_S: Final = 5.0
_MS_PER_S: Final = 1000
_JOINED_BYTES: Final = 128 * 1024 * 1024  # in memory


@dataclass
class Report:
    """What a round has done to a table. ``put_off`` holds why a part of it was left to the next round."""

    table: str
    snapshots_before: int = 0
    snapshots_after: int = 0
    tags_made: list[str] = field(default_factory=list)
    tags_lapsed: list[str] = field(default_factory=list)
    files_joined: int = 0
    files_made: int = 0
    rows_moved: int = 0
    files_removed: int = 0
    orphans_removed: int = 0
    put_off: list[str] = field(default_factory=list)


class TableRound:
    """What is due for one table now.

    Args:
        catalog: holds the table and the locks.
        namespace: of the table.
        spec: the table's own.
        settings: how much stays, and for how long.
    """

    def __init__(self, catalog: Catalog, namespace: str, spec: TableSpec, settings: Maintenance) -> None:
        self._catalog = catalog
        self._identifier = namespace, spec.name
        self._spec = spec
        self._is_gold = spec.name.startswith("gold_")
        self._settings = settings
        self.on_step: Callable[[str], None] = lambda _: None  # is called with each step, in a few words
        self.report = Report(spec.name)

    def run(self) -> Report:
        """Do it; a part is put off when another holds its lock, or when other writers were first."""
        for lock_name, work in (("files", self._join_files), ("history", self._thin)):
            try:
                with lock(self._catalog, f"{lock_name}:{self._spec.name}", _WAIT_S) as lease:
                    work(lease)
            except (LockBusy, LockLost, CommitConflict) as reason:
                self.report.put_off.append(str(reason))
        return self.report

    def _load(self) -> Table:
        return self._catalog.load_table(self._identifier)

    def _join_files(self, lease: Lease) -> None:
        settings, report = self._settings, self.report
        young_s = settings.compact_gold_after_s if self._is_gold else settings.compact_after_s
        limits = Limits(
            settings.compact_files,
            settings.target_mb * 1024 * 1024,
            settings.target_rows,
            _JOINED_BYTES,
            int(young_s * _MS_PER_S),
            int(settings.closed_after_s * _MS_PER_S),
        )
        for each in compact(self._load, lease, self._spec, limits, clock.now_ns() // clock.NS_PER_MS):
            report.files_joined += each.files
            report.files_made += each.into
            report.rows_moved += each.rows
            self.on_step(f"{report.files_joined} files joined into {report.files_made}")

    def _thin(self, lease: Lease) -> None:
        def tags(table: Table) -> Mapping[str, int]:
            wanted = self._plan(table).create
            self.report.tags_made = sorted(wanted)
            return wanted

        def expiring(table: Table) -> Expiry:
            wanted = self._plan(table)
            self.report.tags_lapsed = sorted(wanted.lapse)
            return wanted.lapse, wanted.expire

        # What is to go is noted before it expires, so that a crash between the two forgets no file.
        self.on_step("thinning its history")
        metadata = make_tags(self._load, lease, tags).metadata
        self.report.snapshots_before = self.report.snapshots_after = len(metadata.snapshots)
        ledger = Ledger(self._catalog, str(metadata.table_uuid))
        due_ns = clock.now_ns() + int(self._settings.remove_after_s * clock.NS_PER_SECOND)
        table = expire(self._load, lease, expiring, lambda snapshots: ledger.note(snapshots, due_ns))
        self.report.snapshots_after = len(table.metadata.snapshots)
        self.on_step("removing files")
        self.report.files_removed = remove_due(self._load, lease, ledger, clock.now_ns())
        now_ns = clock.now_ns()
        if now_ns - ledger.swept_ns() >= int(self._settings.orphan_every_s * clock.NS_PER_SECOND):
            older_than_ns = now_ns - int(self._settings.orphan_after_s * clock.NS_PER_SECOND)
            self.report.orphans_removed = remove_orphans(self._load, lease, ledger, older_than_ns)
            ledger.note_sweep(now_ns)

    def _plan(self, table: Table) -> Plan:
        settings, metadata = self._settings, table.metadata
        settle_ms = int(settings.settle_s * _MS_PER_S)
        keep = Keep(keep_all_ms(self._spec.name, settings), settings.hourly_tags, settings.daily_tags, settle_ms)
        tags = {n: r.snapshot_id for n, r in metadata.refs.items() if r.snapshot_ref_type == SnapshotRefType.TAG}
        heads = {r.snapshot_id for n, r in metadata.refs.items() if n == MAIN_BRANCH or n not in tags}
        current = metadata.current_snapshot()
        history = History(
            [Commit(each.snapshot_id, each.timestamp_ms) for each in whole_commits(metadata)],
            frozenset(each.snapshot_id for each in metadata.snapshots),
            tags,
            frozenset(heads | ({current.snapshot_id} if current else set())),
            _outdated(table, self._spec),
        )
        return plan(history, keep, clock.now_ns() // clock.NS_PER_MS)


def keep_all_ms(table: str, settings: Maintenance) -> int:
    """Return for how many milliseconds every state of a table stays."""
    all_s = settings.gold_keep_s if table.startswith("gold_") else settings.drained_keep_s
    return int(all_s * _MS_PER_S)


def _outdated(table: Table, spec: TableSpec) -> frozenset[int]:
    """Return the snapshots that name files of days which retention has removed since."""
    removed = RemovedDays.of(table.properties)
    return frozenset(
        each.snapshot_id
        for each in table.metadata.snapshots
        if removed
        and (each.sequence_number or 0) <= removed.sequence
        and any(file.day in removed for file in live_files(table, spec.partition_by, snapshot_id=each.snapshot_id))
    )
