"""Kraken spot, WebSocket version 2: its frames, and nothing that opens a socket.

Source: Kraken's "Spot WebSocket v2" documentation (trade, ticker, status, heartbeat, ping).
"""

from typing import Final, Literal

import msgspec

from k2_core.errors import MalformedFrame
from k2_core.instruments import MODERN_CODES, Instrument, Listing, Status, instrument
from k2_core.quotes import BadQuote, VenueQuote, canonical, quote_id, side_of
from k2_core.trades import BadTrade, Side, VenueTrade
from k2_core.venues.fields import MAX_ID, NUMBER, Fault, Kind, fault_in, fault_in_id, message_on, spelled
from k2_core.venues.json_text import decode_any, decode_as
from k2_core.venues.klines import Kline, kline_of
from k2_core.venues.limits import Limits
from k2_core.venues.listings import Listings, decode_reply, listing, power_of_ten, read_listings
from k2_core.venues.replies import Reply, texts_of
from k2_core.venues.routing import Data, Quotes, Route, Trades, route_of_any, route_of_quotes, route_of_trades
from k2_core.venues.venue_times import canonical_time, microseconds

VENUE: Final = "kraken"
ASSET_CLASS: Final = "crypto"
LIMITS: Final = Limits(
    streams_per_connection=None,
    connection_attempts=150,  # "approximately"; beyond it the address is banned for 10 minutes
    connection_attempts_period_s=600,
    messages_per_s=None,  # there is one, "Exceeded msg rate", that depends on the venue's load and is not published
    subscribe_within_s=None,
    lifetime_s=None,
    ping_every_s=None,  # the client pings, in WebSocket's way or with {"method":"ping"}
    pong_within_s=None,
    heartbeat_s=1,  # on any subscription, while no channel has anything else
    idle_s=60,  # "approximately one minute of inactivity"
)
"""Source: Kraken's "Spot WebSocket Introduction", general considerations; "Heartbeat"."""
ENDING: Final = b""  # the venue does not announce that it closes a connection
PING: Final = b'{"method":"ping"}'
SERVED_AS: Final[dict[str, str]] = {}
_CHANNELS: Final[dict[Data, str]] = {"trades": "trade", "quotes": "ticker"}
_REQ_IDS: Final[dict[Data, int]] = {"trades": 1, "quotes": 2}  # the first of each; a refusal names no channel
_CONTROL_CHANNELS: Final = frozenset({"heartbeat", "status"})
_REPLY_FIELDS: Final = frozenset({"method", "error"})
_HEAD_BYTES: Final = 64  # of a frame, in which its channel is named
_NUMBER_STARTS: Final = frozenset("-0123456789")  # of a JSON number, and of no other JSON value
_TRADE_FIELDS: Final[dict[str, Kind]] = {
    "symbol": str, "side": str, "price": NUMBER, "qty": NUMBER, "trade_id": int, "timestamp": str,
}  # fmt: skip
_QUOTE_FIELDS: Final[dict[str, Kind]] = {
    "symbol": str, "bid": NUMBER, "bid_qty": NUMBER, "ask": NUMBER, "ask_qty": NUMBER, "timestamp": str,
}  # fmt: skip
_SIDES: Final = frozenset({"bid", "bid_qty", "ask", "ask_qty"})
_STATUSES: Final[dict[str, Status]] = {
    "online": "trading", "cancel_only": "restricted", "post_only": "restricted", "limit_only": "restricted",
    "reduce_only": "restricted", "maintenance": "halted", "delisted": "delisted",
}  # fmt: skip
# By the documentation ``side`` is the side of the taker's order, which is the aggressor's.
_AGGRESSOR: Final[dict[str, Side]] = {"buy": "BUY", "sell": "SELL"}


class _Trade(msgspec.Struct, gc=False):
    symbol: str
    side: Literal["buy", "sell"]
    price: msgspec.Raw  # numbers stay as they were written: a float would round them
    qty: msgspec.Raw
    trade_id: int
    timestamp: str


class _Trades(msgspec.Struct, gc=False):
    channel: Literal["trade"]
    data: list[_Trade]


