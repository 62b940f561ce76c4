"""Remove the files of expired snapshots, and those that no snapshot ever named.

Callers hold the lock ``history:<table>``, so that no other maintenance makes files live again. Writers name new files
only, or those of the current snapshot, which is kept. So what is not named once all snapshots were read stays unnamed.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from pyarrow.fs import FileInfo, FileSelector, FileType
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table

from k2_assets.maintenance.named_files import Files, NamedFiles
from k2_assets.maintenance.removal_ledger import Ledger
from k2_core.crash_points import reach
from k2_core.errors import ForeignTable
from k2_core.leases import Lease

_AT_ONCE: Final = 16
_THREADS: Final = 4


def remove_due(load: Callable[[], Table], lease: Lease, ledger: Ledger, now_ns: int) -> int:
    """Remove the files that only due snapshots named; return how many were removed.

    A snapshot that has expired is due after a while: its readers may not have ended before.
    """
    table = load()
    existing = {snapshot.snapshot_id for snapshot in table.metadata.snapshots}
    noted = ledger.expired()
    ledger.forget([each.snapshot_id for each in noted if each.snapshot_id in existing])  # their expiry never happened
    expired = [each for each in noted if each.snapshot_id not in existing]
    due = [each for each in expired if each.due_ns <= now_ns]
    if not due:
        return 0
    # Files that a kept snapshot names, or an expired one that is not due yet, stay.
    files = NamedFiles(table)
    waiting = files.gone(each.manifest_list for each in expired if each.due_ns > now_ns)
    needed = files.kept | waiting
    gone = {path: each for path, each in files.gone(e.manifest_list for e in due).items() if path not in needed}
    data = files.without_named(files.data_files(gone.values()), needed.values())
    kept_lists = files.metadata_files()
    lists = {files.plain(e.manifest_list): e.manifest_list for e in due}
    # Data files, then manifests, then manifest lists, then the notes: what is needed to find a file goes after it, so
    # that the next round finds what an interrupted one left.
    removed = sum(
        _remove(table, lease, some)
        for some in (
            data,
            {files.plain(path): path for path in gone},
            {path: location for path, location in lists.items() if path not in kept_lists},
        )
    )
    ledger.forget([each.snapshot_id for each in due])
    return removed


def remove_orphans(load: Callable[[], Table], lease: Lease, ledger: Ledger, older_than_ns: int) -> int:
    """Remove old files under the table's folder that nothing names; return how many were removed.

    These are data files of writers that died before their commit, and metadata that other versions replaced.

    Raises:
        ForeignTable: not one file that the table names is among those of its folder: it is not this table's.
    """
    listed = list_files(load())
    table = load()  # after the listing: a file that was committed meanwhile is known now
    old = {info.path: info.path for info in listed if info.mtime_ns < older_than_ns}
    if not old:
        return 0
    files = NamedFiles(table)
    expired = files.gone(each.manifest_list for each in ledger.expired())
    needed = files.kept | expired
    named = files.metadata_files() | {files.plain(each.manifest_list): "" for each in ledger.expired()}
    named |= {files.plain(path): path for path in needed}
    if table.metadata.snapshots and not named.keys() & {info.path for info in listed}:
        msg = f"none of the files that {table.name()[-1]} names is in {table.location()}: nothing is removed there"
        raise ForeignTable(msg)
    unnamed = {path: location for path, location in old.items() if path not in named}
    orphans = files.without_named(unnamed, needed.values())
    scheme = table.location().removesuffix(files.plain(table.location()))
    return _remove(table, lease, {path: f"{scheme}{path}" for path in orphans})


def list_files(table: Table) -> list[FileInfo]:
    """Return every file under a table's folder, with its size and time of modification."""
    assert isinstance(table.io, PyArrowFileIO)  # noqa: S101  # what open_catalog's tables are read through
    scheme, netloc, path = table.io.parse_location(table.location(), table.io.properties)
    infos = table.io.fs_by_scheme(scheme, netloc).get_file_info(FileSelector(path, recursive=True))
    return [info for info in infos if info.type == FileType.File]


def _remove(table: Table, lease: Lease, files: Files) -> int:
    def is_removed(location: str) -> bool:
        try:
            table.io.delete(location)
        except FileNotFoundError:
            return False
        return True

    locations, removed = list(files.values()), 0
    with ThreadPoolExecutor(_THREADS) as threads:
        for first in range(0, len(locations), _AT_ONCE):
            reach(f"{table.name()[-1]}.remove")
            lease.check()
            removed += sum(threads.map(is_removed, locations[first : first + _AT_ONCE]))
    return removed
