"""Coinbase Advanced Trade, spot: its public WebSocket frames, and nothing that opens a socket.

Source: Coinbase's "Advanced Trade WebSocket" documentation (overview, channels market_trades, ticker, heartbeats).
"""

from typing import Final, Literal, TypeVar

import msgspec

from k2_core.instruments import Instrument, Listing, Status, instrument
from k2_core.quotes import BadQuote, VenueQuote, quote_id, side_of
from k2_core.trades import BadTrade, Side, VenueTrade
from k2_core.venues.fields import MAX_ID, Fault, Kind, fault_in, message_on, spelled
from k2_core.venues.json_text import decode_as
from k2_core.venues.klines import Kline, kline_of
from k2_core.venues.limits import Limits
from k2_core.venues.listings import Listings, decode_reply, listing, read_listings
from k2_core.venues.replies import Reply, texts_of
from k2_core.venues.routing import Data, Quotes, Route, Trades, route_of_any, route_of_quotes, route_of_trades
from k2_core.venues.venue_times import canonical_time, microseconds

VENUE: Final = "coinbase"
ASSET_CLASS: Final = "crypto"
LIMITS: Final = Limits(
    streams_per_connection=None,
    connection_attempts=8,  # some pages of the documentation say 750
    connection_attempts_period_s=1,
    messages_per_s=8,  # per IP address, unauthenticated
    subscribe_within_s=5,
    lifetime_s=None,
    ping_every_s=None,
    pong_within_s=None,
    heartbeat_s=1,  # on the channel heartbeats
    idle_s=60,  # a channel closes after 60 to 90 s without updates unless heartbeats are subscribed to
)
"""Source: Coinbase's "Advanced Trade WebSocket Rate Limits", "WebSocket Overview" and "WebSocket Channels"."""
ENDING: Final = b""  # the venue does not announce that it closes a connection
PING: Final = b""  # its heartbeats keep a connection open
SERVED_AS: Final = {"-USDC": "-USD"}  # the order book is one; the venue may send either name's data as the other's
_CHANNELS: Final[dict[Data, str]] = {"trades": "market_trades", "quotes": "ticker"}
_LISTS: Final[dict[Data, str]] = {"trades": "trades", "quotes": "tickers"}
_CONTROL_CHANNELS: Final = frozenset({"heartbeats", "subscriptions"})
_REPLY_FIELDS: Final = frozenset({"message", "reason"})  # {"type":"error","message":"…","reason":"…"}
_LONGEST_ID: Final = 30  # digits; far more than any column holds
_HEAD_BYTES: Final = 64  # of a frame, in which its channel is named
_TRADE_FIELDS: Final[dict[str, Kind]] = dict.fromkeys(("trade_id", "product_id", "price", "size", "side", "time"), str)
_SIDES: Final = ("best_bid", "best_bid_quantity", "best_ask", "best_ask_quantity")
_QUOTE_FIELDS: Final[dict[str, Kind]] = dict.fromkeys(("product_id", *_SIDES), str)
_STATUSES: Final[dict[str, Status]] = {
    "online": "trading", "internal": "restricted", "offline": "halted", "delisted": "delisted",
}  # fmt: skip
# ``side`` is the maker's. The documentation of the channel does not say so, that of the older Exchange feed does ("the
# maker order side"), and in a capture of August 2026 74 of 78 trades that are marked SELL were at or above the mid
# price, or marked BUY below it: the aggressor's side is the opposite.
_AGGRESSOR: Final[dict[str, Side]] = {"BUY": "SELL", "SELL": "BUY"}


class _Trade(msgspec.Struct, gc=False):
    trade_id: str
    product_id: str
    price: str
    size: str
    side: Literal["BUY", "SELL"]
    time: str


class _TradesEvent(msgspec.Struct, gc=False):
    trades: list[_Trade]


class _Trades(msgspec.Struct, gc=False):
    channel: Literal["market_trades"]
    events: list[_TradesEvent]
    timestamp: str = ""
    sequence_num: int | None = None


class _Quote(msgspec.Struct, gc=False):
    product_id: str
    best_bid: str | None
    best_bid_quantity: str | None
    best_ask: str | None
    best_ask_quantity: str | None


class _QuotesEvent(msgspec.Struct, gc=False):
    tickers: list[_Quote]


class _Quotes(msgspec.Struct, gc=False):
    channel: Literal["ticker"]
    events: list[_QuotesEvent]
    timestamp: str
    sequence_num: int | None = None


class _Envelope(msgspec.Struct, gc=False):
    channel: str
    timestamp: str = ""
    sequence_num: int | None = None


