"""Write data files that no snapshot names yet: of new rows, and of rows that stay where others of their file go."""

import itertools
import uuid
from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.expressions.visitors import bind
from pyiceberg.io.pyarrow import ArrowScan, _dataframe_to_data_files, _expression_to_complementary_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table


def write_files(table: Table, batches: Iterable[pa.Table]) -> list[DataFile]:
    """Write rows into new data files that no snapshot names yet; batch by batch, so that memory stays bounded.

    Args:
        table: as last loaded.
        batches: rows in the table's Arrow schema; each makes at least one file for each of its partitions.
    """
    write_uuid, counter = uuid.uuid4(), itertools.count(0)
    return [
        file
        for batch in batches
        if batch.num_rows
        for file in _dataframe_to_data_files(table.metadata, batch, table.io, write_uuid, counter)
    ]


def without_rows(table: Table, rows: BooleanExpression) -> Iterator[tuple[DataFile, list[DataFile]]]:
    """Yield each live file that holds some of ``rows``, and new files of its other rows."""
    schema = table.schema()
    others = _expression_to_complementary_pyarrow(bind(schema, rows, case_sensitive=True), schema)
    for task in table.scan(rows).plan_files():
        standing = ArrowScan(table.metadata, table.io, schema, AlwaysTrue()).to_table([task])
        kept = standing.filter(others)
        if kept.num_rows < standing.num_rows:
            yield task.file, write_files(table, [kept])
