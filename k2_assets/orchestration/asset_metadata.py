"""How assets look in Dagster: groups, tags, column schemas and lineage, code references, and tables in metadata."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypedDict

import dagster as dg
import polars as pl

from k2_assets.orchestration.column_lineage import sources
from k2_core import clock
from k2_core.lake.manifests import LakeFile
from k2_core.lake.table_spec import TableSpec

OWNERS: Final = ["team:market-data"]
COLUMN_SCHEMA: Final = "dagster/column_schema"
COLUMN_LINEAGE: Final = "dagster/column_lineage"
ROW_COUNT: Final = "dagster/partition_row_count"
NEWEST_ROW: Final = "newest row"


class Shown(TypedDict):
    """Arguments of an asset's definition."""

    group_name: str
    owners: list[str]
    tags: dict[str, str]
    metadata: dict[str, Any]


def shown_as(spec: TableSpec, layer: str, made_by: Callable[..., Any], **tags: str) -> Shown:
    """Return how a table's asset is grouped, tagged, owned and described by its columns.

    Args:
        spec: of the table.
        layer: its group, and its tag ``layer``.
        made_by: the function that computes its rows: the code reference.
        tags: more of them, such as ``venue`` and ``data``.
    """
    return {
        "group_name": layer,
        "owners": OWNERS,
        "tags": {"layer": layer, **tags},
        "metadata": {**spec_metadata(spec), **code_reference(made_by)},
    }


def topic_key(topic: str) -> dg.AssetKey:
    """Return the key of a Kafka topic's asset."""
    return dg.AssetKey(["kafka", topic.replace(".", "_")])


def code_reference(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the metadata by which an asset's page names the file and line of a function."""
    code = inspect.unwrap(function).__code__
    with warnings.catch_warnings():  # a beta of Dagster's, which warns once an asset
        warnings.simplefilter("ignore", dg.BetaWarning)
        place = dg.LocalFileCodeReference(file_path=code.co_filename, line_number=code.co_firstlineno)
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[place])}


def of_partition(files: Sequence[LakeFile], spec: TableSpec) -> dict[str, Any]:
    """Return what a materialization says of all files of its partition, from what manifests say of them."""
    shown: dict[str, Any] = {
        ROW_COUNT: sum(each.rows for each in files),
        f"files of the {spec.partition_unit}": len(files),
        f"bytes of the {spec.partition_unit}": sum(each.size_bytes for each in files),
    }
    if files:
        shown[NEWEST_ROW] = microseconds(max(each.last_us for each in files))
    return shown


def spec_metadata(spec: TableSpec) -> dict[str, Any]:
    """Return what an asset's page shows of its table before it was ever materialized."""
    made_from = sources(spec)
    columns = []
    for column in spec.columns:
        # Dagster's open-source pages show no lineage of columns, so the description names other columns too.
        others = dict.fromkeys(name for _, name in made_from[column.name] if name != column.name)
        columns.append(
            dg.TableColumn(
                column.name,
                column.kind if isinstance(column.kind, str) else str(column.kind),
                description=f"{column.doc} (from {', '.join(others)})" if others else column.doc,
                constraints=dg.TableColumnConstraints(nullable=not column.required),
            )
        )
    shown: dict[str, Any] = {
        COLUMN_SCHEMA: dg.TableSchema(columns=columns),
        "dagster/table_name": f"market_data.{spec.name}",
        "partitioned by": f"{spec.partition_unit}({spec.partition_by})",
    }
    if spec.made_from:
        shown[COLUMN_LINEAGE] = dg.TableColumnLineage(
            {
                name: [dg.TableColumnDep(dg.AssetKey(table), column) for table, column in pairs]
                for name, pairs in made_from.items()
            }
        )
    return shown


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
