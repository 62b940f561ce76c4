"""Which data files a snapshot consists of, and what their manifests say of their bounds. No data file is read here."""

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

import msgspec
from pyiceberg.conversions import from_bytes
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, ManifestContent, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import PrimitiveType

from k2_api.api_errors import FilesGone

_SNAPSHOTS_KEPT: Final = 32
_BEGINNING_US: Final = -(2**63)
_END_US: Final = 2**63 - 1


@dataclass(frozen=True)
class Filter:
    """What rows are asked for: a half-open time range in µs since 1970, one symbol, one exchange; None means all."""

    symbol: str | None = None
    exchange: str | None = None
    start_us: int = _BEGINNING_US
    end_us: int = _END_US


class FileEntry(msgspec.Struct, frozen=True, gc=False):
    """One data file. Text bounds may be cut short by Iceberg; they still enclose every value of the file."""

    path: str
    rows: int
    first_us: int
    last_us: int
    symbols: tuple[str, str] | None
    exchanges: tuple[str, str] | None

    def may_hold(self, where: Filter) -> bool:
        """Tell whether a row that is asked for can stand in this file."""
        in_time = self.last_us >= where.start_us and self.first_us < where.end_us
        return in_time and _encloses(self.symbols, where.symbol) and _encloses(self.exchanges, where.exchange)


@dataclass(frozen=True)
class SnapshotFiles:
    """The data files of one snapshot; ``has_deletes`` when rows of them are struck out elsewhere."""

    entries: tuple[FileEntry, ...]
    has_deletes: bool


class FileIndex:
    """The files of one table's snapshots. A manifest never changes, so each is read once."""

    def __init__(self, time_column: str) -> None:
        self._time_column = time_column
        self._manifests: dict[str, tuple[FileEntry, ...]] = {}
        self._snapshots: OrderedDict[int, tuple[SnapshotFiles, frozenset[str]]] = OrderedDict()
        self._lock = Lock()

    def files(self, snapshot: Snapshot, schema: Schema, io: FileIO) -> SnapshotFiles:
        """Return the files of ``snapshot``.

        Raises:
            FilesGone: its manifests were removed after it expired.
        """
        with self._lock:
            if snapshot.snapshot_id not in self._snapshots:
                try:
                    self._remember(snapshot, schema, io)
                except FileNotFoundError as error:
                    raise FilesGone("the files of this state of the table were removed; ask again") from error
            self._snapshots.move_to_end(snapshot.snapshot_id)
            return self._snapshots[snapshot.snapshot_id][0]

    def _remember(self, snapshot: Snapshot, schema: Schema, io: FileIO) -> None:
        manifests = snapshot.manifests(io)
        data = [manifest for manifest in manifests if manifest.content == ManifestContent.DATA]
        entries = [entry for manifest in data for entry in self._entries(manifest, schema, io)]
        files = SnapshotFiles(tuple(entries), has_deletes=any(_strikes_out(manifest) for manifest in manifests))
        self._snapshots[snapshot.snapshot_id] = files, frozenset(manifest.manifest_path for manifest in data)
        if len(self._snapshots) > _SNAPSHOTS_KEPT:
            self._forget_oldest()

    def _entries(self, manifest: ManifestFile, schema: Schema, io: FileIO) -> tuple[FileEntry, ...]:
        known = self._manifests.get(manifest.manifest_path)
        if known is None:
            live = manifest.fetch_manifest_entry(io)
            known = tuple(self._entry(entry.data_file, schema) for entry in live if _is_data(entry.data_file))
            self._manifests[manifest.manifest_path] = known
        return known

    def _forget_oldest(self) -> None:
        self._snapshots.popitem(last=False)
        used = frozenset().union(*(paths for _, paths in self._snapshots.values()))
        self._manifests = {path: entries for path, entries in self._manifests.items() if path in used}

    def _entry(self, file: DataFile, schema: Schema) -> FileEntry:
        times = _bounds(file, schema, self._time_column)
        return FileEntry(
            path=file.file_path,
            rows=file.record_count,
            first_us=times[0] if times else _BEGINNING_US,
            last_us=times[1] if times else _END_US,
            symbols=_bounds(file, schema, "symbol"),
            exchanges=_bounds(file, schema, "exchange"),
        )


def _is_data(file: DataFile) -> bool:
    return file.content == DataFileContent.DATA


def _strikes_out(manifest: ManifestFile) -> bool:
    live = (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
    return manifest.content == ManifestContent.DELETES and live > 0


def _encloses(bounds: tuple[str, str] | None, value: str | None) -> bool:
    return bounds is None or value is None or bounds[0] <= value <= bounds[1]


def _bounds(file: DataFile, schema: Schema, column: str) -> tuple[Any, Any] | None:
    field = schema.find_field(column)
    lower, upper = (each.get(field.field_id) for each in (file.lower_bounds or {}, file.upper_bounds or {}))
    if lower is None or upper is None or not isinstance(field.field_type, PrimitiveType):
        return None
    return from_bytes(field.field_type, lower), from_bytes(field.field_type, upper)
