"""Find the few messages whose content stops a batch from being stored, so that the others go on.

Nothing here knows a table: callers pass a function to try, and get the positions of messages.
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
# Faults of the machine or of a service, and K2's own errors: never of what a message holds.
_NOT_OF_CONTENT: Final = (MemoryError, OSError, K2Error, KafkaException, SQLAlchemyError, sqlite3.Error)
_NUMBERS: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]*[0-9][0-9a-f]*")
_Made = TypeVar("_Made")


def attempt(make: Callable[[], _Made], isolated: Callable[[str], _Made]) -> _Made:
    """Return what ``make`` returns; if some content makes it fail twice in the same way, what ``isolated`` returns.

    Args:
        make: may be called twice.
        isolated: finds what makes it fail, given the error, and does the same without that.
    """
    # A fault of content is the same each time. One that passes, or differs, is of the machine: it is raised, and the
    # batch is read again later.
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
        sentence = _sentence(error)
        # As text: a renderer may show every local variable of every frame, and these hold whole batches.
        where = traceback.format_exc()
        log.error("a batch cannot be stored; looking for the messages", error=sentence, traceback=where)  # noqa: TRY400
    return isolated(sentence)


def culprits(count: int, make: Callable[[int, int], object], topic: str, error: str) -> dict[int, str]:
    """Return which of ``count`` messages ``make`` fails on, and why: found by halves, in their order.

    Args:
        count: of the messages.
        make: is tried with positions [first, end).
        topic: of the messages.
        error: that all of them together raised.

    Raises:
        NotStorable: they are too many for a fault of content, or none.
    """
    # A part that works holds no culprit. One that fails is halved, down to single messages: a few culprits among n
    # messages cost a few times log2(n) tries. More of them than `most` is no accident of content but a fault of K2.
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
    columns = []
    for kind in schema.types:
        value: Any = 0
        if pa.types.is_nested(kind):
            value = []
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            value = ""
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            value = b""
        columns.append(pa.array([value], kind))
    return pa.table(columns, schema=schema)


def _is_of_content(error: BaseException) -> bool:
    # A library in Rust panics with an exception of its own, which is no Exception.
    of_a_library = isinstance(error, Exception) or type(error).__name__ == "PanicException"
    return of_a_library and not isinstance(error, _NOT_OF_CONTENT)


def _shape(error: BaseException) -> str:
    """Return an error's sentence without numbers, such as those in the names of files: the same each time."""
    return _NUMBERS.sub("#", _sentence(error))


def _sentence(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
