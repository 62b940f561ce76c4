"""ETag and Cache-Control: an answer changes only with the question and the states of its tables. Pure."""

import hashlib
from collections.abc import Callable, Iterable

from starlette.requests import Request
from starlette.responses import Response

from k2_api.lake.table_versions import TableState
from k2_api.version import VERSION


def conditional(request: Request, tables: Iterable[TableState], max_age_s: int, body: Callable[[], bytes]) -> Response:
    """Return 304 if the caller already has this answer, else the answer; ``body`` is called only then."""
    snapshots = ",".join(f"{table.name}@{table.version}" for table in tables)
    question = f"{VERSION}|{request.url.path}|{sorted(request.query_params.multi_items())}|{snapshots}"
    # Weak: `meta.timestamp` and the correlation id differ between two answers to the same question.
    tag = f'W/"{hashlib.sha256(question.encode()).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": f"private, max-age={max_age_s}", "Vary": "X-API-Key"}
    known = [each.strip() for each in request.headers.get("If-None-Match", "").split(",")]
    if tag in known or tag.removeprefix("W/") in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(body(), headers=headers, media_type="application/json")
