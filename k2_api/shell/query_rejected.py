"""Read the rows that could not become silver, and print them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

import pyarrow as pa
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table

from k2_api.api_errors import FilesGone, LakeUnavailable
from k2_api.lake.catalog_pointer import CatalogPointer
from k2_api.queries import rejected_rows as query
from k2_api.shell.printing import Form, print_rows
from k2_core.lake.catalog import require_lake
from k2_core.lake.tables import silver_rejected
from k2_core.settings import Settings
from k2_core.venues import VENUES


def show(
    settings: Settings,
    exchange: str | None,
    start: datetime | None,
    end: datetime | None,
    reasons: tuple[str, ...],
    *,
    limit: int,
    form: Form,
    summary: bool,
) -> None:
    """Print the newest rows ingested in [start, end) for one of the reasons, or count them by reason.

    Raises:
        SettingsError: there is no lake in the home.
        LakeUnavailable: the lake cannot be read.
    """
    where = query.condition(start, end, reasons)
    with _tables(settings, exchange) as tables:
        if summary:
            print_rows(_counted(tables, where), query.SUMMARY_COLUMNS, form)
        else:
            print_rows(_newest(tables, where, limit), query.COLUMNS, form, query.DRAWN)


def _counted(tables: dict[str, Table], where: str | BooleanExpression) -> list[query.Row]:
    return [
        {"exchange": exchange, **row}
        for exchange, table in tables.items()
        for row in query.counted(_batches(table, where, (query.TIME, "reason")))
    ]


def _newest(tables: dict[str, Table], where: str | BooleanExpression, limit: int) -> list[query.Row]:
    rows = []
    for exchange, table in tables.items():
        found = query.newest(_batches(table, where, query.READ), limit)
        rows += [query.shown(row, exchange) for row in (found.to_pylist() if found is not None else [])]
    return sorted(rows, key=lambda row: row[query.TIME], reverse=True)[:limit]


def _batches(table: Table, where: str | BooleanExpression, columns: Iterable[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from table.scan(where, selected_fields=tuple(columns)).to_arrow_batch_reader()
    except FileNotFoundError as error:
        raise FilesGone("files of the lake were removed while they were read; ask again") from error
    except OSError as error:
        raise LakeUnavailable(f"the files of the lake cannot be read: {error}") from error


@contextmanager
def _tables(settings: Settings, exchange: str | None) -> Iterator[dict[str, Table]]:
    """Open the tables of rejected rows by exchange; those that nobody has made yet are left out."""
    require_lake(settings)
    pointer = CatalogPointer(settings)
    try:
        found = {name: pointer.table(silver_rejected(name).name) for name in ([exchange] if exchange else VENUES)}
        yield {name: table for name, table in found.items() if table is not None}
    finally:
        pointer.close()
