"""Binance's protocol: trades and best bid and offer, combined or raw, and its list of instruments. Pure.

Source: Binance's "WebSocket Streams" and "General endpoints" documentation.
"""

import json
from collections.abc import Iterable, Iterator, Set
from functools import cache
from typing import Any, Final

from k2_feeds.simulator.attribution import is_raw
from k2_feeds.simulator.board import Board, Message
from k2_feeds.simulator.market import Event, Quote, Side
from k2_feeds.simulator.requests import Subscriptions
from k2_feeds.simulator.simulated_listings import Listing
from k2_feeds.simulator.texts import decimal_text

REQUESTS_A_SECOND: Final[int | None] = 5
SUBSCRIBE_WITHIN_S: Final[float | None] = None
_DIGITS: Final = 8
_BOOK_TICKER: Final = '{"u":%d,"s":"%s","b":"%s","B":"%s","a":"%s","A":"%s"}'
_TRADE: Final = '{"e":"trade","E":%d,"s":"%s","t":%d,"p":"%s","q":"%s","T":%d,"m":%s,"M":true}'
_SHUTDOWN_STREAM: Final = "!serverShutdown"


class BinanceSession:
    """One client's streams, chosen by its URL and its requests."""

    def __init__(self, path: str, board: Board) -> None:
        self._streams = Subscriptions(path)
        self._board = board

    @property
    def subscribed(self) -> bool:
        """Whether the client subscribed to anything."""
        return bool(self._streams.streams)

    @property
    def answered(self) -> Set[str]:
        """The streams of symbols whose subscriptions were answered, whether accepted or refused."""
        return self._streams.streams.keys() | self._streams.refused

    def greeting(self, now_us: int) -> list[bytes]:  # noqa: ARG002  # as its twins
        """Return nothing: Binance begins silently."""
        return []

    def answer(self, request: str | bytes, now_us: int) -> list[bytes]:  # noqa: ARG002
        """Carry a request out; a stream of a symbol that is not traded here is accepted and stays silent."""
        return [self._streams.answer(request)]

    def beat(self, now_us: int, idle: bool) -> list[bytes]:  # noqa: ARG002
        """Return nothing: the socket's pings are Binance's heartbeat."""
        return []

    def wants(self, message: Message) -> bool:
        """Whether the client is subscribed to it."""
        return not message.streams or not self._streams.streams.keys().isdisjoint(message.streams)

    def frame(self, message: Message) -> bytes:
        """Return the frame that carries a message to this client, wrapped on a combined connection.

        A recorded one is wrapped too if it was recorded raw and its stream is known, and goes out as it is otherwise.
        """
        raw = message.event is not None or (bool(message.streams) and is_raw(message.body))
        if not (raw and self._streams.combined):
            return message.body
        return b'{"stream":"%b","data":%b}' % (message.streams[0].encode(), message.body)

    def shutdown(self, now_us: int) -> bytes:
        """Return the announcement that this connection will end; it comes without being subscribed to."""
        body = b'{"e":"serverShutdown","E":%d}' % (now_us // 1000)
        if self._streams.combined and _SHUTDOWN_STREAM in self._streams.streams:
            return b'{"stream":"%b","data":%b}' % (_SHUTDOWN_STREAM.encode(), body)
        return body


def session(path: str, board: Board) -> BinanceSession:
    """Return the conversation with one client."""
    return BinanceSession(path, board)


def messages(events: Iterable[Event], published_us: int) -> Iterator[Message]:
    """Yield the messages of events: one for each trade and each quote."""
    for event in events:
        symbol, names = event.listing.symbol, streams(event.listing.symbol)
        if isinstance(event, Quote):
            sides = (*side_texts(event.listing, event.bid), *side_texts(event.listing, event.ask))
            yield Message(names[1], (_BOOK_TICKER % (event.number, symbol, *sides)).encode(), event)
            continue
        for trade in event.trades:
            price, quantity = side_texts(event.listing, (trade.ticks, trade.lots))
            maker = "true" if trade.sells else "false"  # m: whether the buyer was the maker
            values = (published_us // 1000, symbol, trade.number, price, quantity, trade.at_us // 1000, maker)
            yield Message(names[0], (_TRADE % values).encode(), event._replace(trades=[trade]))


def side_texts(listing: Listing, side: Side | None) -> tuple[str, str]:
    """Return price and quantity of a side as Binance writes them, with eight decimals; zeros when there is none."""
    ticks, lots = side or (0, 0)
    price = decimal_text(ticks * 10 ** (_DIGITS - listing.tick_digits), _DIGITS)
    return price, decimal_text(lots * 10 ** (_DIGITS - listing.lot_digits), _DIGITS)


def instruments(listings: Iterable[Listing], now_us: int) -> bytes:
    """Return the body of ``GET /api/v3/exchangeInfo``."""
    limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}]
    body: dict[str, Any] = {"timezone": "UTC", "serverTime": now_us // 1000, "rateLimits": limits}
    return json.dumps({**body, "exchangeFilters": [], "symbols": [_symbol(listing) for listing in listings]}).encode()


@cache
def streams(symbol: str) -> tuple[tuple[str], tuple[str]]:
    """Return the streams of a symbol's trades and of its quotes: its name in lower case, of whatever script."""
    return (f"{symbol.lower()}@trade",), (f"{symbol.lower()}@bookTicker",)


def _symbol(listing: Listing) -> dict[str, Any]:
    tick = decimal_text(10 ** (_DIGITS - listing.tick_digits), _DIGITS)
    lot = decimal_text(10 ** (_DIGITS - listing.lot_digits), _DIGITS)
    return {
        "symbol": listing.symbol,
        "status": "TRADING",
        "baseAsset": listing.base,
        "baseAssetPrecision": 8,
        "quoteAsset": listing.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "92141578.00000000", "stepSize": lot},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True, "avgPriceMins": 5},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
    }
