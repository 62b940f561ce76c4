"""Read many rows of many files, a bounded number at a time."""

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyiceberg.expressions import BooleanExpression
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask, Table


def in_pieces(
    table: Table, files: Iterable[DataFile], columns: tuple[str, ...], where: BooleanExpression, piece_rows: int
) -> Iterator[pa.Table]:
    """Yield the rows of ``files`` that ``where`` asks for, in pieces of about ``piece_rows``.

    Args:
        table: whose files they are.
        files: in the order in which they are to be read.
        columns: to be read.
        where: a filter; its columns need not be among ``columns``.
        piece_rows: a piece is given as soon as it has so many rows; it may have up to twice as many.
    """
    waiting: list[pa.Table] = []
    count = 0
    for rows in _portions(table, files, columns, where, piece_rows):
        waiting.append(rows)
        count += rows.num_rows
        if count >= piece_rows:
            yield pa.concat_tables(waiting, promote_options="permissive")
            waiting, count = [], 0
    if count:
        yield pa.concat_tables(waiting, promote_options="permissive")


def _portions(
    table: Table, files: Iterable[DataFile], columns: tuple[str, ...], where: BooleanExpression, most_rows: int
) -> Iterator[pa.Table]:
    """Small files are read side by side, a file of more than ``most_rows`` batch by batch."""
    scan = ArrowScan(table.metadata, table.io, table.schema().select(*columns), where)
    small: list[FileScanTask] = []
    rows = 0
    for file in files:
        if file.record_count > most_rows:
            for batch in scan._record_batches_from_scan_tasks_and_deletes(  # noqa: SLF001  # all else reads it whole
                [FileScanTask(data_file=file)], {}
            ):
                yield pa.Table.from_batches([batch])
            continue
        small.append(FileScanTask(data_file=file))
        rows += file.record_count
        if rows >= most_rows:
            yield scan.to_table(small)
            small, rows = [], 0
    if small:
        yield scan.to_table(small)
