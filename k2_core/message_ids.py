"""The id of a row wherever and whenever it is read: the UUIDv5 of its natural key, one by one or many at once."""

import hashlib
import uuid
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

_HEX: Final = np.frombuffer(bytes(range(256)).hex().encode(), dtype=np.uint8).reshape(256, 2)
_UUID_GROUPS: Final = ((0, 8, 0), (8, 12, 9), (12, 16, 14), (16, 20, 19), (20, 32, 24))


def message_id(namespace: uuid.UUID, exchange: str, symbol: str, venue_id: str) -> str:
    """Return the UUIDv5 (RFC 9562, section 5.5) of a natural key."""
    return str(uuid.uuid5(namespace, f"{exchange}|{symbol}|{venue_id}"))


def message_ids(
    namespace: uuid.UUID, exchange: str, symbols: Sequence[str], venue_ids: Sequence[str]
) -> npt.NDArray[np.bytes_]:
    """Return :func:`message_id` of many keys, made side by side: an array of 36 ASCII bytes each."""
    # The SHA-1 of a key begins with what all ids of a symbol share: it is hashed once, and copied for each id.
    seeds = {
        symbol: hashlib.sha1(namespace.bytes + f"{exchange}|{symbol}|".encode(), usedforsecurity=False)
        for symbol in set(symbols)
    }
    digests = []
    for symbol, venue_id in zip(symbols, venue_ids, strict=True):
        digest = seeds[symbol].copy()
        digest.update(venue_id.encode())
        digests.append(digest.digest())
    # From here on all ids at once: the first 16 of 20 bytes, six bits of them fixed by the RFC, then two hexadecimal
    # digits for each byte, and those in five groups between hyphens.
    octets = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 20)[:, :16].copy()
    octets[:, 6] = octets[:, 6] & 0x0F | 0x50  # version 5
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80  # the RFC's variant
    hexadecimal = _HEX[octets].reshape(-1, 32)
    text = np.full((len(digests), 36), ord("-"), dtype=np.uint8)
    for first, end, at in _UUID_GROUPS:
        text[:, at : at + end - first] = hexadecimal[:, first:end]
    return text.view("S36").reshape(-1)
