"""Binance spot: its WebSocket frames, and nothing that opens a socket.

Source: Binance's "WebSocket Streams" documentation (trade streams, live subscribing).
"""

from typing import Final, NamedTuple

import msgspec

from k2_core.errors import MalformedFrame
from k2_core.instruments import Instrument, split_by_suffix
from k2_core.raw_frame import CONTROL, UNREADABLE
from k2_core.trades import BadTrade, Side, VenueTrade
from k2_core.venues.json_text import SHALLOW_BYTES, check_text, decode_any

VENUE: Final = "binance"
ASSET_CLASS: Final = "crypto"
QUOTE_ASSETS: Final = (
    *("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "USDP", "BTC", "ETH", "BNB", "EUR"),
    *("GBP", "AUD", "USD", "TRY", "ZAR", "UAH", "NGN", "BRL", "JPY"),
)
MAX_STREAMS: Final = 1024
# As milliseconds far in the future, as microseconds (asked for by timeUnit=MICROSECOND) 2001, before the venue began.
_MILLISECONDS_BELOW: Final = 1_000_000_000_000_000


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


class _Reply(msgspec.Struct, gc=False):
    """What answers a request, loosely."""

    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_combined = msgspec.json.Decoder(_Combined)
_reply = msgspec.json.Decoder(_Reply)
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MalformedFrame)
SERVER_SHUTDOWN: Final = "serverShutdown"
_REPLY_FIELDS: Final = frozenset({"result", "error", "code"})
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
        trade = _decode_combined(payload)
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
        reply = _reply.decode(payload)
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
        trade = _decode_combined(payload)
    except _UNREADABLE:
        return _parse_other(payload)
    if trade.e != "trade":
        raise MalformedFrame("unknown_event", f"event {trade.e!r}")
    if not 0 <= trade.t < 1 << 63 or not 0 <= trade.T < 1 << 62 or not 0 <= (trade.E or 0) < 1 << 62:
        return [_explain_numbers(trade.t, trade.T, trade.E)]
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


def _decode_combined(payload: bytes) -> _Trade:
    if len(payload) > SHALLOW_BYTES or not payload.isascii():
        check_text(payload)
    return _combined.decode(payload).data


def _parse_other(payload: bytes) -> list[VenueTrade | BadTrade] | None:
    """Say what a frame is that is not a well-formed trade."""
    frame = decode_any(payload)
    if not isinstance(frame, dict):
        raise MalformedFrame("wrong_type", f"the frame is {type(frame).__name__}, expected an object")
    stream = frame.get("stream")
    if "data" in frame:
        return _explain_data(frame["data"], stream)
    if "e" in frame:
        if frame["e"] == SERVER_SHUTDOWN:
            return None
        raise MalformedFrame("unknown_event", f"event {frame['e']!r} outside a stream")
    if frame.keys() & _REPLY_FIELDS:
        return None
    if _of_trades(stream):
        raise MalformedFrame("missing_field", "data is missing")
    raise MalformedFrame("unknown_event", "neither a stream's event nor a reply")


def _of_trades(stream: object) -> bool:
    return isinstance(stream, str) and stream.endswith("@trade")


def _explain_data(value: object, stream: object) -> list[VenueTrade | BadTrade] | None:
    if value is None:
        raise MalformedFrame("missing_field", "data is null")
    if not isinstance(value, dict):
        raise MalformedFrame("wrong_type", f"data is {type(value).__name__}, expected an object")
    kind = value.get("e")
    if kind == SERVER_SHUTDOWN:
        return None
    if kind is None and (stream is None or _of_trades(stream)):
        return [BadTrade("missing_field", f"field e is {'null' if 'e' in value else 'missing'}")]
    if kind is not None and not isinstance(kind, str):
        raise MalformedFrame("wrong_type", f"field e is {kind!r}, expected str")
    if kind != "trade":
        raise MalformedFrame("unknown_event", f"event {kind!r}")
    return [_explain_trade(value)]


def _explain_trade(value: dict[str, object]) -> BadTrade:
    event = value.get("T")
    event_us = _event_us(event) if type(event) is int else None
    for name, kind in _TRADE_FIELDS.items():
        if value.get(name) is None:
            return BadTrade("missing_field", f"field {name} is {'null' if name in value else 'missing'}", event_us)
        if type(value[name]) is not kind:
            return BadTrade("wrong_type", f"field {name} is {value[name]!r}, expected {kind.__name__}", event_us)
    number, published = value["t"], value.get("E")
    if type(number) is int and type(event) is int and (published is None or type(published) is int):
        return _explain_numbers(number, event, published)
    return BadTrade("wrong_type", f"field E is {published!r}, expected int", event_us)


def _explain_numbers(trade_id: int, event: int, published: int | None) -> BadTrade:
    event_us = _event_us(event)
    for name, number in (("t", trade_id), ("T", event), ("E", published or 0)):
        if number < 0:
            return BadTrade("wrong_type", f"field {name} is {number}, expected no negative number", event_us)
    if trade_id >= 1 << 63:
        return BadTrade("number_out_of_range", f"trade id {trade_id} has more than 63 bits", event_us)
    if event_us is None:
        return BadTrade("timestamp_in_future", f"field T is {event}")
    if published is not None and published >= 1 << 62:
        return BadTrade("number_out_of_range", f"field E is {published}", event_us)
    return BadTrade("wrong_type", "a field has a type that the venue does not document", event_us)


def _event_us(event: int) -> int | None:
    return _microseconds(event) if 0 <= event < 1 << 62 else None
