"""What the lake's tables say of themselves in their metadata, read as files: pyiceberg takes two seconds to import.

It is loaded only for a catalog or a warehouse of the user's own, which a file cannot be opened of. Nothing here writes.
"""

import io
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlparse

import fastavro
import msgspec

from k2_core.lake.source_memory import REPLACING
from k2_core.offsets import Offsets
from k2_core.settings import Settings

_DELETED: Final = 2  # status of a manifest's entry
_TRIES: Final = 3
_CATALOG_WAIT_S: Final = 5.0

Read = Callable[[str], bytes]


class Snapshot(msgspec.Struct, rename="kebab"):
    """One state of a table."""

    snapshot_id: int
    timestamp_ms: int
    manifest_list: str
    sequence_number: int = 0
    summary: dict[str, str] = {}

    def count(self, name: str) -> int:
        """Return a number of the summary, such as ``total-records``; 0 when it says none."""
        return int(self.summary.get(name, 0))

    @property
    def at_s(self) -> float:
        """When it was committed, seconds since 1970."""
        return self.timestamp_ms / 1000

    @property
    def offsets(self) -> Offsets:
        """The vector that it was committed with; empty when it was none of a drain."""
        return Offsets.from_properties(self.summary)


class _Field(msgspec.Struct):
    id: int
    name: str


class _Schema(msgspec.Struct, rename="kebab"):
    fields: list[_Field]
    schema_id: int = 0


class _Metadata(msgspec.Struct, rename="kebab"):
    table_uuid: str
    schemas: list[_Schema]
    current_schema_id: int = 0
    properties: dict[str, str] = {}
    current_snapshot_id: int | None = None
    snapshots: list[Snapshot] = []


class LiveFile(NamedTuple):
    """One live data file: its age in sequence numbers, its partition's day (None: no day), and its upper bounds."""

    path: str
    sequence: int
    day: date | None
    rows: int
    upper_bounds: dict[int, bytes]


class LakeTable:
    """One table, as its newest metadata describes it."""

    def __init__(self, metadata: bytes, read: Read) -> None:
        self._metadata = msgspec.json.decode(metadata, type=_Metadata)
        self._read = read

    @property
    def uuid(self) -> str:
        """Which table this is; one made again has another."""
        return self._metadata.table_uuid

    @property
    def properties(self) -> dict[str, str]:
        """The table's properties."""
        return self._metadata.properties

    @property
    def offsets(self) -> Offsets:
        """The vector of a drained table."""
        return Offsets.from_properties(self.properties)

    @cached_property
    def snapshots(self) -> list[Snapshot]:
        """Those that are kept, oldest first."""
        return sorted(self._metadata.snapshots, key=lambda each: each.sequence_number)

    @property
    def current(self) -> Snapshot | None:
        """The newest snapshot; None when the table was never written."""
        return next((each for each in self.snapshots if each.snapshot_id == self._metadata.current_snapshot_id), None)

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return self.current.count("total-records") if self.current else 0

    def rows_came_at_s(self) -> float | None:
        """Return when a commit last added rows, seconds since 1970; None when the table has none.

        Rewritten files add none. Once that commit is thinned out of the history, the oldest kept state that has all
        the rows tells: they came then or earlier.
        """
        found = None
        for each in reversed(self.snapshots if self.rows else []):
            if found is not None and each.count("total-records") != self.rows:
                return found
            found = each.at_s
            adds = each.summary.get("operation") == "append" or REPLACING in each.summary
            if adds and each.count("added-records"):
                return found
        return found

    def committed_at_s(self, sequence: int) -> float | None:
        """Return when a sequence number was committed, or the nearest time after it that the history still knows."""
        return next((each.at_s for each in self.snapshots if each.sequence_number >= sequence), None)

    def files(self, *, bounds: bool = False) -> Iterator[LiveFile]:
        """Yield the live data files that hold rows; ``upper_bounds`` are read only when asked for: they take long."""
        if self.current is None:
            return
        for manifest in fastavro.reader(io.BytesIO(self._read(self.current.manifest_list))):
            assert isinstance(manifest, dict)  # noqa: S101  # a list of manifests holds records
            content = self._read(manifest["manifest_path"])
            yield from _files(content, manifest["sequence_number"], bounds=bounds)

    def column(self, name: str) -> int:
        """Return the id of a column."""
        schemas = {each.schema_id: each for each in self._metadata.schemas}
        fields = schemas[self._metadata.current_schema_id].fields
        return next(each.id for each in fields if each.name == name)

    def open(self, file: LiveFile) -> str | bytes:
        """Return a data file's path on this machine, or its bytes when it is elsewhere."""
        return local_path(file.path) or self._read(file.path)


