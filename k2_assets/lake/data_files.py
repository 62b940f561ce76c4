"""Write data files that no snapshot names yet: of new rows, and of rows that stay where others of their file go."""

import functools
import itertools
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.expressions.visitors import bind
from pyiceberg.io.pyarrow import (
    ArrowScan,
    _expression_to_complementary_pyarrow,
    bin_pack_arrow_table,
    pyarrow_to_schema,
    write_file,
)
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField, PartitionFieldValue, PartitionKey, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, TableProperties, WriteTask
from pyiceberg.utils.properties import property_as_int


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
        for file in write_file(table.io, table.metadata, _tasks(table, batch, write_uuid, counter))
    ]


def _tasks(table: Table, rows: pa.Table, write_uuid: uuid.UUID, counter: Iterator[int]) -> Iterator[WriteTask]:
    """Yield what is to be written. pyiceberg's own writer copies all rows twice to part them, of a single day too."""
    schema = table.schema()
    of_rows = pyarrow_to_schema(rows.schema, schema.name_mapping, format_version=table.format_version)
    target = property_as_int(
        table.properties,
        TableProperties.WRITE_TARGET_FILE_SIZE_BYTES,
        TableProperties.WRITE_TARGET_FILE_SIZE_BYTES_DEFAULT,
    )
    assert target  # noqa: S101  # it has a default
    for key, part in _by_partition(table.spec(), schema, rows):
        for packed in bin_pack_arrow_table(part, target):
            yield WriteTask(write_uuid, next(counter), of_rows, packed, partition_key=key)


def _by_partition(
    spec: PartitionSpec, schema: Schema, rows: pa.Table
) -> Iterator[tuple[PartitionKey | None, pa.Table]]:
    """Yield the rows of each partition; without a copy where all are of one."""
    if spec.is_unpartitioned():
        yield None, rows
        return
    # What Iceberg makes of each row's columns, as their day; rows with the same values are one partition.
    keys = pa.table({field.name: _transformed(field, schema, rows) for field in spec.fields})
    found = keys.group_by(keys.column_names).aggregate([]).to_pylist()
    for values in found:
        key = PartitionKey([PartitionFieldValue(field, values[field.name]) for field in spec.fields], spec, schema)
        yield key, rows if len(found) == 1 else rows.filter(_equal(keys, values))


def _transformed(field: PartitionField, schema: Schema, rows: pa.Table) -> pa.ChunkedArray:
    source = schema.find_field(field.source_id)
    return field.transform.pyarrow_transform(source.field_type)(rows[source.name])


def _equal(keys: pa.Table, values: dict[str, Any]) -> pa.ChunkedArray:
    """Tell of each row whether it lies in a partition."""
    masks = (keys[name].is_null() if value is None else pc.equal(keys[name], value) for name, value in values.items())
    return functools.reduce(pc.and_, masks)


def without_rows(table: Table, rows: BooleanExpression) -> Iterator[tuple[DataFile, list[DataFile]]]:
    """Yield each live file that holds some of ``rows``, and new files of its other rows."""
    schema = table.schema()
    others = _expression_to_complementary_pyarrow(bind(schema, rows, case_sensitive=True), schema)
    for task in table.scan(rows).plan_files():
        standing = ArrowScan(table.metadata, table.io, schema, AlwaysTrue()).to_table([task])
        kept = standing.filter(others)
        if kept.num_rows < standing.num_rows:
            yield task.file, write_files(table, [kept])