class _Product(msgspec.Struct, gc=False):
    id: str
    base_currency: str
    quote_currency: str
    status: str
    quote_increment: str | None = None
    base_increment: str | None = None
    trading_disabled: bool = False
    cancel_only: bool = False
    post_only: bool = False
    limit_only: bool = False


class _Subscribed(msgspec.Struct, gc=False):
    subscriptions: dict[str, list[str] | None]


class _Reply(msgspec.Struct, gc=False):
    channel: str = ""
    events: list[_Subscribed] = msgspec.field(default_factory=list)
    type: str = ""


_Shape = TypeVar("_Shape")
_trades = msgspec.json.Decoder(_Trades)
_quotes = msgspec.json.Decoder(_Quotes)
_envelope = msgspec.json.Decoder(_Envelope)
_reply = msgspec.json.Decoder(_Reply)
_products: Final[msgspec.json.Decoder[list[msgspec.Raw]]] = msgspec.json.Decoder(list[msgspec.Raw])
_product = msgspec.json.Decoder(_Product)
_candles = msgspec.json.Decoder(list[list[msgspec.Raw]])


def stream_url(base: str) -> str:
    """Return the URL of market data, to which :func:`subscribe_frames` are then sent."""
    return base.rstrip("/")


def subscribe_frames(symbols: tuple[str, ...], data: tuple[Data, ...] = ("trades",)) -> list[bytes]:
    """Return the frames that subscribe to the trades, the quotes or both of ``symbols``, each acknowledged once.

    ``{"type":"subscribe","channel":"heartbeats"}`` first, without which a quiet channel is closed, then for each
    channel ``{"type":"subscribe","product_ids":["BTC-USD"],"channel":"market_trades"}``.
    """
    wanted = [{"type": "subscribe", "product_ids": symbols, "channel": _CHANNELS[kind]} for kind in data]
    return [msgspec.json.encode(frame) for frame in ({"type": "subscribe", "channel": "heartbeats"}, *wanted)]


def route(payload: bytes) -> Route:
    """Tell where a frame belongs; never raises: what cannot be read is ``unreadable``.

    Trade ids rise by one for each symbol, but come unsorted; a snapshot repeats about the last 100. ``sequence_num``
    rises by one over all messages of the connection, heartbeats and replies too. Quotes have no other key for gaps.
    """
    if b'"ticker"' in payload[:_HEAD_BYTES]:
        quotes_frame = decode_as(_quotes, payload)
        quotes = _quotes_in(quotes_frame)
        if quotes_frame is not None and quotes:
            return route_of_quotes(quotes, _counter(quotes_frame))
    trades_frame = decode_as(_trades, payload)
    trades = _trades_in(trades_frame, None)
    if trades_frame is not None and trades:
        return route_of_trades(trades, _counter(trades_frame))
    return route_of_any(payload, parse, parse_quotes, _counter(decode_as(_envelope, payload)))


def reply_of(payload: bytes) -> Reply | None:
    """Return what a control frame answers a subscription; None when it answers none.

    ``{"channel":"subscriptions","client_id":"","timestamp":"2026-04-07T14:30:00.000000Z","sequence_num":0,
    "events":[{"subscriptions":{"level2":["BTC-USD"],"market_trades":["BTC-USD","ETH-USD"]}}]}``

    It lists everything that the connection is subscribed to. A refusal is ``{"type":"error","message":"Failed to
    subscribe","reason":"XYZ-USD is not a valid product"}``; some text of it may name the product.
    """
    reply = decode_as(_reply, payload)
    if reply is None:
        return None
    if reply.type == "error":
        texts = texts_of(payload, leave_out=frozenset({"type", "channel"}))
        return Reply(accepted=False, text=": ".join(texts), fields=texts if len(texts) > 1 else ())
    if reply.channel != "subscriptions":
        return None
    listed = [event.subscriptions for event in reply.events]
    accepted = [
        (data, symbol) for each in listed for data, name in _CHANNELS.items() for symbol in each.get(name) or ()
    ]
    return Reply(accepted=True, subscriptions=tuple(accepted)) if accepted else None


def parse(payload: bytes) -> Trades | None:
    """Return the trades of a frame in their order within it; None for a control frame, or one without any trade.

    ``{"channel":"market_trades","client_id":"","timestamp":"2026-04-07T14:30:02.789012Z","sequence_num":5,
    "events":[{"type":"update","trades":[{"trade_id":"995098700","product_id":"BTC-USD","price":"68900.50",
    "size":"0.00150000","side":"BUY","time":"2026-04-07T14:30:02.789012Z"}]}]}``

    ``side`` is the maker's, so the aggressor's is the opposite. ``time`` is the trade's, ``timestamp`` the message's.
    """
    frame = decode_as(_trades, payload)
    trades = None if frame is None else _trades_in(frame, microseconds(frame.timestamp))
    if trades:
        return [*trades]
    items, time = _items_of(payload, "trades")
    published_us = microseconds(time)
    return [_trade_of(_as(_Trade, item), published_us) or _bad_trade(item) for item in items] or None


