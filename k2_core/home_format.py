"""The format number of a home: which K2 may open it. It is kept in the catalog's database, beside what it speaks of.

Without SQLAlchemy, so that a command can refuse a home before it has loaded or changed anything.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from k2_core.errors import CatalogError, NewerHome
from k2_core.settings import Settings

FORMAT: Final = 1
"""What this K2 makes. Raise it when an earlier K2 could no longer read a home, or go on with it, without harm."""

BEFORE_NUMBERS: Final = 0
"""The format of a home that was made before homes carried a number."""

NEWEST: Final = "SELECT MAX(format) FROM k2_format"


def require_known_home(settings: Settings, *, wait_s: float = 30.0) -> None:
    """Refuse a home that a newer K2 made, from its own catalog file; changes nothing.

    A catalog elsewhere (``K2_CATALOG__URI``) is asked when it is opened.

    Args:
        settings: whose home.
        wait_s: for how long to wait while another program holds the catalog.

    Raises:
        CatalogError: the catalog cannot be read.
        NewerHome: this K2 does not know the home's format.
    """
    path = settings.home / "catalog.db"
    if settings.catalog.uri is None and path.is_file():
        require_known(_format_in(path, wait_s), str(settings.home))


def require_known(found: int, home: str) -> None:
    """Refuse a format that is newer than this K2's.

    Raises:
        NewerHome: with both numbers.
    """
    if found > FORMAT:
        msg = (
            f"{home} has format {found}, and this version of K2 knows formats up to {FORMAT}: "
            "use the newer version of K2 that made it, or set K2_HOME to another home."
        )
        raise NewerHome(msg)


def _format_in(path: Path, wait_s: float) -> int:
    """Read the number; a connection that could not write would leave SQLite's own files behind."""
    uri = f"file:{quote(str(path))}?mode=rw"
    try:
        # A home from before there were numbers has no such table; a kill while it is made leaves it empty.
        with closing(sqlite3.connect(uri, uri=True, timeout=wait_s)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'k2_format'").fetchone():
                return BEFORE_NUMBERS
            (found,) = connection.execute(NEWEST).fetchone()
    except sqlite3.Error as error:
        what = (
            "end the program that holds it" if "locked" in str(error) else "see that it can be read, or put back a copy"
        )
        msg = f"the catalog {path} cannot be read ({error}): {what}, or set K2_HOME to another home."
        raise CatalogError(msg) from None
    return BEFORE_NUMBERS if found is None else int(found)
