"""What the parts that answer a request note for its log line and its headers; middleware.py writes both."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from k2_api.access.rate_limits import Spent


@dataclass
class RequestRecord:
    """Notes of one request.

    ``rows`` are those of its answer, ``body`` is its question where that was sent as a body; ``is_keyed`` is set by a
    route that needs a key.
    """

    is_keyed: bool = False
    key_id: str | None = None
    rows: int = 0
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def note_rate(self, spent: Spent) -> None:
        """Have every answer say what is left of the key's rate."""
        self.headers["X-RateLimit-Limit"] = str(spent.limit)
        self.headers["X-RateLimit-Remaining"] = str(spent.remaining)
        self.headers["X-RateLimit-Reset"] = str(ceil(spent.reset_s))
        if not spent.allowed:
            self.headers["Retry-After"] = str(spent.retry_after_s)


# Threads that serve a part of a request get a copy of its context, and so the same record.
_CURRENT: Final[ContextVar[RequestRecord]] = ContextVar("request_record")


@contextmanager
def recording() -> Iterator[RequestRecord]:
    """Begin the record of a request."""
    record = RequestRecord()
    token = _CURRENT.set(record)
    try:
        yield record
    finally:
        _CURRENT.reset(token)


def current() -> RequestRecord:
    """Return the record of the request that is being answered."""
    return _CURRENT.get()
