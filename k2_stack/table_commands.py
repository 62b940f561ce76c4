"""The commands ``k2 tables …``: what the lake's tables hold, and how they differ from the specs of this K2."""

from typing import TYPE_CHECKING

import click

from k2_core.errors import TableDiffers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

    from k2_core.lake.table_changes import Change
    from k2_core.lake.table_spec import TableSpec
    from k2_core.settings import Settings


@click.group()
def tables() -> None:
    """Show the lake's tables, and change those that an earlier K2 made."""


@tables.command("list")
def show() -> None:
    """Show each table's rows, its version of Iceberg's format, and how it differs from its spec in this K2.

    The next `k2 up` makes the changes marked with it, `k2 tables migrate` makes all. Columns and properties that you
    added yourself do not count as differences.
    """
    from rich.table import Table as Drawn

    from k2_core.home_format import FORMAT
    from k2_core.lake.catalog import format_of, open_catalog, require_lake
    from k2_core.settings import load_settings
    from k2_stack.terminal import open_console

    settings = load_settings()
    require_lake(settings)
    catalog = open_catalog(settings)
    drawn = Drawn(box=None, header_style="dim", pad_edge=False)
    for title in ("table", "rows", "iceberg", "differs"):
        drawn.add_column(title, justify="right" if title in {"rows", "iceberg"} else "left", no_wrap=title != "differs")
    for spec, table, differing in _differences(catalog, settings):
        if table is None:
            drawn.add_row(spec.name, "", "", "it does not exist yet: `k2 up` creates it")
        else:
            differs = "; ".join(f"{change.what} (`k2 up`)" if change.small else change.what for change in differing)
            snapshot = table.current_snapshot()
            summary = snapshot.summary if snapshot else None
            rows = int(summary.additional_properties.get("total-records", 0)) if summary else 0
            drawn.add_row(spec.name, f"{rows:,}", str(table.metadata.format_version), differs)
    console = open_console()
    console.print(f"{settings.home}: format {format_of(catalog)}; this version of K2 makes format {FORMAT}")
    console.print(drawn)


@tables.command()
@click.option("--dry-run", is_flag=True, help="show what would be done, and change nothing")
def migrate(dry_run: bool) -> None:
    """Change the tables of an earlier K2 to the specs of this K2, beside a running platform or without one.

    Adds columns, sets properties, widens types, makes columns nullable, and partitions new rows in another way. Rows,
    snapshots and tags stay as they are. Refuses what Iceberg cannot change in place.
    """
    from k2_core.lake.catalog import change_table, open_catalog, require_lake
    from k2_core.settings import load_settings

    settings = load_settings()
    require_lake(settings)
    catalog = open_catalog(settings)
    count, refused = 0, []
    for spec, table, differing in _differences(catalog, settings):
        for change in differing:
            click.echo(f"{spec.name}: {'' if change.apply else 'cannot be done: '}{change.what}")
        count += len(differing)
        # What change_table leaves undone is what Iceberg cannot change in place.
        left = differing
        if table is not None and differing and not dry_run:
            left = change_table(catalog, settings.catalog.namespace, spec, lambda _: True)
        refused += [spec.name] if any(change.apply is None for change in left) else []
    if refused:
        msg = (
            f"{', '.join(refused)} cannot be changed in place: go on with the version of K2 that made this home, "
            "or set K2_HOME to a new one."
        )
        raise TableDiffers(msg)
    done = "would be made" if dry_run else "made"
    click.echo(f"{count} changes {done}." if count else "There is nothing to do: all tables are what this K2 makes.")


def _differences(catalog: "Catalog", settings: "Settings") -> "Iterator[tuple[TableSpec, Table | None, list[Change]]]":
    """Yield every table in the order data flows: None while it does not exist, and how it differs from its spec."""
    from pyiceberg.exceptions import NoSuchTableError

    from k2_core.lake.table_changes import changes
    from k2_core.lake.tables import all_tables
    from k2_core.venues import VENUES

    for spec in all_tables(tuple(VENUES)):
        try:
            table = catalog.load_table((settings.catalog.namespace, spec.name))
        except NoSuchTableError:
            yield spec, None, []
        else:
            yield spec, table, changes(table, spec)
