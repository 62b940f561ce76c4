"""Rejected rows: the filter of a query, the newest rows, and counts by reason. Pure; Arrow in and out."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue, BooleanExpression

from k2_core.clock import iso

TIME: Final = "ingestion_timestamp"
COLUMNS: Final = (
    *(TIME, "exchange", "reason", "error", "kafka_topic", "kafka_partition", "kafka_offset", "frame_index"),
    *("payload", "payload_form"),
)
DRAWN: Final = (TIME, "exchange", "reason", "error", "kafka_partition", "kafka_offset", "payload")
SUMMARY_COLUMNS: Final = ("exchange", "reason", "rows", "first", "last")
READ: Final = (*(TIME, "reason", "error", "kafka_topic", "kafka_partition", "kafka_offset", "frame_index", "payload"),)
_NEWEST_FIRST: Final = [
    (name, "descending") for name in (TIME, "kafka_topic", "kafka_partition", "kafka_offset", "frame_index")
]

Row = dict[str, Any]


def condition(start: datetime | None, end: datetime | None, reasons: Sequence[str]) -> str | BooleanExpression:
    """Return the filter of rows ingested in [start, end) with one of the reasons; with no reasons, all rows match."""
    clauses = [f"{TIME} >= '{start.isoformat()}'"] if start is not None else []
    if end is not None:
        clauses.append(f"{TIME} < '{end.isoformat()}'")
    if reasons:
        clauses.append(f"reason in ({', '.join(map(repr, reasons))})")
    return " and ".join(clauses) or AlwaysTrue()


def newest(batches: Iterable[pa.RecordBatch], limit: int) -> pa.Table | None:
    """Return the newest rows, newest first, holding one batch and ``limit`` rows at a time; None without any batch."""
    # Many rows may match, each with a payload of up to a megabyte: after each batch only the newest are kept.
    kept: pa.Table | None = None
    for batch in batches:
        table = pa.Table.from_batches([batch])
        both = table if kept is None else pa.concat_tables([kept, table])
        kept = both.sort_by(_NEWEST_FIRST).slice(0, limit).combine_chunks()
    return kept


def counted(batches: Iterable[pa.RecordBatch]) -> list[Row]:
    """Return rows, first and last time of each reason, most frequent first."""
    # Each batch is counted by itself, and the counts are added up at the end.
    found: pa.Table | None = None
    for batch in batches:
        table = (
            pa.Table.from_batches([batch]).group_by("reason").aggregate([(TIME, "count"), (TIME, "min"), (TIME, "max")])
        )
        found = table if found is None else pa.concat_tables([found, table])
    if found is None:
        return []
    names = [f"{TIME}_count", f"{TIME}_min", f"{TIME}_max"]
    merged = found.group_by("reason").aggregate(list(zip(names, ("sum", "min", "max"), strict=True)))
    merged = merged.rename_columns(["reason", "rows", "first", "last"])
    rows: list[Row] = merged.sort_by([("rows", "descending"), ("reason", "ascending")]).to_pylist()
    return [{**row, "first": iso(row["first"]), "last": iso(row["last"])} for row in rows]


def shown(row: Row, exchange: str) -> Row:
    """Return a row as it is printed: times as text, the payload as the text it is, or in hexadecimal."""
    try:
        text, form = row["payload"].decode(), "utf-8"
    except UnicodeDecodeError:
        text, form = row["payload"].hex(), "hex"
    printed = {**row, TIME: iso(row[TIME]), "exchange": exchange, "payload": text, "payload_form": form}
    return {name: printed[name] for name in COLUMNS}
