"""The dependencies of routes: the caller's key, the lake, cursors. Each is one named alias."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyHeader
from starlette.responses import Response

from k2_api.api_errors import FilesGone, NoKey, WrongKey
from k2_api.http.cursors import Cursors, Position
from k2_api.lake.lake_reader import LakeReader
from k2_core.settings import Settings

_HEADER = APIKeyHeader(
    name="X-API-Key", scheme_name="key", description="your key; `k2 status --json` shows it", auto_error=False
)


@dataclass(frozen=True)
class Services:
    """The objects that live as long as the application."""

    settings: Settings
    lake: LakeReader
    cursors: Cursors


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


def caller(request: Request, key: Annotated[str | None, Security(_HEADER)]) -> str:
    """Return the caller's key.

    Raises:
        NoKey: there is none.
        WrongKey: it is not the one in the settings.
    """
    if not key:
        raise NoKey("send your key in the header X-API-Key")
    expected = services(request).settings.api.key.get_secret_value()
    # Digests have one length: the time of the comparison depends neither on the key's length nor on its first bytes.
    digests = (hashlib.sha256(text.encode()).digest() for text in (key, expected))
    if not hmac.compare_digest(*digests):
        raise WrongKey("the key in X-API-Key is not known here")
    return key


def once_each(request: Request) -> None:
    """Refuse a parameter that appears twice: one of the two would silently be dropped.

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
    key: str = field(repr=False)
    request: Request

    def position(self, cursor: str | None, query: str) -> Position | None:
        """Return where the page before ended; None for a first page."""
        return self.services.cursors.read(cursor, self.key, self._bound(query)) if cursor is not None else None

    def next_cursor(self, position: Position, query: str) -> str:
        """Return the cursor of the next page."""
        return self.services.cursors.write(position, self.key, self._bound(query))

    def answer(self, compute: Callable[[], Response]) -> Response:
        """Return ``compute()``; call it once more if maintenance removed files while it read them."""
        try:
            return compute()
        except FilesGone:
            return compute()

    def _bound(self, query: str) -> str:  # a cursor of one route is refused by another
        return f"{self.request.url.path}?{query}"


def reading(
    found: Annotated[Services, Depends(services)], key: Annotated[str, Depends(caller)], request: Request
) -> Reading:
    return Reading(found, key, request)


TheServices = Annotated[Services, Depends(services)]
TheReading = Annotated[Reading, Depends(reading)]