def parse_quotes(payload: bytes) -> Quotes | None:
    """Return the quotes of a frame in their order within it; None for a control frame, or one without any quote.

    ``{"channel":"ticker","client_id":"","timestamp":"2026-04-07T14:30:03.000000Z","sequence_num":12,"events":[
    {"type":"snapshot","tickers":[{"type":"ticker","product_id":"BTC-USD","price":"68900.50",
    "volume_24_h":"15328.12345678","low_24_h":"67500.00","high_24_h":"69200.00","low_52_w":"25000.00",
    "high_52_w":"73800.00","price_percent_chg_24_h":"1.85","best_bid":"68900.00","best_bid_quantity":"1.50000000",
    "best_ask":"68901.00","best_ask_quantity":"0.50000000"}]}]}``

    A quote has the time of its message. The venue gives no id: see :func:`k2_core.quotes.quote_id`.
    """
    quotes = _quotes_in(decode_as(_quotes, payload))
    if quotes:
        return [*quotes]
    items, time = _items_of(payload, "quotes")
    return [_quote_of(_as(_Quote, item), time) or _bad_quote(item, time) for item in items] or None


def instrument_of(venue_symbol: str) -> Instrument | None:
    """Return base and quote of ``BTC-USD``; None when it cannot be split into them, or it is no spot product."""
    base, hyphen, quote = venue_symbol.partition("-")
    if not hyphen or not base.isalnum() or not quote.isalnum():
        return None
    return instrument(base, quote)


def instruments_url(rest_base: str) -> str:
    """Return the URL of the list of instruments, which :func:`parse_instruments` reads."""
    return f"{rest_base.rstrip('/')}/products"


def parse_instruments(body: bytes) -> Listings:
    """Return the instruments that the venue lists on its Exchange interface, whose products Advanced Trade trades.

    ``[{"id":"BTC-USD","base_currency":"BTC","quote_currency":"USD","quote_increment":"0.01",
    "base_increment":"0.00000001","display_name":"BTC-USD","min_market_funds":"1","margin_enabled":false,
    "post_only":false,"limit_only":false,"cancel_only":false,"status":"online","status_message":"",
    "trading_disabled":false,"fx_stablecoin":false,"max_slippage_percentage":"0.02000000","auction_mode":false}]``
    """
    entries: list[msgspec.Raw] = decode_reply(_products, body)
    return read_listings(entries, _product, _listing, lambda entry: entry.get("id"))


def klines_url(rest_base: str, venue_symbol: str, first_us: int, end_us: int) -> str:
    """Return the URL of the one-minute candles of the Exchange interface, which :func:`parse_klines` reads."""
    window = f"start={first_us // 1_000_000}&end={end_us // 1_000_000 - 60}"
    return f"{rest_base.rstrip('/')}/products/{venue_symbol}/candles?granularity=60&{window}"


def parse_klines(body: bytes) -> list[Kline]:
    """Return candles: start in s, low, high, open, close, volume; numbers without quotes, the newest first.

    ``[[1688671260,30306.1,30306.2,30305.7,30305.7,3.39243896]]``
    """
    rows = decode_reply(_candles, body)
    return [kline_of(row, 1_000_000, opening=3, high=2, low=1, close=4, volume=5) for row in rows]


def _listing(product: _Product) -> Listing:
    status = _STATUSES.get(product.status, "unknown")
    modes = ("trading_disabled", "cancel_only", "post_only", "limit_only")
    held = [mode for mode in modes if getattr(product, mode)]
    if status == "trading" and held:
        status = "halted" if product.trading_disabled else "restricted"
    sizes = (product.quote_increment, product.base_increment)
    codes = (product.base_currency, product.quote_currency)
    return listing(product.id, codes, sizes, status, " ".join((product.status, *held)))


def _trades_in(frame: _Trades | None, published_us: int | None) -> list[VenueTrade] | None:
    """Return the trades of a frame in which every trade is valid; None for any other frame."""
    if frame is None:
        return None
    # One bad trade refuses the whole frame: the slow path then reads each by itself and says what is wrong with it.
    trades = []
    for event in frame.events:
        for each in event.trades:
            trade = _trade_of(each, published_us)
            if trade is None:
                return None
            trades.append(trade)
    return trades


