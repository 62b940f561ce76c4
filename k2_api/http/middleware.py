"""Around every request: a correlation id, a log line, metrics, and an answer for errors that nobody expected."""

import re
import uuid
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from k2_api.api_errors import HTTP_CODES
from k2_api.http.envelope import problem
from k2_core.clock import monotonic
from k2_core.logs import logger
from k2_core.metrics import HTTP_IN_PROGRESS, HTTP_REQUEST_DURATION, HTTP_REQUESTS, HTTP_RESPONSE_BYTES

HEADER: Final = "X-Correlation-ID"
_ACCEPTED: Final = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
_METHODS: Final = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

log = logger(__name__)


class Observed:
    """ASGI middleware that logs and counts every HTTP request, and answers in the envelope whatever happens."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        correlation_id = given if _ACCEPTED.fullmatch(given) else str(uuid.uuid4())
        # Callers choose ids and methods: both are held to a known form before they get into logs and metrics' labels.
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        answer, started = _Answer(send, correlation_id), monotonic()
        with bound_contextvars(correlation_id=correlation_id), HTTP_IN_PROGRESS.labels(method).track_inprogress():
            try:
                await self._app(scope, receive, answer.send)
            except Exception:  # the process's edge: whatever it was, the caller gets an envelope and the log the cause
                log.exception("request failed", method=method, path=scope["path"])
                if not answer.status:  # else the answer is under way, and can only break off
                    failed = problem(500, HTTP_CODES[500], "something failed here; its log names this correlation id")
                    await failed(scope, receive, answer.send)
            finally:
                _record(scope, answer, method, monotonic() - started)


class _Answer:
    """Pass an answer on, with the correlation id added, and remember its status and size."""

    def __init__(self, send: Send, correlation_id: str) -> None:
        self._send = send
        self._correlation_id = correlation_id
        self.status = 0
        self.size = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[HEADER] = self._correlation_id
        elif message["type"] == "http.response.body":
            self.size += len(message.get("body", b""))
        await self._send(message)


def _record(scope: Scope, answer: _Answer, method: str, seconds: float) -> None:
    # The route's pattern, not the path: a label for each path that somebody tries would fill the metrics' memory.
    endpoint = getattr(scope.get("route"), "path", "unmatched")
    labels = (method, endpoint, str(answer.status))
    HTTP_REQUESTS.labels(*labels).inc()
    HTTP_REQUEST_DURATION.labels(*labels).observe(seconds)
    HTTP_RESPONSE_BYTES.labels(*labels).observe(answer.size)
    log.info(
        "request",
        method=method,
        path=scope["path"],
        endpoint=endpoint,
        status=answer.status,
        bytes=answer.size,
        ms=round(seconds * 1000, 1),
    )
