"""Read rejected rows from the lake, and print them."""

from collections.abc import Iterable, Iterator
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
    require_lake(settings)
    where = query.condition(start, end, reasons)
    pointer = CatalogPointer(settings)
    rows: list[query.Row] = []
    try:
        for name in [exchange] if exchange else VENUES:
            table = pointer.table(silver_rejected(name).name)
            if table is None:  # nobody has created it yet
                continue
            if summary:
                counted = query.counted(_batches(table, where, (query.TIME, "reason")))
                rows += [{"exchange": name, **row} for row in counted]
            else:
                newest = query.newest(_batches(table, where, query.READ), limit)
                rows += [query.shown(row, name) for row in (newest.to_pylist() if newest is not None else [])]
    finally:
        pointer.close()
    if summary:
        print_rows(rows, query.SUMMARY_COLUMNS, form)
        return
    # The newest of each exchange: together they hold the newest of all.
    rows.sort(key=lambda row: row[query.TIME], reverse=True)
    print_rows(rows[:limit], query.COLUMNS, form, query.DRAWN)


def _batches(table: Table, where: str | BooleanExpression, columns: Iterable[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from table.scan(where, selected_fields=tuple(columns)).to_arrow_batch_reader()
    except FileNotFoundError as error:
        raise FilesGone("files of the lake were removed while they were read; ask again") from error
    except OSError as error:
        raise LakeUnavailable(f"the files of the lake cannot be read: {error}") from error
