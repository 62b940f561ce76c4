"""Write data files that no snapshot names yet: new rows, and rows that stay when others of their file go."""

import functools
import itertools
import uuid
from collections.abc import Iterable, Iterator

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
from pyiceberg.partitioning import PartitionFieldValue, PartitionKey, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, TableProperties, WriteTask
from pyiceberg.utils.properties import property_as_int


def write_files(table: Table, batches: Iterable[pa.Table]) -> list[DataFile]:
    """Write rows into new data files that no snapshot names yet; batch by batch, so that memory stays bounded.

    Args:
        table: as last loaded.
        batches: rows in the table's Arrow schema; each makes at least one file for each of its partitions.
    """
    # As pyiceberg's own writer does, but that copies all rows twice to part them, even if they are of a single day.
    write_uuid, counter, schema = uuid.uuid4(), itertools.count(0), table.schema()
    target = property_as_int(
        table.properties,
        TableProperties.WRITE_TARGET_FILE_SIZE_BYTES,
        TableProperties.WRITE_TARGET_FILE_SIZE_BYTES_DEFAULT,
    )
    assert target  # noqa: S101  # it has a default
    files: list[DataFile] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        of_rows = pyarrow_to_schema(batch.schema, schema.name_mapping, format_version=table.format_version)
        tasks = (
            WriteTask(write_uuid, next(counter), of_rows, packed, partition_key=key)
            for key, part in _by_partition(table.spec(), schema, batch)
            for packed in bin_pack_arrow_table(part, target)
        )
        files += write_file(table.io, table.metadata, tasks)
    return files


def _by_partition(
    spec: PartitionSpec, schema: Schema, rows: pa.Table
) -> Iterator[tuple[PartitionKey | None, pa.Table]]:
    """Yield the rows of each partition; without a copy where all are of one."""
    if spec.is_unpartitioned():
        yield None, rows
        return
    # Iceberg transforms columns of each row, such as a time to its day; rows with the same values are one partition.
    columns = {}
    for field in spec.fields:
        source = schema.find_field(field.source_id)
        columns[field.name] = field.transform.pyarrow_transform(source.field_type)(rows[source.name])
    keys = pa.table(columns)
    found = keys.group_by(keys.column_names).aggregate([]).to_pylist()
    for values in found:
        key = PartitionKey([PartitionFieldValue(field, values[field.name]) for field in spec.fields], spec, schema)
        masks = (
            column.is_null() if values[name] is None else pc.equal(column, values[name])
            for name, column in zip(keys.column_names, keys.columns, strict=True)
        )
        yield key, rows if len(found) == 1 else rows.filter(functools.reduce(pc.and_, masks))


def without_rows(table: Table, rows: BooleanExpression) -> Iterator[tuple[DataFile, list[DataFile]]]:
    """Yield each live file that holds some of ``rows``, and new files of its other rows."""
    schema = table.schema()
    others = _expression_to_complementary_pyarrow(bind(schema, rows, case_sensitive=True), schema)
    for task in table.scan(rows).plan_files():
        existing = ArrowScan(table.metadata, table.io, schema, AlwaysTrue()).to_table([task])
        kept = existing.filter(others)
        if kept.num_rows < existing.num_rows:
            yield task.file, write_files(table, [kept])
