"""Tell which streams a recorded frame belongs to, venue by venue. Pure.

None: nothing in it says so. REPLY: it answered the recorder, or kept its connection alive, and is nobody else's.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

REPLY: Final = ("",)
Streams = tuple[str, ...]
_TEXT: Final = rb'"([^"\\]*(?:\\.[^"\\]*)*)"'
_WRAPPED: Final = re.compile(rb'\s*\{\s*"stream"\s*:\s*' + _TEXT)
_CHANNEL: Final = re.compile(rb'"channel"\s*:\s*"([a-z_0-9]+)"')
_SYMBOL: Final = re.compile(rb'"(?:symbol|product_id)"\s*:\s*' + _TEXT)
_HEAD_BYTES: Final = 200


class _Loose(msgspec.Struct):
    stream: object = None
    e: object = None
    s: object = None
    u: object = None
    data: object = None
    result: object = msgspec.UNSET
    error: object = msgspec.UNSET
    code: object = msgspec.UNSET


_loose: Final = msgspec.json.Decoder(_Loose)


def of_binance(frame: bytes) -> Streams | None:
    """Return the stream of a frame, whether wrapped or raw; one that is cut off may still name it."""
    wrapped = _WRAPPED.match(frame)
    if wrapped is not None:
        return _binance_streams(_text(wrapped[1]), frame)
    # The stream is not the first field, or there is none: a raw event says its symbol (s) and its kind (e), but a quote
    # has no kind and is known by its update id (u).
    loose = _decoded_loosely(frame)
    if loose is None:
        return None
    if isinstance(loose.stream, str):
        return _binance_streams(loose.stream, frame)
    if isinstance(loose.s, str) and isinstance(loose.e, str):
        return (f"{loose.s.lower()}@{loose.e}",)
    if isinstance(loose.s, str) and isinstance(loose.u, int):
        return (f"{loose.s.lower()}@bookTicker",)
    answers = any(part is not msgspec.UNSET for part in (loose.result, loose.error, loose.code))
    return REPLY if answers else None


def is_raw(frame: bytes) -> bool:
    """Whether a frame that :func:`of_binance` attributes is an event alone, as on /ws, and names no stream."""
    loose = None if _WRAPPED.match(frame) else _decoded_loosely(frame)
    return loose is not None and not isinstance(loose.stream, str)


def of_kraken(frame: bytes) -> Streams | None:
    """Return ``channel:symbol`` for every symbol of a frame: ``{"channel":"trade","data":[{"symbol":"BTC/USD",…``."""
    channel = _channel(frame)
    is_event = channel is not None and b'"method"' not in frame  # a reply to a request names the channel too
    if channel in {"status", "heartbeat"} or (not is_event and _is_reply(frame, ("method", "error"))):
        return REPLY
    return _streams(channel, frame) if channel else None


def of_coinbase(frame: bytes) -> Streams | None:
    """Return ``channel:product`` for every product of a frame; heartbeats belong to those who subscribed to them."""
    # Streams are named as channels are asked for; level2 alone answers under another name.
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


def symbols_of(streams: Streams | None, frame: bytes) -> set[str]:
    """Return the symbols of a frame that belongs to ``streams``, as the venue spells them; none when it names none."""
    if not streams or streams[0].startswith("!"):
        return set()
    name, sign, _ = streams[0].partition("@")
    if not sign:
        return {stream.partition(":")[2] for stream in streams} - {""}
    # A stream's name is its symbol in lower case. What no upper case leads back to is taken as it is.
    upper = name.upper() if name.upper().lower() == name else name
    return {_spelled(frame, name) or upper} - {""}


def _channel(frame: bytes) -> str | None:
    # The channel is nearly always among the first fields; a frame is decoded only where it is not.
    found = _CHANNEL.search(frame, 0, _HEAD_BYTES)
    if found is not None:
        return found[1].decode()
    loose = _decoded(frame)
    channel = loose.get("channel") if loose else None
    return channel if isinstance(channel, str) else None


def _streams(channel: str, frame: bytes) -> Streams | None:
    names = dict.fromkeys(map(_text, _SYMBOL.findall(frame)))
    return tuple(f"{channel}:{name}" for name in names if name) or None


def _binance_streams(stream: str, frame: bytes) -> Streams:
    """Return a recorded stream and, where it differs, the one that whoever reads the frame's symbol asks for."""
    name, _, channel = stream.partition("@")
    symbol = _spelled(frame, name)
    return tuple(dict.fromkeys((stream, f"{symbol.lower()}@{channel}"))) if symbol else (stream,)


def _spelled(frame: bytes, name: str) -> str | None:
    """Return the symbol in a frame that a stream's ``name`` has in lower case, if there is anything beyond ASCII.

    Some letters have two upper cases (``ß``), or a lower case that is longer unless made letter by letter (``İ``).
    """
    if frame.isascii() and b"\\" not in frame:
        return None
    loose = _decoded_loosely(frame)
    symbol = loose and (loose.data.get("s") if isinstance(loose.data, dict) else loose.s)
    if not isinstance(symbol, str):
        return None
    return symbol if name in {symbol.lower(), "".join(letter.lower()[0] for letter in symbol)} else None


def _text(escaped: bytes) -> str:
    """Return what a JSON string says, as far as it can be read."""
    if b"\\" in escaped:
        try:
            return msgspec.json.decode(b'"%b"' % escaped, type=str)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    return escaped.decode("utf-8", "replace")


def _decoded_loosely(frame: bytes) -> _Loose | None:
    try:
        return _loose.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_reply(frame: bytes, fields: Iterable[str]) -> bool:
    loose = _decoded(frame)
    return loose is not None and any(field in loose for field in fields)


def _decoded(frame: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
