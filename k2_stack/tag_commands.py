"""The commands ``k2 tag …``: names for states of tables, for ``as_of`` in the API."""

from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from k2_assets.maintenance.named_tags import AsOf, NamedTags, Tagged


class Name(click.ParamType[str]):
    """A name that no other kind of ``as_of`` could be."""

    name = "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from k2_assets.maintenance.tag_names import why_refused

        if (reason := why_refused(value)) is not None:
            self.fail(reason, param, ctx)
        return str(value)


_TABLES = click.option("--table", "tables", multiple=True, metavar="TABLE", help="One table; may be given repeatedly.")


@click.group()
def tag() -> None:
    """Name states of tables: a dataset that stays as it is, and that `as_of` of the API shows."""


@tag.command()
@click.argument("name", type=Name())
@_TABLES
@click.option("--as-of", metavar="MOMENT|SNAPSHOT|TAG", help="An earlier state; by default the newest.")
def create(name: str, tables: tuple[str, ...], as_of: str | None) -> None:
    """Give NAME to one state of every table that the API serves, or of the tables named.

    The states fit together: the candles are those that were built from the trades. All tables get the tag or none.
    The rows stay until the tag is deleted, whatever is rebuilt, maintained or removed.

    \b
    Example:
      k2 tag create paper-2026 --as-of 2026-11-21T00:00:00Z
    """  # noqa: D301  # \b is click's mark for a paragraph that stays as it is
    done, empty = _named_tags().create(name, list(dict.fromkeys(tables)), _as_of(as_of))
    _show(done)
    if empty:
        click.echo(f"without rows at that moment, and so without the tag: {', '.join(empty)}")


@tag.command("list")
@_TABLES
@click.option("--all", "automatic", is_flag=True, help="Also those that maintenance creates and deletes by itself.")
@click.option("-o", "--output", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def show(*, tables: tuple[str, ...], automatic: bool, form: Literal["table", "json"]) -> None:
    """Show the tags, the tables of each, and the states that they name."""
    import json

    found = _named_tags().listed(tables, automatic=automatic)
    if form == "json":
        click.echo(json.dumps(_as_json(found), indent=2))
    elif found:
        _show(found)
    else:
        click.echo("There are no tags; `k2 tag create NAME` names the newest state of the data.")


@tag.command()
@click.argument("name")
@_TABLES
def delete(name: str, tables: tuple[str, ...]) -> None:
    """Delete the tag NAME of every table, or of the tables named; nothing is asked.

    Rows that nothing else names are removed about an hour after the next maintenance.
    """
    done = _named_tags().delete(name, tables)
    _show(done)
    click.echo(f"deleted: {name} of {len(done)} {'table' if len(done) == 1 else 'tables'}")


def _named_tags() -> "NamedTags":
    from k2_assets.maintenance.named_tags import NamedTags
    from k2_core.lake.catalog import open_catalog, require_lake
    from k2_core.settings import load_settings

    settings = load_settings()
    require_lake(settings)
    return NamedTags(open_catalog(settings), settings.catalog.namespace, settings.maintenance)


def _as_of(text: str | None) -> "AsOf":
    """Read ``--as-of`` as the API reads ``as_of``."""
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot

    from k2_api.api_errors import UnknownSnapshot
    from k2_api.lake.snapshot_choice import resolve
    from k2_api.timestamps import parse_moment
    from k2_assets.maintenance.named_tags import AsOf
    from k2_core.clock import to_us

    def find(metadata: TableMetadata) -> Snapshot | None:
        try:
            return resolve(metadata, text)
        except UnknownSnapshot:
            return None

    try:
        moment_ms = None if text is None else to_us(parse_moment(text)) // 1000
    except ValueError:
        moment_ms = None
    return AsOf(text, find, moment_ms)


def _show(tagged: "Sequence[Tagged]") -> None:
    from rich.table import Table

    from k2_stack.terminal import open_console

    drawn = Table(box=None, header_style="dim", pad_edge=False)
    for title in ("tag", "table", "snapshot", "committed at", "rows"):
        drawn.add_column(title, justify="right" if title in {"snapshot", "rows"} else "left", no_wrap=True)
    for each in tagged:
        drawn.add_row(each.tag, each.table, str(each.snapshot_id), each.committed_at, f"{each.rows:,}")
    open_console().print(drawn)


def _as_json(tagged: "Sequence[Tagged]") -> list[dict[str, Any]]:
    """Return the tags with their tables; ids of snapshots are text, since they exceed what JSON's numbers hold."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for each in tagged:
        fact = {"table": each.table, "snapshot_id": str(each.snapshot_id)}
        tables.setdefault(each.tag, []).append(fact | {"committed_at": each.committed_at, "rows": each.rows})
    return [{"tag": name, "tables": found} for name, found in tables.items()]