class _Quote(msgspec.Struct, gc=False):
    symbol: str
    bid: msgspec.Raw
    bid_qty: msgspec.Raw
    ask: msgspec.Raw
    ask_qty: msgspec.Raw
    timestamp: str


class _Undated(msgspec.Struct, gc=False):
    symbol: str
    bid: msgspec.Raw
    bid_qty: msgspec.Raw
    ask: msgspec.Raw
    ask_qty: msgspec.Raw
    timestamp: None = None
    last: msgspec.Raw = msgspec.Raw()
    volume: msgspec.Raw = msgspec.Raw()
    vwap: msgspec.Raw = msgspec.Raw()
    low: msgspec.Raw = msgspec.Raw()
    high: msgspec.Raw = msgspec.Raw()
    change: msgspec.Raw = msgspec.Raw()
    change_pct: msgspec.Raw = msgspec.Raw()


class _Quotes(msgspec.Struct, gc=False):
    channel: Literal["ticker"]
    data: list[_Quote]


class _Items(msgspec.Struct, gc=False):
    data: list[msgspec.Raw]


class _Accepted(msgspec.Struct, gc=False):
    channel: str = ""
    symbol: str = ""


class _Reply(msgspec.Struct, gc=False):
    method: str
    success: bool
    result: _Accepted = msgspec.field(default_factory=_Accepted)
    symbol: str | None = None
    error: str | None = None
    req_id: int | None = None


class _Pair(msgspec.Struct, gc=False):
    wsname: str | None = None
    status: str = ""
    tick_size: str | None = None
    pair_decimals: int | None = None
    lot_decimals: int | None = None


class _RestReply(msgspec.Struct, gc=False):
    error: list[str]
    result: dict[str, msgspec.Raw] = {}


_trades = msgspec.json.Decoder(_Trades)
_trade = msgspec.json.Decoder(_Trade)
_quotes = msgspec.json.Decoder(_Quotes)
_quote = msgspec.json.Decoder(_Quote)
_undated = msgspec.json.Decoder(_Undated)
_items = msgspec.json.Decoder(_Items)
_reply = msgspec.json.Decoder(_Reply)
_rest_reply = msgspec.json.Decoder(_RestReply)
_pair = msgspec.json.Decoder(_Pair)
_rows = msgspec.json.Decoder(list[list[msgspec.Raw]])


def stream_url(base: str) -> str:
    """Return the URL of version 2, to which :func:`subscribe_frames` are then sent."""
    return f"{base.rstrip('/')}/v2"


def subscribe_frames(symbols: tuple[str, ...], data: tuple[Data, ...] = ("trades",)) -> list[bytes]:
    """Return the frames that subscribe to the trades, the quotes or both of ``symbols``, each acknowledged once.

    ``{"method":"subscribe","params":{"channel":"trade","symbol":["BTC/USD"],"snapshot":true},"req_id":1}``; a frame
    for each symbol, since the venue answers for each symbol, and refuses a symbol that it does not have alone. Quotes
    are asked for at every change of the best bid or offer; the venue's default is at every trade. ``req_id`` is odd for
    trades and even for quotes, by which :func:`reply_of` knows what a refusal is about.
    """
    frames: list[bytes] = []
    for kind in data:
        extra = {"event_trigger": "bbo"} if kind == "quotes" else {}
        for number, symbol in enumerate(symbols):
            params = {"channel": _CHANNELS[kind], "symbol": [symbol], **extra, "snapshot": True}
            req_id = _REQ_IDS[kind] + number * len(_REQ_IDS)
            frames.append(msgspec.json.encode({"method": "subscribe", "params": params, "req_id": req_id}))
    return frames


def route(payload: bytes) -> Route:
    """Tell where a frame belongs; never raises: what cannot be read is ``unreadable``.

    Trade ids rise by one for each symbol; a snapshot repeats the last 50. Quotes have no key for gaps.
    """
    if b'"ticker"' in payload[:_HEAD_BYTES]:
        quotes = _fast_quotes(payload)
        if quotes:
            return route_of_quotes(quotes)
    trades = _fast_trades(payload)
    if trades:
        return route_of_trades(trades)
    return route_of_any(payload, parse, parse_quotes)


