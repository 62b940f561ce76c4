"""What a derived table's run reads: data files of a table by day and by age, and what was seen of them before.

A file's age is its Iceberg data sequence number: it survives the expiry of snapshots.
"""

import json
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import polars as pl
import pyarrow as pa
from pyiceberg.conversions import from_bytes
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.manifest import DataFile, DataFileContent, ManifestEntry, ManifestFile
from pyiceberg.table import FileScanTask, Table
from pyiceberg.types import DateType, NestedField

from k2_core.errors import ForeignTable
from k2_core.lake.source_memory import SEEN, newest_days, oldest_remembered, seen_days

ALL_ROWS: Final = AlwaysTrue()
_EPOCH: Final = date(1970, 1, 1)
_NEWEST_COMMITS: Final = 10
_MOST_ENTRIES: Final = 10_000  # of 6 kB each in a table of quotes


@dataclass(frozen=True)
class LakeFile:
    """One live data file: its day, its age, and the bounds of the table's time column in µs."""

    file: DataFile
    day: date
    sequence: int
    first_us: int
    last_us: int


class _Manifests:
    """The entries of the manifests that this process used last, by path: a manifest never changes once written."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, list[ManifestEntry]] = OrderedDict()
        self._count = 0
        self._lock = threading.Lock()

    def entries(self, table: Table, manifests: Iterable[ManifestFile]) -> Iterator[ManifestEntry]:
        """Yield the live entries of ``manifests``."""
        for manifest in manifests:
            with self._lock:
                known = self._entries.get(manifest.manifest_path)
                if known is not None:
                    self._entries.move_to_end(manifest.manifest_path)
            yield from self._keep(manifest.manifest_path, _read(table, manifest)) if known is None else known

    def _keep(self, path: str, entries: list[ManifestEntry]) -> list[ManifestEntry]:
        with self._lock:
            self._count += len(entries) - len(self._entries.get(path, ()))
            self._entries[path] = entries
            while self._count > _MOST_ENTRIES and len(self._entries) > 1:
                self._count -= len(self._entries.popitem(last=False)[1])
        return entries


_manifests: Final = _Manifests()


def live_files(table: Table, time_column: str, *, day: date | None = None) -> list[LakeFile]:
    """Return every live data file of the table's current snapshot, or those of one day.

    Args:
        table: partitioned by the day of ``time_column``.
        time_column: its name.
        day: reads only the manifests that may hold files of it.
    """
    snapshot = table.current_snapshot()
    if snapshot is None:
        return []
    manifests = [each for each in snapshot.manifests(table.io) if day is None or _may_hold(table, each, day)]
    field = table.schema().find_field(time_column)
    return [
        _lake_file(entry, field)
        for entry in _manifests.entries(table, manifests)
        if entry.data_file.record_count > 0 and (day is None or _day_of(entry) == day)
    ]


def paths_between(table: Table, time_column: str, first_us: int, end_us: int) -> set[str]:
    """Return the paths of the live data files that may hold rows of the times [``first_us``, ``end_us``)."""
    files = live_files(table, time_column)
    return {each.file.file_path for each in files if each.last_us >= first_us and each.first_us < end_us}


def rows_by_day(table: Table, before: date) -> Counter[date]:
    """Count the rows of each day before ``before``; only the manifests that may name files of such a day are read."""
    snapshot = table.current_snapshot()
    manifests = snapshot.manifests(table.io) if snapshot else []
    older = [each for each in manifests if _days_of(table, each)[0] < before]
    rows: Counter[date] = Counter()
    for entry in _manifests.entries(table, older):
        rows[_day_of(entry)] += entry.data_file.record_count
    return Counter({day: count for day, count in rows.items() if day < before})


def read_files(
    table: Table, files: Iterable[LakeFile], columns: tuple[str, ...], where: BooleanExpression = ALL_ROWS
) -> pl.DataFrame:
    """Read some columns of some files: the rows that ``where`` asks for."""
    tasks = [FileScanTask(data_file=each.file) for each in files]
    scan = ArrowScan(table.metadata, table.io, table.schema().select(*columns), where)
    rows: pa.Table = scan.to_table(tasks)
    frame = pl.from_arrow(rows.select(list(columns)))
    assert isinstance(frame, pl.DataFrame)  # noqa: S101  # a table, not a column
    return frame


def oldest_batch(files: list[LakeFile], most_rows: int) -> list[LakeFile]:
    """Return the oldest files that hold about ``most_rows`` rows, never parting those of one commit."""
    batch: list[LakeFile] = []
    rows = 0
    for each in sorted(files, key=lambda file: file.sequence):
        if rows >= most_rows and each.sequence != batch[-1].sequence:
            break
        batch.append(each)
        rows += each.file.record_count
    return batch


def newest_and_beside(files: list[LakeFile], commits: int = _NEWEST_COMMITS) -> list[LakeFile]:
    """Return the files of the newest ``commits`` sequence numbers, and all that overlap them in time."""
    newest = max((each.sequence for each in files), default=0)
    recent = [each for each in files if each.sequence > newest - commits]
    first, last = min((r.first_us for r in recent), default=0), max((r.last_us for r in recent), default=0)
    return [each for each in files if each.last_us >= first and each.first_us <= last]


class Seen:
    """Which files of its sources a derived table has taken in: {source table's UUID: {day: sequence number}}."""

    def __init__(self, days: Mapping[str, Mapping[str, int]]) -> None:
        self._days = {uuid: dict(of) for uuid, of in days.items()}

    @classmethod
    def of(cls, derived: Table) -> "Seen":
        """Read what ``derived`` remembers."""
        return cls(seen_days(derived.properties))

    def newer(self, source: Table, files: list[LakeFile]) -> list[LakeFile]:
        """Return the files that came after what is remembered of their day."""
        days = self._days.get(str(source.metadata.table_uuid), {})
        return [each for each in files if each.sequence > days.get(each.day.isoformat(), 0)]

    def behind(self, source: Table, files: list[LakeFile]) -> set[date]:
        """Return the days of :meth:`newer` files, without those that a full memory is too short for."""
        days = self._days.get(str(source.metadata.table_uuid), {})
        oldest = oldest_remembered(days)
        return {each.day for each in self.newer(source, files) if each.day.isoformat() >= oldest}

    def of_day(self, day: date) -> dict[str, int]:
        """Return what was taken in of a day: {source table's UUID: sequence number}."""
        return {uuid: days[day.isoformat()] for uuid, days in self._days.items() if day.isoformat() in days}

    def newest_day(self) -> date | None:
        """Return the newest day of which anything was taken in."""
        days = [day for of in self._days.values() for day in of]
        return date.fromisoformat(max(days)) if days else None

    def with_files(self, source: Table, files: list[LakeFile]) -> "Seen":
        """Return this memory with ``files`` of ``source`` taken in; the newest 400 days are kept."""
        if not files:
            return self
        days = dict(self._days.get(str(source.metadata.table_uuid), {}))
        for each in files:
            day = each.day.isoformat()
            days[day] = max(days.get(day, 0), each.sequence)
        return Seen({**self._days, str(source.metadata.table_uuid): newest_days(days)})

    def to_properties(self) -> dict[str, str]:
        """Return the property that carries this memory."""
        return {SEEN: json.dumps(self._days, separators=(",", ":"), sort_keys=True)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seen) and self._days == other._days

    __hash__ = None  # type: ignore[assignment]  # a memory is compared, never a key


def _lake_file(entry: ManifestEntry, time: NestedField) -> LakeFile:
    file = entry.data_file
    return LakeFile(
        file,
        _day_of(entry),
        entry.sequence_number or 0,
        int(from_bytes(time.field_type, file.lower_bounds[time.field_id])),  # type: ignore[arg-type]
        int(from_bytes(time.field_type, file.upper_bounds[time.field_id])),  # type: ignore[arg-type]
    )


def _day_of(entry: ManifestEntry) -> date:
    return _EPOCH + timedelta(days=entry.data_file.partition[0])


def _may_hold(table: Table, manifest: ManifestFile, day: date) -> bool:
    first, last = _days_of(table, manifest)
    return first <= day <= last


def _days_of(table: Table, manifest: ManifestFile) -> tuple[date, date]:
    """Return the first and the last day of a manifest's files, by the bounds that the manifest list gives of it."""
    if manifest.partitions and manifest.partition_spec_id == table.spec().spec_id:
        lower, upper = manifest.partitions[0].lower_bound, manifest.partitions[0].upper_bound
        if lower is not None and upper is not None:
            first, last = (timedelta(days=int(from_bytes(DateType(), bound))) for bound in (lower, upper))
            return _EPOCH + first, _EPOCH + last
    return date.min, date.max


def _read(table: Table, manifest: ManifestFile) -> list[ManifestEntry]:
    entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    if any(entry.data_file.content != DataFileContent.DATA for entry in entries):
        msg = f"{table.name()[-1]} has delete files, which K2 never writes: compact it with the engine that wrote them"
        raise ForeignTable(msg)
    return entries
