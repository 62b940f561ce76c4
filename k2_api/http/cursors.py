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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from k2_api.api_errors import BadCursor

_SIGNATURE_BYTES: Final = 16
_SECRET_BYTES: Final = 32


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


def load_cursors(home: Path) -> Cursors:
    """Return the cursors of this home. The first start creates their secret, which only its owner can read."""
    path = home / "keys" / "cursor.key"
    if path.exists():
        return Cursors(path.read_bytes())
    # Written whole under another name, then linked: of several processes that start at once, one provides the secret.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(_SECRET_BYTES))
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass  # another process was first: its secret is read below
    finally:
        draft.unlink()
    return Cursors(path.read_bytes())


_REFUSED: Final = (
    "the cursor is not valid here: send it unchanged, with the key and the parameters of the answer it came from"
)
