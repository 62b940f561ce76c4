"""A commit is tried again where another writer was first: the one loop of all that commit beside others."""

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from pyiceberg.table import Table

from k2_core.errors import CommitConflict

ATTEMPTS: Final = 20
_PAUSE_S: Final = 0.05  # at most, between two
_Made = TypeVar("_Made")


def until_committed(
    load: Callable[[], Table],
    attempt: Callable[[Table], _Made | None],
    *,
    table: Table | None = None,
    attempts: int = ATTEMPTS,
) -> _Made:
    """Return what ``attempt`` makes of the table's newest state.

    Args:
        load: loads that state.
        attempt: commits once; None where another writer was first, or the outcome is unknown and to be judged by the
            state that is loaded next. An error that it raises is final.
        table: that state, where it is loaded already.
        attempts: how often it is tried at most.

    Raises:
        CommitConflict: other writers were first every time.
    """
    for number in range(attempts):
        if number:
            time.sleep(_PAUSE_S * random.random())  # noqa: S311  # jitter, no secret
        newest, table = load() if table is None else table, None
        made = attempt(newest)
        if made is not None:
            return made
    msg = f"{newest.name()[-1]} was moved by other writers {attempts} times in a row"
    raise CommitConflict(msg)
