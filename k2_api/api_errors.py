"""The API's errors, and one table from error to HTTP status. Routes have no try/except.

ApiError
├── NoKey              the request carries no key
├── WrongKey           the key is not known
├── RevokedKey         the key was revoked
├── ExpiredKey         the key's time is over
├── NotEntitled        the key does not allow what is asked for
├── RateLimited        the key has used up its requests of this minute
├── KeysUnavailable    the database of the keys cannot be read
├── BadCursor          a cursor was tampered with, or belongs to another key or query
├── UnknownSnapshot    as_of names a snapshot or tag that the table does not have
├── NoLongerKept       the snapshot asked for has expired, or the time lies before the first kept one
├── QueryTimeout       the query took longer than it may
├── QueryTooLarge      the query needs more memory than it may use
├── LakeUnavailable    the catalog or a file of the lake cannot be read
└── FilesGone          files were removed between planning and reading; planning again helps
"""

from typing import Final

from k2_core.errors import K2Error


class ApiError(K2Error):
    """Root of the API's own errors; ``details`` is shown to the caller beside the sentence."""

    def __init__(self, message: str, details: object = None) -> None:
        super().__init__(message)
        self.details = details


class NoKey(ApiError):
    """The request carries no key."""


class WrongKey(ApiError):
    """The key is not known."""


class RevokedKey(ApiError):
    """The key was revoked."""


class ExpiredKey(ApiError):
    """The key's time is over."""


class NotEntitled(ApiError):
    """The key does not allow what is asked for."""


class RateLimited(ApiError):
    """The key has used up its requests of this minute."""


class KeysUnavailable(ApiError):
    """The database of the keys cannot be read."""


class BadCursor(ApiError):
    """A cursor was tampered with, or belongs to another key or query."""


class UnknownSnapshot(ApiError):
    """``as_of`` names a snapshot or tag that the table does not have."""


class NoLongerKept(ApiError):
    """The snapshot asked for has expired, or the time lies before the first kept one."""


class QueryTimeout(ApiError):
    """The query took longer than it may."""


class QueryTooLarge(ApiError):
    """The query needs more memory than it may use."""


class LakeUnavailable(ApiError):
    """The catalog or a file of the lake cannot be read."""


class FilesGone(LakeUnavailable):
    """Files were removed between planning and reading; planning again helps."""


STATUS: Final[dict[type[ApiError], tuple[int, str]]] = {
    NoKey: (401, "no_key"),
    WrongKey: (403, "wrong_key"),
    RevokedKey: (403, "key_revoked"),
    ExpiredKey: (403, "key_expired"),
    NotEntitled: (403, "not_entitled"),
    RateLimited: (429, "rate_limited"),
    KeysUnavailable: (503, "keys_unavailable"),
    BadCursor: (400, "invalid_cursor"),
    UnknownSnapshot: (404, "unknown_snapshot"),
    NoLongerKept: (410, "no_longer_kept"),
    QueryTooLarge: (413, "query_too_large"),
    QueryTimeout: (504, "query_timed_out"),
    LakeUnavailable: (503, "lake_unavailable"),
    FilesGone: (503, "lake_unavailable"),
}

HTTP_CODES: Final = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    422: "invalid_parameters",
    500: "internal_error",
}
