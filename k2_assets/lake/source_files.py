"""What a derived table's run reads: data files of a table by day and by age, and what was seen of them before.

A file's age is its Iceberg data sequence number: it survives the expiry of snapshots.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from functools import reduce
from typing import Final

import polars as pl
import pyarrow as pa
from pyiceberg.expressions import BooleanExpression, Or
from pyiceberg.table import Table
from pyiceberg.transforms import MonthTransform

from k2_assets.lake.row_filters import instrument_times, time_between
from k2_core.errors import ForeignTable
from k2_core.lake.manifests import MANIFESTS, Bounded, LakeFile, Manifest, PartitionUnit, Read, reading
from k2_core.lake.planned_read import ALL_ROWS, read_rows
from k2_core.lake.source_memory import SEEN, newest_days, oldest_remembered, seen_days

_NEWEST_COMMITS: Final = 10
_NAMED: Final = 16  # instruments that a filter names; of more, all rows are read


def live_files(
    table: Table, time_column: str, *, day: date | None = None, markets: bool = False, snapshot_id: int | None = None
) -> list[LakeFile]:
    """Return every live data file of a snapshot, or those of the partition that holds a day.

    Args:
        table: partitioned by the day, or the month, of a time.
        time_column: whose bounds are read, mostly the one that partitions the table.
        day: reads only the manifests that may hold files of it.
        markets: whether the bounds of symbols and exchanges are read as well.
        snapshot_id: None is the current one.
    """
    read, column = reading(table.io), table.schema().find_field(time_column).field_id
    ids = {field.name: field.field_id for field in table.schema().fields}
    of_markets = (ids.get("symbol"), ids.get("exchange")) if markets else (None, None)
    found: list[LakeFile] = []
    for manifest, unit, days in _manifests(table, read, snapshot_id):
        first = day.replace(day=1) if day is not None and unit == "month" else day
        if first is None or days[0] <= first <= days[1]:
            files = _files(table, manifest, read, Bounded(column, *of_markets, unit=unit))
            found += [each for each in files if each.rows and (first is None or each.day == first)]
    return found


def paths_between(table: Table, time_column: str, first_us: int, end_us: int) -> set[str]:
    """Return the paths of the live data files that may hold rows of the times [``first_us``, ``end_us``)."""
    files = live_files(table, time_column)
    return {each.path for each in files if each.last_us >= first_us and each.first_us < end_us}


def rows_by_day(table: Table, before: date) -> Counter[date]:
    """Count the rows of each day before ``before``; only the manifests that may name files of such a day are read."""
    read = reading(table.io)
    rows: Counter[date] = Counter()
    for manifest, unit, days in _manifests(table, read):
        if days[0] < before:
            for each in _files(table, manifest, read, Bounded(unit=unit)):
                rows[each.day] += each.rows
    return Counter({day: count for day, count in rows.items() if day < before})


def read_files(
    table: Table, files: Iterable[LakeFile], columns: tuple[str, ...], where: BooleanExpression = ALL_ROWS
) -> pl.DataFrame:
    """Read some columns of some files: the rows that ``where`` asks for."""
    return as_frame(read_rows(table, files, columns, where))


def read_instruments(
    table: Table,
    files: Iterable[LakeFile],
    columns: tuple[str, ...],
    keys: list[tuple[str, str]],
    times: tuple[int, int],
    *,
    time_column: str = "timestamp",
) -> pl.DataFrame:
    """Read the rows of some instruments (exchange, symbol) whose time, in µs, lies in [first, end)."""
    first, end = times
    where = time_between(time_column, first, end)
    if len(keys) <= _NAMED:
        where = reduce(Or, [instrument_times(*key, first, end - 1, time_column) for key in keys])
    return of_instruments(read_files(table, files, columns, where), keys)


def of_instruments(rows: pl.DataFrame, keys: list[tuple[str, str]]) -> pl.DataFrame:
    """Return the rows of some instruments."""
    wanted = pl.DataFrame(keys, {"exchange": pl.String, "symbol": pl.String}, orient="row")
    return rows.join(wanted, on=["exchange", "symbol"], how="semi")


def as_frame(rows: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101  # a table, not a column
    return frame


def oldest_batch(files: list[LakeFile], most_rows: int) -> list[LakeFile]:
    """Return the oldest files that hold about ``most_rows`` rows; those of one commit stay together."""
    batch: list[LakeFile] = []
    rows = 0
    for each in sorted(files, key=lambda file: file.sequence):
        if rows >= most_rows and each.sequence != batch[-1].sequence:
            break
        batch.append(each)
        rows += each.rows
    return batch


def newest_times(files: list[LakeFile], commits: int = _NEWEST_COMMITS) -> tuple[int, int]:
    """Return the first and the last µs of the files of the newest ``commits`` sequence numbers; zeros without files."""
    newest = max((each.sequence for each in files), default=0)
    recent = [each for each in files if each.sequence > newest - commits]
    return min((each.first_us for each in recent), default=0), max((each.last_us for each in recent), default=0)


def newest_and_beside(files: list[LakeFile], commits: int = _NEWEST_COMMITS) -> list[LakeFile]:
    """Return the files of the newest ``commits`` sequence numbers, and all that overlap them in time."""
    first, last = newest_times(files, commits)
    return [each for each in files if each.last_us >= first and each.first_us <= last]


class Seen:
    """Which files of its sources a derived table has taken in: {source table's UUID: {day: sequence number}}."""

    def __init__(self, days: Mapping[str, Mapping[str, int]]) -> None:
        self._days = {uuid: dict(of) for uuid, of in days.items()}

    @classmethod
    def of(cls, derived: Table) -> "Seen":
        return cls(seen_days(derived.properties))

    def newer(self, source: Table, files: list[LakeFile]) -> list[LakeFile]:
        """Return the files that came after what is remembered of their day."""
        days = self._days.get(str(source.metadata.table_uuid), {})
        return [each for each in files if each.sequence > days.get(each.day.isoformat(), 0)]

    def behind(self, source: Table, files: list[LakeFile]) -> set[date]:
        """Return the days of :meth:`newer` files."""
        # The memory holds the newest 400 days. An older day that it does not hold may have been forgotten, and would be
        # news for ever: it is left to runs of people.
        days = self._days.get(str(source.metadata.table_uuid), {})
        oldest = oldest_remembered(days)
        return {each.day for each in self.newer(source, files) if each.day.isoformat() >= oldest}

    def of_day(self, day: date) -> dict[str, int]:
        """Return what was taken in of a day: {source table's UUID: sequence number}."""
        return {uuid: days[day.isoformat()] for uuid, days in self._days.items() if day.isoformat() in days}

    def newest_day(self) -> date | None:
        """Return the newest day with files that were taken in."""
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


def _manifests(
    table: Table, read: Read, snapshot_id: int | None = None
) -> Iterator[tuple[Manifest, PartitionUnit, tuple[date, date]]]:
    """Yield a snapshot's manifests, each with the unit and the first days of its partitions.

    These are all days for files that were partitioned otherwise.
    """
    snapshot = table.current_snapshot() if snapshot_id is None else table.snapshot_by_id(snapshot_id)
    specs, spec_id = table.specs(), table.spec().spec_id
    for manifest in MANIFESTS.listed(snapshot.manifest_list, read) if snapshot else ():
        fields = specs[manifest.spec_id].fields  # of the time when the files were written
        by_month = any(isinstance(each.transform, MonthTransform) for each in fields)
        unit: PartitionUnit = "month" if by_month else "day"
        yield manifest, unit, manifest.days(unit) if manifest.spec_id == spec_id else (date.min, date.max)


def _files(table: Table, manifest: Manifest, read: Read, bounded: Bounded) -> tuple[LakeFile, ...]:
    """Return the live files that a manifest names.

    Raises:
        ForeignTable: they are delete files.
    """
    if manifest.strikes_out:
        msg = f"{table.name()[-1]} has delete files, which K2 never writes: compact it with the engine that wrote them"
        raise ForeignTable(msg)
    return MANIFESTS.files(manifest, read, bounded)