def reply_of(payload: bytes) -> Reply | None:
    """Return what a control frame answers a subscription; None when it answers none.

    ``{"method":"subscribe","result":{"channel":"ticker","symbol":"BTC/USD","snapshot":true},"success":true,
    "time_in":"2023-09-25T09:04:31.742599Z","time_out":"2023-09-25T09:04:31.742648Z","req_id":1}``

    A refusal names no channel: ``{"error":"Currency pair not supported BTC/XYZ","method":"subscribe","req_id":2,
    "success":false,"symbol":"BTC/XYZ",…}``. Its ``req_id`` says which; without one it is about both. Without
    a symbol it may name one in some text.
    """
    reply = decode_as(_reply, payload)
    if reply is None or reply.method != "subscribe":
        return None
    if not reply.success:
        kinds = len(_REQ_IDS)  # the remainder of a req_id says which kind of data was asked for
        asked = [
            data for data, first in _REQ_IDS.items() if reply.req_id is None or (reply.req_id - first) % kinds == 0
        ]
        about = tuple((data, reply.symbol) for data in asked) if reply.symbol else ()
        texts = () if about else texts_of(payload, leave_out=frozenset({"method", "time_in", "time_out"}))
        text = reply.error or ": ".join(texts)
        return Reply(accepted=False, subscriptions=about, text=text, fields=texts if len(texts) > 1 else ())
    found = [data for data, channel in _CHANNELS.items() if channel == reply.result.channel]
    return Reply(accepted=True, subscriptions=((found[0], reply.result.symbol),)) if found else None


def parse(payload: bytes) -> Trades | None:
    """Return the trades of a frame in their order within it; None for a control frame, or one without any trade.

    ``{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":105944.20,"qty":0.00027625,
    "ord_type":"limit","trade_id":10218208,"timestamp":"2023-10-06T17:35:55.440295Z"}]}``

    ``side`` is that of the taker's order: the aggressor's. Prices and sizes are JSON numbers, read as text.
    """
    trades = _fast_trades(payload)
    if trades:
        return [*trades]
    items = _items_of(payload, "trades")
    return [_trade_of(decode_as(_trade, item)) or _bad_trade(item) for item in items] or None


def parse_quotes(payload: bytes) -> Quotes | None:
    """Return the quotes of a frame in their order within it; None for a control frame, or one without any quote.

    ``{"channel":"ticker","type":"snapshot","data":[{"symbol":"BTC/USD","bid":105944.20,"bid_qty":2.5,
    "ask":105944.30,"ask_qty":3.2,"last":105899.40,"volume":163.28908096,"vwap":105904.39279,"low":104711.00,
    "high":106613.10,"change":250.00,"change_pct":0.24,"timestamp":"2022-12-25T09:30:59.123456Z"}]}``

    The venue gives no id: see :func:`k2_core.quotes.quote_id`. Before 2026 it gave no ``timestamp`` either. Such a
    quote gets the time of its receipt, and its id holds the other fields of the item instead of the time.
    """
    quotes = _fast_quotes(payload)
    if quotes:
        return [*quotes]
    items = _items_of(payload, "quotes")
    return [
        _quote_of(decode_as(_quote, item)) or _undated_quote_of(decode_as(_undated, item)) or _bad_quote(item)
        for item in items
    ] or None


def instrument_of(venue_symbol: str) -> Instrument | None:
    """Return base and quote of ``BTC/USD``, in modern codes; None when it cannot be split into them."""
    base, slash, quote = venue_symbol.partition("/")
    if not slash or not base.isalnum() or not quote.isalnum():
        return None
    return instrument(base, quote)


def instruments_url(rest_base: str) -> str:
    """Return the URL of the list of instruments, which :func:`parse_instruments` reads."""
    return f"{rest_base.rstrip('/')}/0/public/AssetPairs"


