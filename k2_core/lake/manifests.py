"""The one reader of manifest lists and manifests: which files a snapshot consists of, and their bounds.

It reads no data file, and importing it does not import pyiceberg's tables: `k2 status` has no two seconds for that.
"""

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

from k2_core.lake.avro_records import records

if TYPE_CHECKING:
    from pyiceberg.io import FileIO

BEGINNING_US: Final = -(2**63)
END_US: Final = 2**63 - 1
_EPOCH: Final = date(1970, 1, 1)
_DELETED: Final = 2  # status of an entry
_DELETES: Final = 1  # content of a manifest
_MOST_ENTRIES: Final = 100_000  # of about 700 bytes each

PartitionUnit = Literal["day", "month"]
Read = Callable[[str], bytes]
"""Returns the bytes of the file at a location; raises FileNotFoundError."""


class Manifest(msgspec.Struct, frozen=True, gc=False):
    """One manifest as its list names it. ``strikes_out``: its live files are delete files."""

    path: str
    spec_id: int
    sequence: int
    strikes_out: bool
    lower: bytes | None
    upper: bytes | None

    def days(self, unit: PartitionUnit) -> tuple[date, date]:
        """Return the first days of its first and of its last partition; all days when unknown."""
        if self.lower is None or self.upper is None:
            return date.min, date.max
        return _first_day(_number(self.lower), unit), _first_day(_number(self.upper), unit)


class LakeFile(msgspec.Struct, frozen=True, gc=False):
    """One live file of rows.

    ``sequence`` is its age: the data sequence number, which survives the expiry of snapshots. ``first_us`` and
    ``last_us`` bound the time column, in µs since 1970; without bounds they are as wide as can be. Bounds of texts may
    be cut short by Iceberg and still enclose every value; None is unknown. ``day`` is the first day of its
    partition (none: the first day there is), of which ``partition`` holds what Iceberg does.
    """

    path: str
    rows: int
    size_bytes: int
    sequence: int
    day: date
    first_us: int = BEGINNING_US
    last_us: int = END_US
    symbols: tuple[str, str] | None = None
    exchanges: tuple[str, str] | None = None
    partition: tuple[Any, ...] = ()
    spec_id: int = 0
    format: str = "PARQUET"


class Bounded(NamedTuple):
    """The ids of the columns whose bounds are to be read of each file, and what its partition is."""

    time: int | None = None
    symbol: int | None = None
    exchange: int | None = None
    unit: PartitionUnit = "day"


class Manifests:
    """What was read of manifest lists and manifests, the latest used ones: neither changes once written."""

    def __init__(self) -> None:
        self._read: OrderedDict[tuple[str, Bounded | None], tuple[Any, ...]] = OrderedDict()
        self._count = 0
        self._lock = Lock()

    def listed(self, manifest_list: str, read: Read) -> tuple[Manifest, ...]:
        """Return the manifests that a list names."""
        return self._remembered((manifest_list, None), lambda: tuple(_listed(read(manifest_list))))

    def files(self, manifest: Manifest, read: Read, bounded: Bounded = Bounded()) -> tuple[LakeFile, ...]:  # noqa: B008  # a tuple
        """Return the live files that a manifest names, delete files too if it is one of these."""
        return self._remembered((manifest.path, bounded), lambda: tuple(_files(manifest, read, bounded)))

    def _remembered(self, key: tuple[str, Bounded | None], read: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        with self._lock:
            if key in self._read:
                self._read.move_to_end(key)
                return self._read[key]
        # Read without the lock, which other threads would wait for: two may then read the same, and count it once.
        found = read()
        with self._lock:
            self._count += len(found) - len(self._read.get(key, ()))
            self._read[key] = found
            while self._count > _MOST_ENTRIES and len(self._read) > 1:
                self._count -= len(self._read.popitem(last=False)[1])
        return found


MANIFESTS: Final = Manifests()
"""Those of this process."""


def reading(io: "FileIO") -> Read:
    """Return what reads files through pyiceberg."""

    def read(location: str) -> bytes:
        with io.new_input(location).open() as file:
            return file.read()

    return read


def _listed(content: bytes) -> Iterator[Manifest]:
    for each in records(content):
        # Iceberg's format 1 need not give counts; it has no delete files either.
        live = any(each.get(count, 1) for count in ("added_files_count", "existing_files_count"))
        first: dict[str, Any] = next(iter(each["partitions"] or ()), {})
        yield Manifest(
            each["manifest_path"],
            each["partition_spec_id"],
            each.get("sequence_number", 0),
            each.get("content") == _DELETES and live,
            first.get("lower_bound"),
            first.get("upper_bound"),
        )


def _files(manifest: Manifest, read: Read, bounded: Bounded) -> Iterator[LakeFile]:
    for entry in records(read(manifest.path)):
        if entry["status"] == _DELETED:  # by the commit that wrote this manifest
            continue
        file, sequence = entry["data_file"], entry.get("sequence_number")
        # Times are stored as 8 bytes, little end first, texts as UTF-8. Most files of a table share their symbols and
        # exchanges, so that interned texts take no memory of their own.
        times = _bounds(file, bounded.time)
        partition = tuple(file["partition"].values())
        yield LakeFile(
            path=file["file_path"],
            rows=file["record_count"],
            size_bytes=file["file_size_in_bytes"],
            sequence=manifest.sequence if sequence is None else sequence,  # an added file has that of its commit
            day=_first_day(partition[0], bounded.unit) if partition and isinstance(partition[0], int) else date.min,
            first_us=_number(times[0]) if times else BEGINNING_US,
            last_us=_number(times[1]) if times else END_US,
            symbols=_texts(_bounds(file, bounded.symbol)),
            exchanges=_texts(_bounds(file, bounded.exchange)),
            partition=partition,
            spec_id=manifest.spec_id,
            format=sys.intern(file["file_format"].upper()),
        )


def _bounds(file: dict[str, Any], column: int | None) -> tuple[bytes, bytes] | None:
    lower, upper = ((file.get(name) or {}).get(column) for name in ("lower_bounds", "upper_bounds"))
    return None if lower is None or upper is None else (lower, upper)


def _texts(bounds: tuple[bytes, bytes] | None) -> tuple[str, str] | None:
    return (sys.intern(bounds[0].decode()), sys.intern(bounds[1].decode())) if bounds else None


def _number(bound: bytes) -> int:
    return int.from_bytes(bound, "little", signed=True)


def _first_day(number: int, unit: PartitionUnit) -> date:
    # Iceberg numbers days and months from 1970.
    return _EPOCH + timedelta(days=number) if unit == "day" else date(1970 + number // 12, number % 12 + 1, 1)
