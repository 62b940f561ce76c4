"""Files of rows for another table, named in a property of the table whose commit they belong to."""

import json
import uuid
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table

PENDING: Final = "k2.pending_rows"


def pending_files(table: Table) -> list[str]:
    """Return the files that a table's commits named, and that no later commit found in the other table."""
    named: list[str] = json.loads(table.properties.get(PENDING, "[]"))
    return named


def naming(files: list[str]) -> dict[str, str]:
    """Return the property that names ``files``."""
    return {PENDING: json.dumps(files)}


def write_pending(table: Table, rows: pa.Table) -> str:
    """Write rows into a new file of the table's folder that nothing names yet, and return its path."""
    path = f"{table.location()}/data/pending-{uuid.uuid4()}.parquet"
    with table.io.new_output(path).create() as file:
        pq.write_table(rows, file, compression="zstd")
    return path


def read_pending(table: Table, path: str) -> pa.Table:
    """Read the rows of such a file."""
    with table.io.new_input(path).open() as file:
        return pq.read_table(pa.BufferReader(file.read()))
