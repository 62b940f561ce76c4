"""Binance spot: its WebSocket frames, and nothing that opens a socket.

Source: Binance's "WebSocket Streams" documentation (trade streams, live subscribing).
"""

from typing import Final, NamedTuple

import msgspec

from k2_core.errors import MalformedFrame
from k2_core.instruments import Instrument, split_by_suffix
from k2_core.raw_frame import CONTROL, UNREADABLE
from k2_core.trades import BadTrade, Side, VenueTrade

VENUE: Final = "binance"
ASSET_CLASS: Final = "crypto"
QUOTE_ASSETS: Final = (
    *("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "USDP", "BTC", "ETH", "BNB", "EUR"),
    *("GBP", "AUD", "USD", "TRY", "ZAR", "UAH", "NGN", "BRL", "JPY"),
)
MAX_STREAMS: Final = 1024
# Milliseconds until the year 2255; anything above is microseconds (asked for by timeUnit=MICROSECOND).
_MILLISECONDS_BELOW: Final = 9_000_000_000_000


class Route(NamedTuple):
    """What a feed needs to know of a frame: where it goes, and which trade ids it carries."""

    channel: str
    symbol: str
    first_id: int | None
    last_id: int | None


class _Trade(msgspec.Struct, gc=False):
    s: str
    t: int
    p: str
    q: str
    T: int
    m: bool
    e: str
    E: int | None = None


class _Combined(msgspec.Struct, gc=False):
    data: _Trade
    stream: str | None = None


class _Any(msgspec.Struct, gc=False):
    """What any well-formed frame may look like, loosely: a stream's event, a reply, or an announcement."""

    stream: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    code: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    e: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_combined = msgspec.json.Decoder(_Combined)
_any = msgspec.json.Decoder(_Any)
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
SERVER_SHUTDOWN: Final = "serverShutdown"
_TRADE_FIELDS: Final = {"s": str, "t": int, "p": str, "q": str, "T": int, "m": bool}


def stream_url(base: str) -> str:
    """Return the URL of the combined stream, to which :func:`subscribe_frames` are then sent."""
    return f"{base.rstrip('/')}/stream"


def subscribe_frames(symbols: tuple[str, ...]) -> list[bytes]:
    """Return the frames that subscribe to the trades of ``symbols``.

    One frame: ``{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}``.
    """
    params = [f"{symbol.lower()}@trade" for symbol in symbols]
    return [msgspec.json.encode({"method": "SUBSCRIBE", "params": params, "id": 1})]


def route(payload: bytes) -> Route:
    """Tell where a frame belongs; never raises: what cannot be read is ``unreadable``."""
    try:
        trade = _combined.decode(payload).data
        if trade.e == "trade":
            return Route("trade", trade.s, trade.t, trade.t)
        return Route(trade.e, trade.s, None, None)
    except _UNREADABLE:
        return _route_other(payload)


def acknowledges(payload: bytes) -> bool:
    """Tell whether a control frame says that a subscription was accepted.

    ``{"result":null,"id":1}``
    """
    try:
        reply = _any.decode(payload)
    except _UNREADABLE:
        return False
    return reply.id is not msgspec.UNSET and reply.result is not msgspec.UNSET and bytes(reply.result) == b"null"


def parse(payload: bytes) -> list[VenueTrade | BadTrade] | None:
    """Return the trades of a frame in their order within it; None for a control frame.

    ``{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,
    "p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}``

    ``m`` true means that the buyer was the maker: the aggressor sold. ``T`` is the trade's time, ``E`` only when the
    event was published.

    Raises:
        MalformedFrame: when nothing of the frame can be read.
    """
    try:
        trade = _combined.decode(payload).data
    except _UNREADABLE:
        return _parse_other(payload)
    if trade.e != "trade":
        raise MalformedFrame("unknown_event", f"event {trade.e!r}")
    if not 0 <= trade.t < 1 << 63 or not 0 <= trade.T < 1 << 62 or not 0 <= (trade.E or 0) < 1 << 62:
        return [BadTrade("wrong_type", f"trade id {trade.t} or a time ({trade.T}, {trade.E}) is out of range")]
    event_us = _microseconds(trade.T)
    published = None if trade.E is None else _microseconds(trade.E)
    side: Side = "SELL" if trade.m else "BUY"
    return [VenueTrade(trade.s, str(trade.t), trade.t, trade.p, trade.q, event_us, published, side)]


def instrument_of(venue_symbol: str) -> Instrument | None:
    """Return base and quote of ``BTCUSDT``; None when they cannot be told apart.

    Letters of any script and digits, upper case, as the venue lists them: a separator could make two keys one.
    """
    if not venue_symbol.isalnum() or venue_symbol != venue_symbol.upper():
        return None
    return split_by_suffix(venue_symbol, QUOTE_ASSETS)


def _microseconds(venue_time: int) -> int:
    return venue_time * 1000 if venue_time < _MILLISECONDS_BELOW else venue_time


def _route_other(payload: bytes) -> Route:
    try:
        trades = _parse_other(payload)
    except MalformedFrame as error:
        if error.reason == "unknown_event":
            return Route("other", "", None, None)
        return Route(UNREADABLE, "", None, None)
    return Route(CONTROL if trades is None else UNREADABLE, "", None, None)


def _parse_other(payload: bytes) -> list[VenueTrade | BadTrade] | None:
    """Say what a frame is that is not a well-formed trade."""
    _decode_any(payload)
    try:
        frame = _any.decode(payload)
    except msgspec.ValidationError as error:
        raise MalformedFrame("wrong_type", str(error)) from None
    if frame.data is not msgspec.UNSET:
        return _explain_data(bytes(frame.data), bytes(frame.stream) if frame.stream is not msgspec.UNSET else b"")
    if frame.e is not msgspec.UNSET:
        _refuse_unless_announcement(bytes(frame.e))
        return None
    if any(part is not msgspec.UNSET for part in (frame.result, frame.error, frame.code)):
        return None
    raise MalformedFrame("unknown_event", "neither a stream's event nor a reply")


def _refuse_unless_announcement(kind: bytes) -> None:
    if _decode_any(kind) == SERVER_SHUTDOWN:
        return
    raise MalformedFrame("unknown_event", f"event {kind.decode()} outside a stream")


def _explain_data(data: bytes, stream: bytes) -> list[VenueTrade | BadTrade] | None:
    value = _decode_any(data)
    if value is None:
        raise MalformedFrame("missing_field", "data is null")
    if not isinstance(value, dict):
        raise MalformedFrame("wrong_type", f"data is {type(value).__name__}, expected an object")
    kind = value.get("e")
    if kind == SERVER_SHUTDOWN:
        return None
    if kind is None and stream.endswith(b'@trade"'):
        return [BadTrade("missing_field", f"field e is {'null' if 'e' in value else 'missing'}")]
    if kind != "trade":
        raise MalformedFrame("unknown_event", f"event {kind!r}")
    return [_explain_trade(value)]


def _decode_any(raw: bytes) -> object:
    try:
        raw.decode()
        return msgspec.json.decode(raw)
    except _UNREADABLE as error:
        raise MalformedFrame("malformed_json", str(error)) from None


def _explain_trade(value: dict[str, object]) -> BadTrade:
    event = value.get("T")
    event_us = _microseconds(event) if type(event) is int and 0 <= event < 1 << 62 else None
    for name, kind in _TRADE_FIELDS.items():
        if value.get(name) is None:
            return BadTrade("missing_field", f"field {name} is {'null' if name in value else 'missing'}", event_us)
        if type(value[name]) is not kind:
            return BadTrade("wrong_type", f"field {name} is {value[name]!r}, expected {kind.__name__}", event_us)
    return BadTrade("wrong_type", "a field has a type that the venue does not document", event_us)
