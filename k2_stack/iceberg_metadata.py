"""What the lake's tables say of themselves in their metadata, read as files: all of pyiceberg takes 2 s to import.

It is loaded only for a catalog or a warehouse of the user's own, which a file cannot be opened of. Nothing here writes.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Final
from urllib.parse import urlparse

import msgspec

from k2_core.lake.manifests import MANIFESTS, Bounded, LakeFile, Read, reading
from k2_core.lake.source_memory import REPLACING
from k2_core.offsets import Offsets
from k2_core.settings import Settings

_TRIES: Final = 3
_CATALOG_WAIT_S: Final = 5.0
_LAYERS: Final = ("bronze_", "silver_", "reference_", "gold_crypto", "gold_")


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


class LakeTable:
    """One table, as its newest metadata describes it."""

    def __init__(self, metadata: bytes, read: Read) -> None:
        self._metadata = msgspec.json.decode(metadata, type=_Metadata)
        self._read = read
        self.uuid = self._metadata.table_uuid  # of this table; one created again by the same name has another
        self.properties = self._metadata.properties

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

    def files(self, time_column: str | None = None) -> Iterator[LakeFile]:
        """Yield the live data files that hold rows; with bounds of a column of times, when one is named."""
        column = None
        if time_column is not None:
            schemas = {each.schema_id: each for each in self._metadata.schemas}
            fields = schemas[self._metadata.current_schema_id].fields
            column = next(each.id for each in fields if each.name == time_column)
        bounded = Bounded(column)
        for manifest in MANIFESTS.listed(self.current.manifest_list, self._read) if self.current else ():
            if not manifest.strikes_out:
                yield from (each for each in MANIFESTS.files(manifest, self._read, bounded) if each.rows)

    def open(self, file: LakeFile) -> str | bytes:
        """Return a data file's path on this machine, or its bytes when it is elsewhere."""
        return local_path(file.path) or self._read(file.path)


def read_tables(settings: Settings) -> dict[str, LakeTable]:
    """Return the tables of the lake by name, in the order in which data flows; none when there is no lake yet.

    Raises:
        sqlite3.Error, SQLAlchemyError: the catalog cannot be read.
        OSError: a file of the warehouse cannot be read.
    """

    def read(location: str) -> bytes:
        path = local_path(location)
        if path is not None:
            return Path(path).read_bytes()
        from pyiceberg.io import load_file_io  # noqa: PLC0415  # only pyiceberg reads a store of the user's own

        return reading(load_file_io(dict(settings.catalog.properties), location))(location)

    for attempt in range(_TRIES):
        try:
            found = {name: LakeTable(read(location), read) for name, location in _locations(settings).items()}
        except FileNotFoundError:  # a commit may have removed the oldest metadata since the catalog was asked
            if attempt == _TRIES - 1:
                raise
        else:
            ordered = sorted(found)
            # By layer, what belongs to none of them last; sorting keeps the order of names in each.
            ordered.sort(key=lambda name: [not name.startswith(layer) for layer in _LAYERS])
            return {name: found[name] for name in ordered}
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


def local_path(location: str) -> str | None:
    """Return the path of a file on this machine; None when it is elsewhere."""
    parsed = urlparse(location)
    return parsed.path if parsed.scheme in {"", "file"} else None
