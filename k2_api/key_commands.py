"""The commands ``k2 keys …``: who may ask the API, for what, and until when."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from k2_api.access.caller import DEFAULT_RATE, ROLES
from k2_api.shell.moment import Moment

if TYPE_CHECKING:
    from k2_api.access.caller import Role
    from k2_api.access.key_store import KeyStore, StoredKey
    from k2_api.shell.printing import Form

_FORMS: Final = ("table", "json", "csv")
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}"
_COLUMNS: Final = (
    *("key_id", "name", "role", "state", "exchanges", "asset_classes", "row_limit", "rate"),
    *("created_at", "expires_at", "revoked_at"),
)
_DRAWN: Final = ("key_id", "name", "role", "state", "exchanges", "rate", "expires_at")


@click.group()
def keys() -> None:
    """Create, list and revoke the keys of the REST API.

    The key of the settings, K2_API__KEY, is not among them.
    """


@keys.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default="reader", show_default=True)
@click.option("-e", "--exchange", "exchanges", multiple=True, help="It may see this one; repeat it. Default: all.")
@click.option("--asset-class", "asset_classes", multiple=True, help="It may see this one; repeat it. Default: all.")
@click.option("--row-limit", type=click.IntRange(1), help="Most rows in one answer. Default: what each route allows.")
@click.option(
    "--rate", type=click.IntRange(1, 100_000), default=DEFAULT_RATE, show_default=True, help="Requests a minute."
)
@click.option("--expires", type=Moment(), help="Not valid from this time on: 2027-01-31T00:00:00Z. Default: never.")
@click.option("-o", "--output", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def create(
    *,
    name: str,
    role: "Role",
    exchanges: tuple[str, ...],
    asset_classes: tuple[str, ...],
    row_limit: int | None,
    rate: int,
    expires: datetime | None,
    form: str,
) -> None:
    """Create a key for NAME, and show it this once.

    Only the key goes to standard output, so that a script can catch it; its id and what it allows go to standard error.

    \b
    Example:
      k2 keys create research --role analyst -e binance -e kraken --expires 2027-01-31
    """  # noqa: D301  # \b is click's mark for a paragraph that stays as it is
    from k2_api.access.caller import Caller
    from k2_api.access.entitlements import may_see
    from k2_core.clock import now_us, to_us
    from k2_core.venues import VENUES

    if not re.fullmatch(_NAME, name):
        msg = f"{name!r} is not a name: up to 64 letters, digits, spaces and . _ - @, the first a letter or a digit"
        raise click.BadParameter(msg, param_hint="NAME")
    known = {venue.ASSET_CLASS for venue in VENUES.values()}
    caller = Caller(
        "",
        name,
        role,
        _known(exchanges, set(VENUES), "exchange", "--exchange"),
        _known(asset_classes, known, "asset class", "--asset-class"),
        row_limit,
        rate,
    )
    if not any(may_see(caller, venue) for venue in VENUES):
        raise click.UsageError("the key would see nothing: none of its exchanges is of its asset classes")
    expires_us = None if expires is None else to_us(expires)
    if expires_us is not None and expires_us <= now_us():
        raise click.BadParameter("it lies in the past", param_hint="--expires")
    with _store() as store:
        key, stored = store.create(caller, expires_us)
    row = _row(stored)
    if form == "json":
        click.echo(json.dumps({"key": key, **row}, indent=2))
        return
    click.echo(key)
    click.echo("This key is shown only now: keep it where secrets are kept.", err=True)
    for column in _COLUMNS[:-1]:
        click.echo(f"  {column:<14} {_text(row[column], column)}", err=True)


@keys.command("list")
@click.option("-o", "--output", "form", type=click.Choice(_FORMS), default="table", show_default=True)
def show(form: "Form") -> None:
    """Show every key that was created, with what it allows; neither the keys nor their hashes.

    A terminal shows the main columns; a pipe, JSON and CSV have all.
    """
    from k2_api.shell.printing import print_rows

    with _store() as store:
        rows = [_row(each) for each in store.all()]
    if form != "json":
        rows = [{column: _text(row[column], column) for column in _COLUMNS} for row in rows]
    print_rows(rows, _COLUMNS, form, _DRAWN)


@keys.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """Revoke the key with the id KEY_ID for good; a running API refuses it within seconds."""
    with _store() as store:
        revoked = store.revoke(key_id)
    click.echo(f"The key {key_id} ({revoked.caller.name}) is revoked.")


@keys.command("rotate-cursors")
def rotate_cursors() -> None:
    """Write a new secret for the API's cursors: whoever is paging has to begin again."""
    from k2_api.http.cursors import rotate
    from k2_core.settings import load_settings

    home = load_settings().home
    rotate(home)
    click.echo(f"{home}: cursors have a new secret; a running API refuses those of the old one within seconds.")


@contextmanager
def _store() -> "Iterator[KeyStore]":
    from pyiceberg.catalog.sql import SqlCatalog
    from sqlalchemy.exc import SQLAlchemyError

    from k2_api.access.key_store import KeyStore
    from k2_core.errors import CatalogError
    from k2_core.lake.catalog import open_catalog, require_lake
    from k2_core.settings import load_settings

    settings = load_settings()
    try:
        require_lake(settings)
        catalog = open_catalog(settings)
        assert isinstance(catalog, SqlCatalog)  # noqa: S101  # the only kind that open_catalog opens
        try:
            yield KeyStore(catalog.engine)
        finally:
            catalog.close()
    except SQLAlchemyError as error:
        # The first line says what is wrong; the others repeat the statement, and with it what is secret.
        cause = str(error).partition("\n")[0]
        raise CatalogError(f"the database of the catalog cannot be used: {cause}") from error


def _known(given: tuple[str, ...], known: set[str], what: str, option: str) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(each.strip().lower() for each in given))
    wrong = [each for each in wanted if each not in known]
    if wrong:
        msg = f"{wrong[0]!r} is no {what} of K2; it has {', '.join(sorted(known))}"
        raise click.BadParameter(msg, param_hint=option)
    return wanted


def _row(stored: "StoredKey") -> dict[str, Any]:
    from k2_core.clock import from_us, iso

    caller = stored.caller
    return {
        "key_id": caller.key_id,
        "name": caller.name,
        "role": caller.role,
        "state": stored.state,
        "exchanges": list(caller.exchanges),
        "asset_classes": list(caller.asset_classes),
        "row_limit": caller.row_limit,
        "rate": caller.rate,
        "created_at": iso(from_us(stored.created_us)),
        "expires_at": None if stored.expires_us is None else iso(from_us(stored.expires_us)),
        "revoked_at": None if stored.revoked_us is None else iso(from_us(stored.revoked_us)),
    }


_ABSENT: Final = {"exchanges": "all", "asset_classes": "all", "row_limit": "none", "expires_at": "never"}


def _text(value: object, column: str) -> str:
    if column.endswith("_at") and isinstance(value, str):
        return f"{value[:16]}Z"  # minutes are enough for people
    shown = ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)
    return shown or _ABSENT.get(column, "")