def read_tables(settings: Settings) -> dict[str, LakeTable]:
    """Return the tables of the lake by name, in the order in which data flows; none when there is no lake yet.

    Raises:
        sqlite3.Error, SQLAlchemyError: the catalog cannot be read.
        OSError: a file of the warehouse cannot be read.
    """
    read = _reader(settings)
    for attempt in range(_TRIES):
        try:
            found = {name: LakeTable(read(location), read) for name, location in _locations(settings).items()}
        except FileNotFoundError:  # a commit may have removed the oldest metadata since the catalog was asked
            if attempt == _TRIES - 1:
                raise
        else:
            return dict(sorted(found.items(), key=lambda item: _place_in_flow(item[0])))
    raise AssertionError


def _locations(settings: Settings) -> dict[str, str]:
    namespace = settings.catalog.namespace
    if settings.catalog.uri is not None:
        from k2_core.lake.catalog import has_lake, open_catalog  # noqa: PLC0415  # only pyiceberg knows how to ask the user's

        if not has_lake(settings):  # opening it would make one
            return {}
        with closing(open_catalog(settings)) as catalog:
            names = catalog.list_tables(namespace) if catalog.namespace_exists(namespace) else []
            return {name: catalog.load_table((namespace, name)).metadata_location for *_, name in names}
    store = settings.home / "catalog.db"
    if not store.exists():
        return {}
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True, timeout=_CATALOG_WAIT_S)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'iceberg_tables'").fetchone():
            return {}
        rows = connection.execute(
            "SELECT table_name, metadata_location FROM iceberg_tables WHERE table_namespace = ?", (namespace,)
        )
        return dict(rows.fetchall())


def _place_in_flow(name: str) -> tuple[int, str]:
    layers = ("bronze_", "silver_", "reference_", "gold_crypto", "gold_")
    return next((place for place, layer in enumerate(layers) if name.startswith(layer)), len(layers)), name


def _reader(settings: Settings) -> Read:
    def read(location: str) -> bytes:
        path = local_path(location)
        if path is not None:
            return Path(path).read_bytes()
        from pyiceberg.io import load_file_io  # noqa: PLC0415  # as above

        with load_file_io(dict(settings.catalog.properties), location).new_input(location).open() as file:
            return file.read()

    return read


def local_path(location: str) -> str | None:
    """Return the path of a file on this machine; None when it is elsewhere."""
    parsed = urlparse(location)
    return parsed.path if parsed.scheme in {"", "file"} else None


_FILE_FIELDS: Final = ("file_path", "partition", "record_count", "upper_bounds")


def _files(manifest: bytes, sequence: int, *, bounds: bool) -> Iterator[LiveFile]:
    """Yield the live files of a manifest; ``sequence`` is that of entries which name none."""
    written: Any = fastavro.reader(io.BytesIO(manifest)).writer_schema
    wanted = _FILE_FIELDS if bounds else _FILE_FIELDS[:-1]
    entries: Any = fastavro.reader(io.BytesIO(manifest), _projected(written, wanted))
    for entry in entries:
        file = entry["data_file"]
        if entry["status"] == _DELETED or not file["record_count"]:
            continue
        age = sequence if entry["sequence_number"] is None else entry["sequence_number"]
        upper = {each["key"]: each["value"] for each in file.get("upper_bounds") or ()}
        yield LiveFile(
            file["file_path"], age, next(iter(file["partition"].values()), None), file["record_count"], upper
        )


def _projected(entry: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
    """Return the schema of a manifest's entries with only some fields of the data file: the others are skipped."""
    fields = {field["name"]: field for field in entry["fields"]}
    file = fields["data_file"]["type"]
    kept = [field for field in file["fields"] if field["name"] in wanted]
    fields["data_file"] = {**fields["data_file"], "type": {**file, "fields": kept}}
    return {**entry, "fields": list(fields.values())}
