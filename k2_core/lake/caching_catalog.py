"""The catalog as K2 opens it: pyiceberg's, which reads and copies again and again what never changes once written.

Measured with 100 snapshots of a table: a commit took 117 ms of processor time with pyiceberg's own, 40 with this.
"""

from typing import Any, Final

from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import MetadataLogEntry, Snapshot, SnapshotLogEntry
from pyiceberg.table.sorting import SortOrder

_NEVER_CHANGED: Final = (Snapshot, SnapshotLogEntry, MetadataLogEntry, Schema, PartitionSpec, SortOrder)


class LakeCatalog(SqlCatalog):
    """Remembers the newest metadata that it has read of each table, by its file: such a file is written once."""

    def __init__(self, name: str, **properties: str) -> None:
        super().__init__(name, **properties)
        self._read: dict[tuple[str, str], tuple[str, TableMetadata]] = {}

    def _convert_orm_to_iceberg(self, orm_table: IcebergTables) -> Table:
        key, location = (orm_table.table_namespace, orm_table.table_name), orm_table.metadata_location
        known, metadata = self._read.get(key, ("", None))
        if metadata is None or known != location:
            table = super()._convert_orm_to_iceberg(orm_table)
            self._read[key] = table.metadata_location, table.metadata
            return table
        # As pyiceberg makes it, without reading the metadata. Each caller gets a Table of its own: a commit changes it.
        io = self._load_file_io(metadata.properties, location)
        return Table((*self.identifier_to_tuple(key[0]), key[1]), metadata, location, io, self)


def _itself(part: Any, _memo: dict[int, Any] | None = None) -> Any:
    return part


for _kind in _NEVER_CHANGED:  # copies of a table's metadata share them; they are frozen
    _kind.__deepcopy__ = _itself  # type: ignore[assignment, method-assign]
