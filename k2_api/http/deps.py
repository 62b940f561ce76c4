"""The dependencies of routes: the caller's key, the lake, cursors. Each is one named alias."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import pyarrow as pa
from fastapi import Depends, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyHeader
from starlette.responses import Response

from k2_api.access.caller import Caller
from k2_api.access.entitlements import allowed_exchanges, allowed_rows
from k2_api.access.known_keys import KnownKeys
from k2_api.access.rate_limits import RateLimits
from k2_api.api_errors import FilesGone, NoKey, NotEntitled, RateLimited
from k2_api.http import request_record
from k2_api.http.cursors import Position, RotatedCursors
from k2_api.lake.file_index import Filter
from k2_api.lake.lake_reader import LakeReader
from k2_core.metrics import RATE_LIMITED
from k2_core.settings import Settings

_HEADER = APIKeyHeader(
    name="X-API-Key", scheme_name="key", description="your key; `k2 status --json` shows it", auto_error=False
)


@dataclass(frozen=True)
class Services:
    """The objects that live as long as the application."""

    settings: Settings
    lake: LakeReader
    cursors: RotatedCursors
    keys: KnownKeys
    rates: RateLimits

    @classmethod
    def of(cls, settings: Settings) -> "Services":
        lake, cursors = LakeReader(settings), RotatedCursors(settings.home)
        return cls(settings, lake, cursors, KnownKeys(settings), RateLimits(settings))

    def close(self) -> None:
        self.lake.close()
        self.keys.close()


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


def caller(request: Request, key: Annotated[str | None, Security(_HEADER)]) -> Caller:
    """Return whose key the request carries, and count the request.

    Raises:
        NoKey: there is none.
        WrongKey, RevokedKey, ExpiredKey: it is not known, or no longer valid.
        RateLimited: it has used up its requests of this minute.
        KeysUnavailable: the database of the keys cannot be read.
    """
    record, found = request_record.current(), services(request)
    record.is_keyed = True
    if not key:
        raise NoKey("send your key in the header X-API-Key")
    stored = found.keys.find(key)
    record.key_id = stored.caller.key_id
    stored.require_valid()
    spent = found.rates.spend(stored.caller)
    if spent is not None:
        record.note_rate(spent)
        if not spent.allowed:
            RATE_LIMITED.inc()
            raise RateLimited(f"your key allows {spent.limit} requests a minute; ask again in {spent.retry_after_s} s")
    return stored.caller


TheCaller = Annotated[Caller, Depends(caller)]


def once_each(request: Request, _: TheCaller) -> None:
    """Refuse a parameter that appears twice: one of the two would silently be dropped. The key is looked at first.

    Raises:
        RequestValidationError: naming the parameters.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RequestValidationError([{"loc": ("query", name), "msg": "given more than once"} for name in twice])


@dataclass(frozen=True)
class Reading:
    """One request's access to the lake and to cursors."""

    services: Services
    caller: Caller
    request: Request

    def narrowed(self, where: Filter) -> Filter:
        """Return a question narrowed to what the caller may see; call it before anything is read or found unchanged.

        Raises:
            NotEntitled: the caller may not see what is asked for.
        """
        return replace(where, exchanges=allowed_exchanges(self.caller, where.exchanges))

    def require_every_exchange(self) -> None:
        """Refuse an answer that counts rows of all exchanges to a caller who may not see them all.

        Raises:
            NotEntitled: the caller's key is for some exchanges or asset classes.
        """
        if allowed_exchanges(self.caller, ()):
            raise NotEntitled("this answer is about all exchanges, and your key is for some of them")

    def rows(self, limit: int) -> int:
        """Return the most rows of an answer of which at most ``limit`` were asked for."""
        return allowed_rows(self.caller, limit)

    def all_rows(self, rows: pa.Table) -> pa.Table:
        """Return the rows of an answer that has no pages.

        Raises:
            NotEntitled: they are more than the caller's row limit.
        """
        limit = self.rows(rows.num_rows)
        if rows.num_rows > limit:
            raise NotEntitled(
                f"this answer has {rows.num_rows} rows, and your key allows {limit}; ask for one exchange"
            )
        return rows

    def position(self, cursor: str | None, query: str) -> Position | None:
        """Return where the page before ended; None for a first page."""
        if cursor is None:
            return None
        return self.services.cursors.now().read(cursor, self.caller.key_id, self._bound(query))

    def next_cursor(self, position: Position, query: str) -> str:
        """Return the cursor of the next page."""
        return self.services.cursors.now().write(position, self.caller.key_id, self._bound(query))

    def answer(self, compute: Callable[[], Response]) -> Response:
        """Return ``compute()``; call it once more if maintenance removed files while it read them."""
        try:
            return compute()
        except FilesGone:
            return compute()

    def _bound(self, query: str) -> str:  # a cursor of one route is refused by another
        return f"{self.request.url.path}?{query}"


def reading(found: Annotated[Services, Depends(services)], asking: TheCaller, request: Request) -> Reading:
    return Reading(found, asking, request)


TheServices = Annotated[Services, Depends(services)]
TheReading = Annotated[Reading, Depends(reading)]
