"""Make what several processes may make at the same moment in an SQL database: each of them goes on."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Engine, Table
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

_Made = TypeVar("_Made")


def made_once(make: Callable[[], _Made], *, things: int = 1) -> _Made:
    """Return what ``make`` makes where it is missing.

    Each of the ``things`` that it makes may be there all of a sudden, after it was seen to be missing. The database
    then refuses it with one of three errors, by its kind and the moment, and ``make`` finds it when it is called again.
    """
    for _ in range(things):
        try:
            return make()
        except (IntegrityError, OperationalError, ProgrammingError):
            continue
    return make()


def ensure_table(engine: Engine, table: Table) -> None:
    """Make a table of K2's own in a database, if it is not there."""
    made_once(lambda: table.create(engine, checkfirst=True))
