"""The texts of OpenAPI that belong to no single route: the introduction, and what each status means."""

from typing import Any, Final

from k2_api.http.response_models import ErrorEnvelope

DESCRIPTION: Final = """
Market data of the K2 lakehouse, read only.

Prices and quantities are text with every digit of the venue. Times are UTC, RFC 3339, with microseconds; ranges
include their start and exclude their end. In a URL, write the `+` of a time's offset as `%2B`.

`meta` names the table and the snapshot that an answer was read from; `as_of` asks for an earlier one. All pages of one
answer show the same snapshot; a cursor lives as long as that snapshot is kept (410 afterwards). Answers carry an
`ETag`: send it as `If-None-Match` and get 304 while nothing has changed.

Answers to a key with a rate carry `X-RateLimit-Limit` and `-Remaining`, requests a minute, and `-Reset`, the Unix time
from which more are allowed.

Rows also come as NDJSON, CSV, Parquet or Arrow: send `format`, or its media type as `Accept`. Such a file has
`X-Record-Count`, and `X-Next-Cursor` where more rows follow.

Errors are `{"success": false, "error": {"code", "message", "details"}, "meta"}`.
"""

_WORDS: Final = {
    400: "the cursor is not valid here",
    401: "no key",
    403: "the key is not known, expired or revoked, or does not allow this",
    404: "`as_of` names no snapshot or tag of this table",
    410: "no longer kept; `details.earliest` is the first that is",
    413: "the query needs too much memory, or the body of the request is too large",
    422: "a parameter is unknown, missing or out of bounds",
    429: "the key has used up its requests of this minute; `Retry-After` says how long to wait",
    503: "the lake or the keys cannot be read at the moment",
    504: "the query took too long",
}

REQUEST_HEADERS: Final = ("X-API-Key", "X-Correlation-ID", "If-None-Match", "Content-Type")
"""What a page of another origin may send, where a setting allows its origin."""

ANSWER_HEADERS: Final = (
    "ETag",
    "Retry-After",
    "X-Correlation-ID",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
)
"""What it may read."""

NEWEST_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "unchanged since the `ETag` in `If-None-Match`"},
    **{status: {"model": ErrorEnvelope, "description": _WORDS[status]} for status in (401, 403, 422, 503)},
}
"""Of routes that read no rows and no earlier state."""

READ_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "unchanged since the `ETag` in `If-None-Match`"},
    **{status: {"model": ErrorEnvelope, "description": words} for status, words in _WORDS.items()},
}
