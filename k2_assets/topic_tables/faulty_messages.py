"""Rows that cannot be written because of what a few messages hold: find those messages, so that the others go on.

Nothing here knows a table: what is tried is a function, what is found are positions of messages.
"""

import re
import sqlite3
import traceback
from collections.abc import Callable
from typing import Any, Final, TypeVar

import pyarrow as pa
from confluent_kafka import KafkaException
from sqlalchemy.exc import SQLAlchemyError

from k2_core.errors import K2Error, NotStorable, readable
from k2_core.logs import logger

log = logger(__name__)

REASON: Final = "not_storable"
_MOST: Final = 100
_MOST_PERCENT: Final = 1
_ALWAYS: Final = 10  # of a small batch: a hundredth of it would be less than one message
# Of the machine, of a service, or what K2 says on purpose: never of what a message holds.
_NOT_OF_CONTENT: Final = (MemoryError, OSError, K2Error, KafkaException, SQLAlchemyError, sqlite3.Error)
_NUMBERS: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]*[0-9][0-9a-f]*")
_Made = TypeVar("_Made")


def attempt(make: Callable[[], _Made], isolated: Callable[[str], _Made]) -> _Made:
    """Return what ``make`` returns; if it fails twice in the same way, and of some content, what ``isolated`` does.

    Args:
        make: what is to be done; may be called twice.
        isolated: finds what makes it fail, given the error, and does it without that.
    """
    try:
        return make()
    except BaseException as error:
        if not _is_of_content(error):
            raise
        first = _shape(error)
    try:
        return make()
    except BaseException as error:
        if not _is_of_content(error) or _shape(error) != first:
            raise
        said = _said(error)
        # As text: a renderer may show every local variable of every frame, and these hold whole batches.
        where = traceback.format_exc()
        log.error("a batch cannot be stored; looking for the messages", error=said, traceback=where)  # noqa: TRY400
    return isolated(said)


def culprits(count: int, make: Callable[[int, int], object], topic: str, error: str) -> dict[int, str]:
    """Return which of ``count`` messages cannot be made into what they should, and why: found by halves.

    Args:
        count: of the messages.
        make: is tried with positions [first, end).
        topic: of the messages.
        error: that all of them together gave.

    Raises:
        NotStorable: they are too many for a fault of content, or none.
    """
    most = min(_MOST, max(count * _MOST_PERCENT // 100, _ALWAYS))
    found: dict[int, str] = {}
    parts = [(0, count)]
    while parts and len(found) <= most:
        first, end = parts.pop()
        try:
            make(first, end)
        except BaseException as fault:
            if not _is_of_content(fault):
                raise
            if end - first > 1:
                middle = (first + end) // 2
                parts += [(middle, end), (first, middle)]
            else:
                found[first] = f"{REASON}: {readable(_shape(fault))}"
    if not found or len(found) > most:
        many = f"over {most} of {count:,} messages are at fault" if found else "no single message is at fault"
        msg = f"a batch of {topic} cannot be stored ({error}), and {many}: see the drain's log, and update or mend K2"
        raise NotStorable(msg)
    log.error("messages are stored as bytes alone", topic=topic, messages=len(found), error=error)
    return found


def harmless_row(schema: pa.Schema) -> pa.Table:
    """Return one row with nothing in it that a table could refuse."""
    return pa.table([pa.array([_harmless(field.type)], field.type) for field in schema], schema=schema)


def _harmless(kind: pa.DataType) -> Any:
    if pa.types.is_nested(kind):
        return []
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return ""
    return b"" if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else 0


def _is_of_content(error: BaseException) -> bool:
    # A library in Rust panics with an exception of its own, which is no Exception.
    of_a_library = isinstance(error, Exception) or type(error).__name__ == "PanicException"
    return of_a_library and not isinstance(error, _NOT_OF_CONTENT)


def _shape(error: BaseException) -> str:
    """Return an error's words without numbers, such as those in the names of files: the same each time."""
    return _NUMBERS.sub("#", _said(error))


def _said(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
