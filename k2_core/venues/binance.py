"""Binance spot: its WebSocket frames, and nothing that opens a socket.

Source: Binance's "WebSocket Streams" documentation (general information, trade and book ticker streams, live
subscribing).
"""

import re
from typing import Final, Literal

import msgspec

from k2_core.errors import MalformedFrame
from k2_core.instruments import Instrument, Listing, Status, split_by_suffix
from k2_core.quotes import BadQuote, VenueQuote, side_of
from k2_core.trades import BadTrade, Side, VenueTrade
from k2_core.venues.fields import MAX_ID, Fault, Kind, fault_in, fault_in_id, spelled
from k2_core.venues.json_text import decode_as, decode_object
from k2_core.venues.klines import MOST_MINUTES, Kline, kline_of
from k2_core.venues.limits import Limits
from k2_core.venues.listings import Listings, decode_reply, listing, read_listings
from k2_core.venues.replies import Reply, texts_of
from k2_core.venues.routing import QUOTE, TRADE, Data, Quotes, Route, Trades, route_of_any

VENUE: Final = "binance"
ASSET_CLASS: Final = "crypto"
LIMITS: Final = Limits(
    streams_per_connection=1024,
    connection_attempts=300,
    connection_attempts_period_s=300,
    messages_per_s=5,
    subscribe_within_s=None,
    lifetime_s=24 * 3600,
    ping_every_s=20,
    pong_within_s=60,
    heartbeat_s=20,  # the ping; streams themselves may be silent
    idle_s=None,
)
"""Source: Binance's "WebSocket Streams", general information and limits."""
QUOTE_ASSETS: Final = (
    *("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "USDP", "BTC", "ETH", "BNB", "EUR"),
    *("GBP", "AUD", "USD", "TRY", "ZAR", "UAH", "NGN", "BRL", "JPY"),
)
SERVER_SHUTDOWN: Final = "serverShutdown"
ENDING: Final = b'"serverShutdown"'
PING: Final = b""  # the venue pings
SERVED_AS: Final[dict[str, str]] = {}
# Smaller times are milliseconds, larger ones microseconds (timeUnit=MICROSECOND): in microseconds this is the year
# 2001, before the venue began, and in milliseconds a far future.
_MILLISECONDS_BELOW: Final = 1_000_000_000_000_000
_MAX_TIME: Final = 1 << 62
_STREAMS: Final[dict[Data, str]] = {"trades": "trade", "quotes": "bookTicker"}
_STREAM: Final = re.compile(r"([^\s\"'`,;:()\[\]{}]+)@(?:trade|bookTicker)\b")
_HEAD_BYTES: Final = 64  # of a frame, in which its stream is named
_REPLY_FIELDS: Final = frozenset({"result", "error", "code"})
_TRADE_FIELDS: Final[dict[str, Kind]] = {"s": str, "t": int, "p": str, "q": str, "T": int, "m": bool}
_QUOTE_FIELDS: Final[dict[str, Kind]] = {"s": str, "u": int, "b": str, "B": str, "a": str, "A": str}
_SIDES: Final = frozenset({"b", "B", "a", "A"})
_STATUSES: Final[dict[str, Status]] = {
    "TRADING": "trading",
    "HALT": "halted",
    "BREAK": "halted",
    "END_OF_DAY": "halted",
}


class _Trade(msgspec.Struct, gc=False):
    s: str
    t: int
    p: str
    q: str
    T: int
    m: bool
    e: Literal["trade"]
    E: int | None = None


class _Trades(msgspec.Struct, gc=False):
    data: _Trade
    stream: str | None = None


class _Quote(msgspec.Struct, gc=False):
    u: int
    s: str
    b: str | None
    B: str | None
    a: str | None
    A: str | None
    e: Literal["bookTicker"] | None = None
    T: int | None = None
    E: int | None = None


class _Quotes(msgspec.Struct, gc=False):
    data: _Quote
    stream: str | None = None


class _Reply(msgspec.Struct, gc=False):
    """What answers a request, loosely."""

    result: msgspec.Raw = msgspec.Raw()
    id: int | str | None = None
    error: dict[str, object] | None = None
    msg: str | None = None


class _Filter(msgspec.Struct, gc=False, rename="camel"):
    filter_type: str
    tick_size: str | None = None
    step_size: str | None = None


class _Listed(msgspec.Struct, gc=False, rename="camel"):
    symbol: str
    status: str
    base_asset: str
    quote_asset: str
    filters: list[_Filter]


class _ExchangeInfo(msgspec.Struct, gc=False):
    symbols: list[msgspec.Raw]


_trades = msgspec.json.Decoder(_Trades)
_quotes = msgspec.json.Decoder(_Quotes)
_reply = msgspec.json.Decoder(_Reply)
_exchange_info = msgspec.json.Decoder(_ExchangeInfo)
_listed = msgspec.json.Decoder(_Listed)
_klines = msgspec.json.Decoder(list[list[msgspec.Raw]])


def stream_url(base: str) -> str:
    """Return the URL of the combined stream, to which :func:`subscribe_frames` are then sent."""
    return f"{base.rstrip('/')}/stream"


def subscribe_frames(symbols: tuple[str, ...], data: tuple[Data, ...] = ("trades",)) -> list[bytes]:
    """Return the frames that subscribe to the trades, the quotes or both of ``symbols``.

    One frame, acknowledged once: ``{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}``.
    """
    params = [f"{symbol.lower()}@{_STREAMS[kind]}" for kind in data for symbol in symbols]
    return [msgspec.json.encode({"method": "SUBSCRIBE", "params": params, "id": 1})]


def route(payload: bytes) -> Route:
    """Tell where a frame belongs; never raises: what cannot be read is ``unreadable``.

    Trade ids rise by one for each symbol. A quote's ``u`` rises but skips, so it is no key for gaps.
    """
    if b"@bookTicker" in payload[:_HEAD_BYTES]:
        quote = _fast_quote(payload)
        if quote is not None:
            return Route(QUOTE, quote.venue_symbol)
    trade = _fast_trade(payload)
    if trade is not None:
        return Route(TRADE, trade.s, ((trade.s, trade.t, trade.t),))
    return route_of_any(payload, parse, parse_quotes)


def reply_of(payload: bytes) -> Reply | None:
    """Return what a control frame answers a subscription; None when it answers none.

    ``{"result":null,"id":1}``, or ``{"error":{"code":2,"msg":"Invalid request: unknown method"},"id":1}``

    Either is about all streams of the request. A refusal may come without the id, and is about one symbol if it names
    streams of that symbol only. The venue also accepts streams that do not exist, if the name is well-formed.
    """
    reply = decode_as(_reply, payload)
    if reply is None:
        return None
    if reply.error is not None or reply.msg is not None:
        said = reply.msg if reply.error is None else reply.error.get("msg", reply.error)
        text = said if isinstance(said, str) else spelled(said)
        # A refusal that names one symbol, by either of its streams, is about both of them.
        symbols = {symbol.upper() for symbol in _STREAM.findall(text)}
        about = tuple((data, symbol) for symbol in symbols for data in _STREAMS) if len(symbols) == 1 else ()
        texts = texts_of(payload, leave_out=frozenset({"id"}))
        return Reply(False, about, text, texts if len(texts) > 1 else ())
    return Reply(accepted=True) if reply.id is not None and bytes(reply.result) == b"null" else None


def parse(payload: bytes) -> Trades | None:
    """Return the trades of a frame in their order within it; None for a control frame.

    ``{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,
    "p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}``

    ``m`` true means that the buyer was the maker: the aggressor sold. ``T`` is the trade's time, ``E`` only when the
    event was published.
    """
    trade = _fast_trade(payload)
    if trade is not None:
        event_us = _microseconds(trade.T)
        published = None if trade.E is None else _microseconds(trade.E)
        side: Side = "SELL" if trade.m else "BUY"
        return [VenueTrade(trade.s, str(trade.t), trade.t, trade.p, trade.q, event_us, published, side)]
    event = _event_of(payload)
    if event is None:
        return None
    kind, value = event
    if kind is None:
        return [BadTrade("missing_field", f"field e is {'null' if 'e' in value else 'missing'}")]
    if kind != _STREAMS["trades"]:
        raise MalformedFrame("unknown_event", f"event {spelled(kind)}")
    fault = fault_in(value, _TRADE_FIELDS) or _fault_in_numbers(value, "t")
    return [BadTrade(*fault, _event_us(value))]


def parse_quotes(payload: bytes) -> Quotes | None:
    """Return the quotes of a frame in their order within it; None for a control frame.

    ``{"stream":"btcusdt@bookTicker","data":{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000",
    "a":"61837.64000000","A":"1.54698000"}}``

    ``u`` is the order book's update id: the quote's id, which orders quotes. There is no time, so a quote gets the time
    of its receipt. A frame that carries ``T``, as those of futures do, keeps it.
    """
    quote = _fast_quote(payload)
    if quote is not None:
        return [quote]
    event = _event_of(payload)
    if event is None:
        return None
    kind, value = event
    if kind != _STREAMS["quotes"]:
        raise MalformedFrame("unknown_event", f"event {spelled(kind)}")
    fault = fault_in(value, _QUOTE_FIELDS, may_be_null=_SIDES) or _fault_in_numbers(value, "u")
    return [BadQuote(*fault, _event_us(value))]


def instrument_of(venue_symbol: str) -> Instrument | None:
    """Return base and quote of ``BTCUSDT``; None when it cannot be split into them.

    A symbol has letters of any script and digits, upper case. A separator in it could make two keys equal.
    """
    if not venue_symbol.isalnum() or venue_symbol != venue_symbol.upper():
        return None
    return split_by_suffix(venue_symbol, QUOTE_ASSETS)


def instruments_url(rest_base: str) -> str:
    """Return the URL of the list of instruments, which :func:`parse_instruments` reads."""
    return f"{rest_base.rstrip('/')}/api/v3/exchangeInfo"


def parse_instruments(body: bytes) -> Listings:
    """Return the instruments that the venue lists.

    ``{"timezone":"UTC","serverTime":1565246363776,"rateLimits":[],"exchangeFilters":[],"symbols":[{"symbol":"ETHBTC",
    "status":"TRADING","baseAsset":"ETH","baseAssetPrecision":8,"quoteAsset":"BTC","quotePrecision":8,"filters":[
    {"filterType":"PRICE_FILTER","minPrice":"0.00001000","maxPrice":"922327.00000000","tickSize":"0.00001000"},
    {"filterType":"LOT_SIZE","minQty":"0.00010000","maxQty":"100000.00000000","stepSize":"0.00010000"}]}]}``
    """
    entries = decode_reply(_exchange_info, body).symbols
    return read_listings(entries, _listed, _listing, lambda entry: entry.get("symbol"))


def klines_url(rest_base: str, venue_symbol: str, first_us: int, end_us: int) -> str:
    """Return the URL of the one-minute klines, which :func:`parse_klines` reads."""
    window = f"startTime={first_us // 1000}&endTime={end_us // 1000 - 1}"
    return f"{rest_base.rstrip('/')}/api/v3/klines?symbol={venue_symbol}&interval=1m&{window}&limit={MOST_MINUTES}"


def parse_klines(body: bytes) -> list[Kline]:
    """Return klines: open time in ms, open, high, low, close, volume, close time, and more.

    ``[[1499040000000,"0.01634790","0.80000000","0.01575800","0.01577100","148976.11427815",1499644799999,
    "2434.19055334",308,"1756.87402397","28.46694368","0"]]``
    """
    rows = decode_reply(_klines, body)
    return [kline_of(row, 1000, opening=1, high=2, low=3, close=4, volume=5) for row in rows]


def _fast_trade(payload: bytes) -> _Trade | None:
    """Return the trade of a frame with one valid trade; None for any other frame."""
    frame = decode_as(_trades, payload)
    if frame is None:
        return None
    trade = frame.data
    # The decoder has checked that all fields are there and their types. Only the bounds of numbers are left.
    fits = 0 <= trade.t < MAX_ID and 0 <= trade.T < _MAX_TIME and 0 <= (trade.E or 0) < _MAX_TIME
    return trade if fits else None


def _fast_quote(payload: bytes) -> VenueQuote | None:
    """Return the quote of a frame with one valid quote; None for any other frame."""
    frame = decode_as(_quotes, payload)
    # A quote of spot has no ``e``: only the name of its stream says what it is.
    if frame is None or (frame.data.e is None and not _is_of(frame.stream, "quotes")):
        return None
    quote = frame.data
    if not (0 <= quote.u < MAX_ID and 0 <= (quote.T or 0) < _MAX_TIME and 0 <= (quote.E or 0) < _MAX_TIME):
        return None
    event = None if quote.T is None else _microseconds(quote.T)
    published = None if quote.E is None else _microseconds(quote.E)
    bid, ask = side_of(quote.b, quote.B), side_of(quote.a, quote.A)
    return VenueQuote(quote.s, str(quote.u), quote.u, *bid, *ask, event, published)


def _listing(listed: _Listed) -> Listing:
    ticks = [each.tick_size for each in listed.filters if each.filter_type == "PRICE_FILTER"]
    lots = [each.step_size for each in listed.filters if each.filter_type == "LOT_SIZE"]
    sizes = (next(iter(ticks), None), next(iter(lots), None))
    status = _STATUSES.get(listed.status, "unknown")
    return listing(listed.symbol, (listed.base_asset, listed.quote_asset), sizes, status, listed.status)


def _microseconds(venue_time: int) -> int:
    return venue_time * 1000 if venue_time < _MILLISECONDS_BELOW else venue_time


def _is_of(stream: object, data: Data) -> bool:
    return isinstance(stream, str) and stream.endswith(f"@{_STREAMS[data]}")


def _event_of(payload: bytes) -> tuple[str | None, dict[str, object]] | None:
    """Return kind and data of a stream's event; None for a control frame. The kind is None if a trade lacks it."""
    frame = decode_object(payload)
    stream = frame.get("stream")
    if "data" in frame:
        return _kind_of(frame["data"], stream)
    if "e" in frame:
        if frame["e"] == SERVER_SHUTDOWN:
            return None
        raise MalformedFrame("unknown_event", f"event {spelled(frame['e'])} outside a stream")
    if frame.keys() & _REPLY_FIELDS:
        return None
    if _is_of(stream, "trades") or _is_of(stream, "quotes"):
        raise MalformedFrame("missing_field", "data is missing")
    raise MalformedFrame("unknown_event", "neither a stream's event nor a reply")


def _kind_of(value: object, stream: object) -> tuple[str | None, dict[str, object]] | None:
    """Return kind and data of an event: its own ``e``, or for a quote without one the kind of its stream."""
    if value is None:
        raise MalformedFrame("missing_field", "data is null")
    if not isinstance(value, dict):
        raise MalformedFrame("wrong_type", f"data is {type(value).__name__}, expected an object")
    kind = value.get("e")
    if kind == SERVER_SHUTDOWN:
        return None
    if kind is not None and not isinstance(kind, str):
        raise MalformedFrame("wrong_type", f"field e is {spelled(kind)}, expected a text")
    if kind is None and _is_of(stream, "quotes"):
        kind = _STREAMS["quotes"]
    elif kind is None and stream is not None and not _is_of(stream, "trades"):
        raise MalformedFrame("unknown_event", "an event without a kind, of neither trades nor quotes")
    return kind, value


def _fault_in_numbers(value: dict[str, object], id_name: str) -> Fault:
    """Return what is wrong with the id or the times of an item; call it only if the fast decoder refused the item."""
    for name in (id_name, "T", "E"):
        number = value.get(name)
        if number is None:
            continue
        if type(number) is not int:
            return Fault("wrong_type", f"field {name} is {spelled(number)}, expected a whole number")
        if name == id_name or number < 0:
            fault = fault_in_id(name, number)
            if fault is not None:
                return fault
        elif number >= _MAX_TIME:
            reason = "timestamp_in_future" if name == "T" else "number_out_of_range"
            return Fault(reason, f"field {name} is {number}")
    return Fault("wrong_type", "a field has a type that the venue does not document")


def _event_us(value: dict[str, object]) -> int | None:
    event = value.get("T")
    return _microseconds(event) if type(event) is int and 0 <= event < _MAX_TIME else None