def parse_instruments(body: bytes) -> Listings:
    """Return the instruments that the venue lists, but for those that its WebSocket does not have.

    ``{"error":[],"result":{"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD","aclass_base":"currency","base":"XXBT",
    "aclass_quote":"currency","quote":"ZUSD","lot":"unit","cost_decimals":5,"pair_decimals":1,"lot_decimals":8,
    "lot_multiplier":1,"ordermin":"0.0001","costmin":"0.5","tick_size":"0.1","status":"online"}}}``

    ``wsname`` is version 1's name, which says XBT and XDG where version 2 says BTC and DOGE.

    Raises:
        MalformedFrame: when the list cannot be read, or is empty; the venue refuses a request with status 200.
    """
    reply = decode_reply(_rest_reply, body)
    if reply.error:
        raise MalformedFrame("wrong_type", f"the venue answers {spelled(reply.error)}")
    return read_listings(reply.result.values(), _pair, _listing, lambda entry: _symbol(entry.get("wsname")))


def klines_url(rest_base: str, venue_symbol: str, first_us: int, end_us: int) -> str:  # noqa: ARG001  # it has no end
    """Return the URL of the one-minute OHLC, which :func:`parse_klines` reads; the venue has the last 720 minutes."""
    base, _, quote = venue_symbol.partition("/")
    old_codes = {new: old for old, new in MODERN_CODES.items()}
    pair = old_codes.get(base, base) + old_codes.get(quote, quote)
    since = first_us // 1_000_000 - 60  # it returns what is after ``since``
    return f"{rest_base.rstrip('/')}/0/public/OHLC?pair={pair}&interval=1&since={since}"


def parse_klines(body: bytes) -> list[Kline]:
    """Return OHLC: start in s, open, high, low, close, vwap, volume, count.

    ``{"error":[],"result":{"XXBTZUSD":[[1688671200,"30306.1","30306.2","30305.7","30305.7","30306.1","3.39243896",23]],
    "last":1688672160}}``
    """
    reply = decode_reply(_rest_reply, body)
    if reply.error:
        raise MalformedFrame("wrong_type", f"the venue answers {spelled(reply.error)}")
    pairs = [decode_reply(_rows, bytes(rows)) for name, rows in reply.result.items() if name != "last"]
    return [kline_of(row, 1_000_000, opening=1, high=2, low=3, close=4, volume=6) for rows in pairs for row in rows]


def _fast_trades(payload: bytes) -> list[VenueTrade] | None:
    """Return the trades of a frame in which every trade is valid; None for any other frame."""
    frame = decode_as(_trades, payload)
    if frame is None:
        return None
    # One bad trade refuses the whole frame: the slow path then reads each by itself and says what is wrong with it.
    trades = []
    for each in frame.data:
        trade = _trade_of(each)
        if trade is None:
            return None
        trades.append(trade)
    return trades


def _trade_of(trade: _Trade | None) -> VenueTrade | None:
    # The decoder leaves price and quantity as raw JSON, which may be any value: only a number begins with these.
    if trade is None or not 0 <= trade.trade_id < MAX_ID:
        return None
    event_us, price, quantity = microseconds(trade.timestamp), str(trade.price, "utf-8"), str(trade.qty, "utf-8")
    if event_us is None or price[0] not in _NUMBER_STARTS or quantity[0] not in _NUMBER_STARTS:
        return None
    number, side = trade.trade_id, _AGGRESSOR[trade.side]
    return VenueTrade(trade.symbol, str(number), number, price, quantity, event_us, None, side)


def _fast_quotes(payload: bytes) -> list[VenueQuote] | None:
    """Return the quotes of a frame in which every quote is valid; None for any other frame."""
    frame = decode_as(_quotes, payload)
    if frame is None:
        return None
    quotes = [quote for each in frame.data if (quote := _quote_of(each)) is not None]
    return quotes if len(quotes) == len(frame.data) else None


def _quote_of(quote: _Quote | None) -> VenueQuote | None:
    event_us = None if quote is None else microseconds(quote.timestamp)
    if quote is None or event_us is None:
        return None
    bid, ask = _side(quote.bid, quote.bid_qty), _side(quote.ask, quote.ask_qty)
    if bid is None or ask is None:
        return None
    identity = quote_id(canonical_time(quote.timestamp), *bid, *ask)
    return VenueQuote(quote.symbol, identity, None, *bid, *ask, event_us, None)


