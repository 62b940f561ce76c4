"""Strike out rows of a data file by a position delete file, as other engines do; K2 writes none."""

from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriterV2,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _FastAppendFiles

_PATH = pa.field("file_path", pa.string(), nullable=False, metadata={"PARQUET:field_id": "2147483546"})
_POSITION = pa.field("pos", pa.int64(), nullable=False, metadata={"PARQUET:field_id": "2147483545"})


class _DeletesWriter(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES


class _StrikeOut(_FastAppendFiles):
    delete_file: DataFile

    def _manifests(self) -> list[ManifestFile]:
        spec = self._transaction.table_metadata.spec()
        output = self.new_manifest_output()
        with _DeletesWriter(spec, self.schema(), output, self._snapshot_id, self._compression) as writer:
            writer.add(ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, data_file=self.delete_file))
        return [writer.to_manifest_file(), *self._existing_manifests()]


def strike_out(table: Table, data_file: DataFile, *positions: int) -> None:
    """Commit a delete file for the rows at some positions of a data file."""
    location = str(PurePosixPath(data_file.file_path.removeprefix("file://")).with_suffix(".deletes.parquet"))
    rows = pa.table([[data_file.file_path] * len(positions), list(positions)], pa.schema([_PATH, _POSITION]))
    pq.write_table(rows, location)
    deletes = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=f"file://{location}",
        file_format=FileFormat.PARQUET,
        partition=data_file.partition,
        record_count=len(positions),
        file_size_in_bytes=1,
    )
    transaction = table.transaction()
    commit = _StrikeOut(Operation.DELETE, transaction, table.io)
    commit.delete_file = deletes
    commit.commit()
    transaction.commit_transaction()
