"""Around every request: ids, headers, a log line, metrics, and an answer for errors that nobody expected."""

import re
import uuid
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from k2_api.api_errors import HTTP_CODES
from k2_api.http.audit_line import body_of, path_of, question_of
from k2_api.http.envelope import problem
from k2_api.http.request_record import RequestRecord, recording
from k2_api.http.security_headers import security_headers
from k2_core.clock import monotonic
from k2_core.logs import logger
from k2_core.metrics import HTTP_IN_PROGRESS, HTTP_REQUEST_DURATION, HTTP_REQUESTS, HTTP_RESPONSE_BYTES

HEADER: Final = "X-Correlation-ID"
_ACCEPTED: Final = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
_METHODS: Final = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

log = logger(__name__)


class Observed:
    """ASGI middleware that logs and counts every HTTP request, and answers in the envelope whatever happens.

    ``own_key``, the key of the settings, is in no log line.
    """

    def __init__(self, app: ASGIApp, own_key: str) -> None:
        self._app = app
        self._own_key = own_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        correlation_id = given if _ACCEPTED.fullmatch(given) else str(uuid.uuid4())
        # Callers choose ids and methods: both are held to a known form before they get into logs and metrics' labels.
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        with (
            bound_contextvars(correlation_id=correlation_id),
            HTTP_IN_PROGRESS.labels(method).track_inprogress(),
            recording() as record,
        ):
            headers = {HEADER: correlation_id, **security_headers(scope["path"])}
            answer, started = _Answer(send, headers, record), monotonic()
            try:
                await self._app(scope, receive, answer.send)
            except Exception:  # the process's edge: whatever it was, the caller gets an envelope and the log the cause
                log.exception("request failed", method=method, path=path_of(scope["path"]))
                if not answer.status:  # else the answer is under way, and can only break off
                    failed = problem(500, HTTP_CODES[500], "something failed here; its log names this correlation id")
                    await failed(scope, receive, answer.send)
            finally:
                self._write(scope, answer, method, monotonic() - started)

    def _write(self, scope: Scope, answer: "_Answer", method: str, seconds: float) -> None:
        # The route's pattern, not the path: a label for each path that somebody tries would fill the metrics' memory.
        endpoint = getattr(scope.get("route"), "path", "unmatched")
        labels = (method, endpoint, str(answer.status))
        HTTP_REQUESTS.labels(*labels).inc()
        HTTP_REQUEST_DURATION.labels(*labels).observe(seconds)
        HTTP_RESPONSE_BYTES.labels(*labels).observe(answer.size)
        # Of a route that needs a key the line is the audit: who asked what, and how much of it was answered.
        asked: dict[str, object] = {}
        if answer.record.is_keyed:
            question = question_of(scope["path"], scope["query_string"], self._own_key)
            asked = {"key": answer.record.key_id, "question": question, "rows": answer.record.rows}
            if answer.record.body is not None:
                asked["body"] = body_of(answer.record.body, self._own_key)
        log.info(
            "request",
            method=method,
            path=path_of(scope["path"]),
            endpoint=endpoint,
            status=answer.status,
            bytes=answer.size,
            ms=round(seconds * 1000, 1),
            **asked,
        )


class _Answer:
    """Pass an answer on with more headers, and remember its status and size."""

    def __init__(self, send: Send, headers: dict[str, str], record: RequestRecord) -> None:
        self._send = send
        self._headers = headers
        self.record = record
        self.status = 0
        self.size = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message).update(self._headers | self.record.headers)
        elif message["type"] == "http.response.body":
            self.size += len(message.get("body", b""))
        await self._send(message)
