"""ASGI middleware that refuses request bodies above a limit, whether their length is announced or not."""

from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from k2_api.api_errors import HTTP_CODES
from k2_api.http.envelope import problem

MAX_BODY_BYTES: Final = 10_000_000
_REFUSED: Final = "the body of a request may have 10 MB at most; ask in several requests"


class BodyLimit:
    """Answer 413 to a request whose body is too large; no more than the limit is ever read of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("Content-Length", "")
        if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
            answer = problem(413, HTTP_CODES[413], _REFUSED)
            answer.headers["Connection"] = "close"  # the server would read the rest before the next request
            await answer(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:  # whoever reads the body lets this error pass, up to the handler in app.py
                raise HTTPException(413, _REFUSED, {"Connection": "close"})
            return message

        await self._app(scope, counted, send)
