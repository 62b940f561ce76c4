"""How assets look in Dagster: keys, column schemas, and tables in metadata."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import dagster as dg
import polars as pl

from k2_core import clock
from k2_core.lake.table_spec import TableSpec

OWNERS: Final = ["team:market-data"]
COLUMN_SCHEMA: Final = "dagster/column_schema"
ROW_COUNT: Final = "dagster/partition_row_count"


def spec_metadata(spec: TableSpec) -> dict[str, Any]:
    """Return what an asset's page shows of its table before it was ever materialized."""
    columns = [
        dg.TableColumn(
            column.name,
            column.kind if isinstance(column.kind, str) else str(column.kind),
            description=column.doc,
            constraints=dg.TableColumnConstraints(nullable=not column.required),
        )
        for column in spec.columns
    ]
    return {
        COLUMN_SCHEMA: dg.TableSchema(columns=columns),
        "dagster/table_name": f"market_data.{spec.name}",
        "partitioned by": f"{spec.partition_unit}({spec.partition_by})",
    }


def table_metadata(rows: pl.DataFrame, columns: Sequence[str]) -> dg.TableMetadataValue:
    """Return a small table as metadata; numbers and times as text, exactly."""
    shown = rows.select(columns)
    schema = dg.TableSchema(columns=[dg.TableColumn(name) for name in columns])
    records = [
        dg.TableRecord({name: _shown(value) for name, value in row.items()}) for row in shown.iter_rows(named=True)
    ]
    return dg.MetadataValue.table(records, schema)


def markdown_table(rows: pl.DataFrame, columns: Sequence[str]) -> dg.MarkdownMetadataValue:
    """Return the same as text: Dagster stores it without a schema and the names of its classes."""
    lines = [
        " | ".join(str(_shown(value)).replace("|", r"\|").replace("\n", " ") for value in row)
        for row in (columns, ["---"] * len(columns), *rows.select(columns).iter_rows())
    ]
    return dg.MetadataValue.md("\n".join(f"| {line} |" for line in lines))


def microseconds(moment_us: int) -> dg.TimestampMetadataValue:
    """Return a time as metadata that the UI shows in the reader's own zone."""
    return dg.MetadataValue.timestamp(clock.from_us(moment_us))


def _shown(value: Any) -> str | int | float | bool:
    if isinstance(value, bool | int):
        return value
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return str(value)