def _trade_of(trade: _Trade | None, published_us: int | None) -> VenueTrade | None:
    if trade is None:
        return None
    event_us, number = microseconds(trade.time), _whole(trade.trade_id)
    if event_us is None or number is None or number >= MAX_ID:
        return None
    side = _AGGRESSOR[trade.side]
    return VenueTrade(trade.product_id, trade.trade_id, number, trade.price, trade.size, event_us, published_us, side)


def _quotes_in(frame: _Quotes | None) -> list[VenueQuote] | None:
    """Return the quotes of a frame in which every quote is valid; None for any other frame."""
    if frame is None:
        return None
    found = [_quote_of(each, frame.timestamp) for event in frame.events for each in event.tickers]
    quotes = [quote for quote in found if quote is not None]
    return quotes if len(quotes) == len(found) else None


def _quote_of(quote: _Quote | None, time: str) -> VenueQuote | None:
    event_us = microseconds(time)
    if quote is None or event_us is None:
        return None
    bid, ask = side_of(quote.best_bid, quote.best_bid_quantity), side_of(quote.best_ask, quote.best_ask_quantity)
    identity = quote_id(canonical_time(time), *bid, *ask)
    return VenueQuote(quote.product_id, identity, None, *bid, *ask, event_us, event_us)


def _whole(text: str) -> int | None:
    """Return an id that is a whole number in ASCII digits without leading zeros; None for any other text."""
    # One spelling for each number: two spellings of one id would be two message ids.
    plain = text.isdecimal() and text.isascii() and (text[0] != "0" or text == "0") and len(text) <= _LONGEST_ID
    return int(text) if plain else None


def _counter(frame: _Trades | _Quotes | _Envelope | None) -> int | None:
    counter = None if frame is None else frame.sequence_num
    return counter if counter is not None and 0 <= counter < MAX_ID else None


def _items_of(payload: bytes, data: Data) -> tuple[list[object], str]:
    """Return the trades or quotes of a frame and the message's time; none for a control frame.

    An event without items is replaced by its :class:`Fault`, so that it becomes one rejected row.
    """
    message = message_on(_CHANNELS[data], payload, "events", control=_CONTROL_CHANNELS, replies=_REPLY_FIELDS)
    if message is None:
        return [], ""
    time, events = message.get("timestamp"), message["events"]
    assert isinstance(events, list)  # noqa: S101  # message_on checked it
    items, name = list[object](), _LISTS[data]
    for event in events:
        if not isinstance(event, dict):
            items.append(Fault("wrong_type", f"an event is {spelled(event)}, expected an object"))
        elif (fault := fault_in(event, {name: list})) is not None:
            items.append(fault)
        else:
            items += event[name]
    return items, time if isinstance(time, str) else ""


def _as(shape: type[_Shape], item: object) -> _Shape | None:
    try:
        return msgspec.convert(item, shape) if isinstance(item, dict) else None
    except msgspec.ValidationError:
        return None


def _bad_trade(item: object) -> BadTrade:
    if isinstance(item, Fault):
        return BadTrade(*item)
    if not isinstance(item, dict):
        return BadTrade("wrong_type", f"a trade is {spelled(item)}, expected an object")
    event_us = microseconds(item["time"]) if isinstance(item.get("time"), str) else None
    fault = fault_in(item, _TRADE_FIELDS)
    if fault is not None:
        return BadTrade(*fault, event_us)
    if not item["trade_id"].isdecimal() or _whole(item["trade_id"][-_LONGEST_ID:]) is None:
        text = f"field trade_id is {spelled(item['trade_id'])}, expected a whole number"
    elif item["side"] not in _AGGRESSOR:
        text = f"field side is {spelled(item['side'])}, expected BUY or SELL"
    elif event_us is None:
        text = f"field time is {spelled(item['time'])}, expected an RFC 3339 time in UTC"
    else:
        text = f"field trade_id is {spelled(item['trade_id'])}: it has more than 63 bits"
        return BadTrade("number_out_of_range", text, event_us)
    return BadTrade("wrong_type", text, event_us)


def _bad_quote(item: object, time: str) -> BadQuote:
    event_us = microseconds(time)
    if isinstance(item, Fault):
        return BadQuote(*item, event_us)
    if not isinstance(item, dict):
        return BadQuote("wrong_type", f"a quote is {spelled(item)}, expected an object", event_us)
    fault = fault_in(item, _QUOTE_FIELDS, may_be_null=frozenset(_SIDES))
    if fault is None and event_us is None:
        fault = Fault("wrong_type" if time else "missing_field", f"field timestamp of the message is {spelled(time)}")
    return BadQuote(*(fault or Fault("wrong_type", "a field has a type that is not documented")), event_us)
