"""Tell which streams a recorded frame belongs to, venue by venue. Pure.

None: nothing in it says so. REPLY: it answered the recorder, or kept its connection alive, and is nobody else's.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

REPLY: Final = ("",)
Streams = tuple[str, ...]
_WRAPPED: Final = re.compile(rb'\s*\{\s*"stream"\s*:\s*"([^"\\]+)"')
_CHANNEL: Final = re.compile(rb'"channel"\s*:\s*"([a-z_0-9]+)"')
_SYMBOL: Final = re.compile(rb'"(?:symbol|product_id)"\s*:\s*"([^"\\]+)"')
_HEAD_BYTES: Final = 200


class _Loose(msgspec.Struct):
    stream: object = None
    e: object = None
    s: object = None
    u: object = None
    result: object = msgspec.UNSET
    error: object = msgspec.UNSET
    code: object = msgspec.UNSET


_loose: Final = msgspec.json.Decoder(_Loose)


def of_binance(frame: bytes) -> Streams | None:
    """Return the stream of a frame, whether wrapped or raw; one that is cut off may still name it."""
    wrapped = _WRAPPED.match(frame)
    if wrapped is not None:
        return (wrapped[1].decode("utf-8", "replace"),)
    try:
        loose = _loose.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(loose.stream, str):
        return (loose.stream,)
    if isinstance(loose.s, str) and isinstance(loose.e, str):
        return (f"{loose.s.lower()}@{loose.e}",)
    if isinstance(loose.s, str) and isinstance(loose.u, int):
        return (f"{loose.s.lower()}@bookTicker",)
    answers = any(part is not msgspec.UNSET for part in (loose.result, loose.error, loose.code))
    return REPLY if answers else None


def is_raw(frame: bytes) -> bool:
    """Whether a frame that :func:`of_binance` attributes is an event alone, as on /ws, and names no stream."""
    return _WRAPPED.match(frame) is None and not isinstance(_loose.decode(frame).stream, str)


def of_kraken(frame: bytes) -> Streams | None:
    """Return ``channel:symbol`` for every symbol of a frame: ``{"channel":"trade","data":[{"symbol":"BTC/USD",…``."""
    channel = _channel(frame)
    told = channel is not None and b'"method"' not in frame  # a reply to a request names the channel too
    if channel in {"status", "heartbeat"} or (not told and _is_reply(frame, ("method", "error"))):
        return REPLY
    return _streams(channel, frame) if channel else None


def of_coinbase(frame: bytes) -> Streams | None:
    """Return ``channel:product`` for every product of a frame; heartbeats belong to those who subscribed to them."""
    channel = _channel(frame)
    if channel == "subscriptions" or (channel is None and _is_reply(frame, ("type",))):
        return REPLY
    if channel == "heartbeats":
        return ("heartbeats",)
    return _streams("level2" if channel == "l2_data" else channel, frame) if channel else None


OF_VENUE: Final[dict[str, Callable[[bytes], Streams | None]]] = {
    "binance": of_binance,
    "kraken": of_kraken,
    "coinbase": of_coinbase,
}


def symbol_of(stream: str) -> str | None:
    """Return the symbol that a stream is of; None when it is of none in particular."""
    if "@" in stream:
        return None if stream.startswith("!") else stream.partition("@")[0].upper()
    return stream.partition(":")[2] or None


def _channel(frame: bytes) -> str | None:
    found = _CHANNEL.search(frame, 0, _HEAD_BYTES)
    if found is not None:
        return found[1].decode()
    loose = _decoded(frame)
    channel = loose.get("channel") if loose else None
    return channel if isinstance(channel, str) else None


def _streams(channel: str, frame: bytes) -> Streams | None:
    names = dict.fromkeys(symbol.decode("utf-8", "replace") for symbol in _SYMBOL.findall(frame))
    return tuple(f"{channel}:{name}" for name in names) or None


def _is_reply(frame: bytes, fields: Iterable[str]) -> bool:
    loose = _decoded(frame)
    return loose is not None and any(field in loose for field in fields)


def _decoded(frame: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
