"""The one planned read: rows of data files that were chosen by their manifests, as Arrow.

pyiceberg reads each file: it goes by the ids of columns, fills those that an old file lacks with null, widens types,
and skips the row groups that by Parquet's statistics hold none of the rows asked for. Callers choose the files.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table
from pyiceberg.typedef import Record

from k2_core.lake.manifests import LakeFile

ALL_ROWS: Final = AlwaysTrue()
PIECE_BYTES: Final = 128_000_000  # in memory; what a drain commits at once
DeleteFiles = Mapping[str, set[DataFile]]
"""What strikes out rows of a data file, by its path."""

_STREAM_ROWS: Final = 250_000
_SIDE_BY_SIDE: Final = 4  # files: one may be small and take as much in memory as a whole piece
_SIDE_BY_SIDE_BYTES: Final = 16_000_000  # on disk, where rows take a fraction of what they take in memory


def data_file(file: LakeFile) -> DataFile:
    """Return a file as pyiceberg knows it, to read or to replace it.

    Without its metrics: when a file is replaced, pyiceberg finds it by its path, and takes all of its entry from the
    manifest.
    """
    found = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=file.path,
        file_format=FileFormat(file.format),
        partition=Record(*file.partition),
        record_count=file.rows,
        file_size_in_bytes=file.size_bytes,
    )
    found.spec_id = file.spec_id
    return found


def delete_files(table: Table, snapshot_id: int) -> dict[str, set[DataFile]]:
    """Return the delete files that concern each data file of a snapshot, which pyiceberg alone finds out."""
    return {task.file.file_path: task.delete_files for task in table.scan(snapshot_id=snapshot_id).plan_files()}


def read_rows(
    table: Table, files: Iterable[LakeFile], columns: tuple[str, ...], where: BooleanExpression = ALL_ROWS
) -> pa.Table:
    """Return some columns of some files at once: the rows that ``where`` asks for."""
    return _scan(table, columns, where).to_table(_tasks(files)).select(list(columns))


def stream(
    table: Table,
    files: Iterable[LakeFile],
    columns: tuple[str, ...] | None = None,
    where: BooleanExpression = ALL_ROWS,
    deletes: DeleteFiles = MappingProxyType({}),
) -> pa.RecordBatchReader:
    """Return a reader of rows in the table's Arrow types, which holds a few small files or a part of a large one.

    Args:
        table: whose files they are.
        files: in the order in which they are to be read.
        columns: to be read, in the table's order; None reads all.
        where: a filter of rows.
        deletes: what strikes out rows of ``files``.
    """
    scan = _scan(table, columns, where)
    schema = schema_to_pyarrow(_projected(table, columns), include_field_ids=False)
    portions = _portions(scan, _tasks(files, deletes), _STREAM_ROWS)
    batches = (batch for rows in portions for batch in rows.cast(schema).to_batches())
    return pa.RecordBatchReader.from_batches(schema, batches)


def in_pieces(
    table: Table, files: Iterable[LakeFile], columns: tuple[str, ...], where: BooleanExpression, piece_rows: int
) -> Iterator[pa.Table]:
    """Yield the rows of ``files`` that ``where`` asks for, in pieces of about ``piece_rows``, or of 128 MB if sooner.

    Args:
        table: whose files they are.
        files: in the order in which they are to be read.
        columns: to be read.
        where: a filter; its columns need not be among ``columns``.
        piece_rows: a piece is given as soon as it has so many rows; it may have up to twice as many.
    """
    waiting: list[pa.Table] = []
    count = size = 0
    for rows in _portions(_scan(table, columns, where), _tasks(files), piece_rows):
        # Files may differ in their Arrow types, such as text and large text; pyiceberg joins them in the same way.
        waiting.append(rows)
        count += rows.num_rows
        size += rows.nbytes
        if count >= piece_rows or size >= PIECE_BYTES:
            yield pa.concat_tables(waiting, promote_options="permissive")
            waiting, count, size = [], 0, 0
    if count:
        yield pa.concat_tables(waiting, promote_options="permissive")


def _scan(table: Table, columns: tuple[str, ...] | None, where: BooleanExpression) -> ArrowScan:
    return ArrowScan(table.metadata, table.io, _projected(table, columns), where)


def _projected(table: Table, columns: tuple[str, ...] | None) -> Schema:
    return table.schema() if columns is None else table.schema().select(*columns)


def _tasks(files: Iterable[LakeFile], deletes: DeleteFiles = MappingProxyType({})) -> list[FileScanTask]:
    return [FileScanTask(data_file=data_file(each), delete_files=deletes.get(each.path)) for each in files]


def _portions(scan: ArrowScan, tasks: Iterable[FileScanTask], most_rows: int) -> Iterator[pa.Table]:
    """Small files are read side by side, a file of more than ``most_rows`` batch by batch."""
    # A portion ends when its files have enough rows or bytes, or are as many as are read at once: each of them is
    # whole in memory until the portion is yielded. A file with deletes is read whole, whatever its size: to_table alone
    # looks its deletes up.
    small: list[FileScanTask] = []
    rows = size = 0
    for task in tasks:
        if task.file.record_count > most_rows and not task.delete_files:
            for batch in scan._record_batches_from_scan_tasks_and_deletes([task], {}):  # noqa: SLF001  # all else reads it whole
                yield pa.Table.from_batches([batch])
            continue
        small.append(task)
        rows += task.file.record_count
        size += task.file.file_size_in_bytes
        if rows >= most_rows or size >= _SIDE_BY_SIDE_BYTES or len(small) == _SIDE_BY_SIDE:
            yield scan.to_table(small)
            small, rows, size = [], 0, 0
    if small:
        yield scan.to_table(small)
