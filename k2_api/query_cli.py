"""``k2-query``: questions to the lake from a shell, read-only. Each command reads, and prints what was found."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import click
import pyarrow as pa
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table

from k2_api.catalog_pointer import CatalogPointer
from k2_api.errors import FilesGone, LakeUnavailable
from k2_api.moments import parse_moment
from k2_api.printing import Form, print_rows
from k2_api.queries import rejected as query
from k2_core.errors import K2Error
from k2_core.settings import Settings, load_settings
from k2_core.tables import silver_rejected
from k2_core.trades import REASONS
from k2_core.venues import VENUES

_FORMS: Final = ("table", "json", "csv")


class Moment(click.ParamType[datetime]):
    """A time as RFC 3339; without a zone it is UTC, a date alone is its midnight."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment that a user wrote."""
        if isinstance(value, datetime):
            return value
        try:
            return parse_moment(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Sentences(click.Group):
    """A group in which an error of K2 is one sentence and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:  # click's own return type
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except K2Error as error:
            click.echo(f"k2-query: {error}", err=True)
            sys.exit(1)


@click.group(cls=Sentences, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="k2-lakehouse")
def main() -> None:
    """Ask K2's lake. K2_HOME is the folder that holds it."""


@main.command()
@click.option("-e", "--exchange", type=click.Choice(list(VENUES)), help="One exchange; by default all.")
@click.option("--start", type=Moment(), help="Ingested at this time or later: 2024-08-08T23:55:00Z.")
@click.option("--end", type=Moment(), help="Ingested before this time.")
@click.option("--reason", "reasons", type=click.Choice(list(REASONS)), multiple=True, help="May be given repeatedly.")
@click.option(
    "-n", "--limit", type=click.IntRange(min=1, max=100_000), default=20, show_default=True, help="Most rows."
)
@click.option("-o", "--output", "form", type=click.Choice(_FORMS), default="table", show_default=True)
@click.option("--summary", is_flag=True, help="Count by reason instead.")
def rejected(
    *,
    exchange: str | None,
    start: datetime | None,
    end: datetime | None,
    reasons: tuple[str, ...],
    limit: int,
    form: Form,
    summary: bool,
) -> None:
    """Show what could not become a row of silver: the newest first, each with its reason and its bytes.

    A payload that is UTF-8 is shown as text, any other in hexadecimal; payload_form says which.
    """
    if start is not None and end is not None and start >= end:
        msg = f"--start {start.isoformat()} is not before --end {end.isoformat()}"
        raise click.UsageError(msg)
    where = query.condition(start, end, reasons)
    with _tables(load_settings(), exchange) as tables:
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
    if settings.catalog.uri is None and not (settings.home / "catalog.db").exists():
        raise LakeUnavailable(f"there is no lake in {settings.home}: set K2_HOME to another, or start one with k2 up")
    pointer = CatalogPointer(settings)
    try:
        found = {name: pointer.table(silver_rejected(name).name) for name in ([exchange] if exchange else VENUES)}
        yield {name: table for name, table in found.items() if table is not None}
    finally:
        pointer.close()
