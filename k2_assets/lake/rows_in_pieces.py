"""Read many rows of many files, a bounded number at a time."""

from collections.abc import Iterable, Iterator
from typing import Final

import pyarrow as pa
from pyiceberg.expressions import BooleanExpression
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask, Table

PIECE_BYTES: Final = 128_000_000  # in memory; what a drain commits at once
_SIDE_BY_SIDE: Final = 4  # files: one may be small and take as much in memory as a whole piece
_SIDE_BY_SIDE_BYTES: Final = 16_000_000  # on disk, where rows take a fraction of what they take in memory


def in_pieces(
    table: Table, files: Iterable[DataFile], columns: tuple[str, ...], where: BooleanExpression, piece_rows: int
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
    for rows in _portions(table, files, columns, where, piece_rows):
        waiting.append(rows)
        count += rows.num_rows
        size += rows.nbytes
        if count >= piece_rows or size >= PIECE_BYTES:
            yield pa.concat_tables(waiting, promote_options="permissive")
            waiting, count, size = [], 0, 0
    if count:
        yield pa.concat_tables(waiting, promote_options="permissive")


def _portions(
    table: Table, files: Iterable[DataFile], columns: tuple[str, ...], where: BooleanExpression, most_rows: int
) -> Iterator[pa.Table]:
    """Small files are read side by side, a file of more than ``most_rows`` batch by batch."""
    scan = ArrowScan(table.metadata, table.io, table.schema().select(*columns), where)
    small: list[FileScanTask] = []
    rows = size = 0
    for file in files:
        if file.record_count > most_rows:
            for batch in scan._record_batches_from_scan_tasks_and_deletes(  # noqa: SLF001  # all else reads it whole
                [FileScanTask(data_file=file)], {}
            ):
                yield pa.Table.from_batches([batch])
            continue
        small.append(FileScanTask(data_file=file))
        rows += file.record_count
        size += file.file_size_in_bytes
        if rows >= most_rows or size >= _SIDE_BY_SIDE_BYTES or len(small) == _SIDE_BY_SIDE:
            yield scan.to_table(small)
            small, rows, size = [], 0, 0
    if small:
        yield scan.to_table(small)
