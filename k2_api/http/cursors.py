"""Cursors: where a page ended and which snapshots it showed, signed, and bound to the key and the query.

The server keeps no state of a paging caller: the cursor holds all of it. The signature (HMAC-SHA-256 over the key, the
query and the position) makes it unusable with another key, another query, or a position that the API did not write.
"""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from k2_api.api_errors import BadCursor
from k2_core.clock import monotonic
from k2_core.errors import SettingsError

_SIGNATURE_BYTES: Final = 16
_SECRET_BYTES: Final = 32
_KEPT_S: Final = 2.0


class Position(msgspec.Struct, frozen=True):
    """The snapshots that an answer shows, and the sort key of a page's last row."""

    snapshots: tuple[int | None, ...]
    last: tuple[int | str, ...]


@dataclass(frozen=True)
class Cursors:
    """Write and read cursors with one secret."""

    secret: bytes = field(repr=False)

    def write(self, position: Position, key: str, query: str) -> str:
        """Return the cursor of a position for this key and query, as URL-safe text."""
        body = msgspec.json.encode(position)
        # Without padding: "=" would have to be escaped in a URL.
        return base64.urlsafe_b64encode(self._signature(body, key, query) + body).rstrip(b"=").decode()

    def read(self, cursor: str, key: str, query: str) -> Position:
        """Return the position of a cursor.

        Raises:
            BadCursor: it was not made by :meth:`write` with this secret, key and query.
        """
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise BadCursor(_REFUSED) from None
        signature, body = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        # The position is decoded only once it is known to be our own.
        if not hmac.compare_digest(signature, self._signature(body, key, query)):
            raise BadCursor(_REFUSED)
        return msgspec.json.decode(body, type=Position)

    def _signature(self, body: bytes, key: str, query: str) -> bytes:
        # Each part is hashed by itself: joined as they are, a byte could move from the end of one to the next.
        bound = b"".join(hashlib.sha256(part).digest() for part in (key.encode(), query.encode(), body))
        return hmac.digest(self.secret, bound, "sha256")[:_SIGNATURE_BYTES]


class RotatedCursors:
    """The cursors of a home, whose secret an operator may rotate: the new one is used within two seconds."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._read = monotonic(), load_cursors(home)

    def now(self) -> Cursors:
        """Return the cursors of the present secret."""
        asked, cursors = monotonic(), self._read[1]
        if asked - self._read[0] >= _KEPT_S:
            cursors = load_cursors(self._home)
            self._read = asked, cursors
        return cursors


def load_cursors(home: Path) -> Cursors:
    """Return the cursors of this home. The first start creates their secret, which only its owner can read."""
    path = _path(home)
    if not path.exists():
        with _draft(path) as draft, suppress(FileExistsError):  # another process was first: its secret is read below
            path.hardlink_to(draft)
    return Cursors(path.read_bytes())


def rotate(home: Path) -> None:
    """Replace the secret of a home: cursors of the old one are refused from then on.

    Raises:
        SettingsError: the home has no secret, and so no cursors.
    """
    path = _path(home)
    if not path.exists():
        msg = f"no API has been started in {home}, so there are no cursors: set K2_HOME to the home of one."
        raise SettingsError(msg)
    with _draft(path) as draft:
        draft.replace(path)


def _path(home: Path) -> Path:
    return home / "keys" / "cursor.key"


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """Write a secret, whole and on the disk, beside ``path``, for whoever gives it that name."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
            file.flush()
            os.fsync(descriptor)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


_REFUSED: Final = (
    "the cursor is not valid here: send it unchanged, with the key and the parameters of the answer it came from"
)
