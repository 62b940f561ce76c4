"""ETag and Cache-Control: an answer changes only with the key, the question and the states of its tables."""

import hashlib
from collections.abc import Callable, Iterable

from starlette.requests import Request
from starlette.responses import Response

from k2_api.http import request_record
from k2_api.lake.table_versions import TableState
from k2_api.version import VERSION


def conditional(
    request: Request, tables: Iterable[TableState], max_age_s: int, answer: Callable[[], Response], form: str = "json"
) -> Response:
    """Return 304 if the caller already has this answer, in this form, else the answer; it is made only then."""
    snapshots = ",".join(f"{table.name}@{table.version}" for table in tables)
    # Two keys may see different rows, so that an answer to one is never "unchanged" for the other.
    key_id = request_record.current().key_id
    question = f"{VERSION}|{key_id}|{form}|{request.url.path}|{sorted(request.query_params.multi_items())}|{snapshots}"
    # Weak: `meta.timestamp` and the correlation id differ between two answers to the same question.
    tag = f'W/"{hashlib.sha256(question.encode()).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": f"private, max-age={max_age_s}", "Vary": "X-API-Key, Accept"}
    known = [each.strip() for each in request.headers.get("If-None-Match", "").split(",")]
    if tag in known or tag.removeprefix("W/") in known or "*" in known:
        return Response(status_code=304, headers=headers)
    found = answer()
    found.headers.update(headers)
    return found