def _undated_quote_of(quote: _Undated | None) -> VenueQuote | None:
    # Without a time, the statistics of the day make the id: they change whenever the venue sends another quote.
    if quote is None:
        return None
    bid, ask = _side(quote.bid, quote.bid_qty), _side(quote.ask, quote.ask_qty)
    if bid is None or ask is None:
        return None
    day = (quote.last, quote.volume, quote.vwap, quote.low, quote.high, quote.change, quote.change_pct)
    identity = quote_id(" ".join(canonical(str(raw, "utf-8")) for raw in day), *bid, *ask)
    return VenueQuote(quote.symbol, identity, None, *bid, *ask, None, None)


def _side(price: msgspec.Raw, quantity: msgspec.Raw) -> tuple[str | None, str | None] | None:
    """Return price and quantity of a side as they were written; None if either is neither a number nor null."""
    texts = []
    for raw in (price, quantity):
        text = str(raw, "utf-8")
        if text[0] not in _NUMBER_STARTS and text != "null":
            return None
        texts.append(None if text == "null" else text)
    return side_of(*texts)


def _symbol(wsname: object) -> str | None:
    """Return version 2's name of a pair by version 1's."""
    if not isinstance(wsname, str):
        return None
    return "/".join(MODERN_CODES.get(code, code) for code in wsname.split("/", 1))


def _listing(pair: _Pair) -> Listing | None:
    symbol = _symbol(pair.wsname)
    if not symbol:
        return None
    base, _, quote = symbol.partition("/")
    tick_size = pair.tick_size
    if tick_size is None and pair.pair_decimals is not None:
        tick_size = power_of_ten(pair.pair_decimals)
    lot_size = None if pair.lot_decimals is None else power_of_ten(pair.lot_decimals)
    status = _STATUSES.get(pair.status, "unknown")
    return listing(symbol, (base, quote), (tick_size, lot_size), status, pair.status)


def _items_of(payload: bytes, data: Data) -> list[bytes]:
    """Return the trades or quotes of a frame as they were written; none for a control frame."""
    message = message_on(_CHANNELS[data], payload, "data", control=_CONTROL_CHANNELS, replies=_REPLY_FIELDS)
    if message is None:
        return []
    items = decode_as(_items, payload)
    if items is None:
        raise MalformedFrame("wrong_type", "field data appears twice")
    return [bytes(item) for item in items.data]


def _bad_trade(item: bytes) -> BadTrade:
    value = decode_any(item)
    if not isinstance(value, dict):
        return BadTrade("wrong_type", f"a trade is {spelled(value)}, expected an object")
    fault = fault_in(value, _TRADE_FIELDS) or fault_in_id("trade_id", value["trade_id"])
    if fault is None and value["side"] not in _AGGRESSOR:
        fault = Fault("wrong_type", f"field side is {spelled(value['side'])}, expected buy or sell")
    return BadTrade(*(fault or _fault_in_time(value)), _event_us(value))


def _bad_quote(item: bytes) -> BadQuote:
    value = decode_any(item)
    if not isinstance(value, dict):
        return BadQuote("wrong_type", f"a quote is {spelled(value)}, expected an object")
    value = {"timestamp": None, **value}
    fault = fault_in(value, _QUOTE_FIELDS, may_be_null=_SIDES | {"timestamp"}) or _fault_in_time(value)
    return BadQuote(*fault, _event_us(value))


def _event_us(value: dict[str, object]) -> int | None:
    found = value.get("timestamp")
    return microseconds(found) if isinstance(found, str) else None


def _fault_in_time(value: dict[str, object]) -> Fault:
    if _event_us(value) is None and value["timestamp"] is not None:
        return Fault(
            "wrong_type", f"field timestamp is {spelled(value['timestamp'])}, expected an RFC 3339 time in UTC"
        )
    return Fault("wrong_type", "a field has a type that the venue does not document")
