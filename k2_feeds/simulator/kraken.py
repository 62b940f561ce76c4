"""Kraken's protocol, WebSocket version 2: trade, ticker, status, heartbeat, ping, and its list of pairs. Pure.

Source: Kraken's "Spot WebSocket v2" documentation and "Get Tradable Asset Pairs".
"""

import json
from collections.abc import Iterable, Iterator, Set
from functools import cache
from typing import Any, Final

from k2_feeds.simulator.board import Board, Message
from k2_feeds.simulator.market import Event, Quote, Side, Trade
from k2_feeds.simulator.simulated_listings import Listing
from k2_feeds.simulator.texts import decimal_text, parsed_request, rfc3339

REQUESTS_A_SECOND: Final[int | None] = None
SUBSCRIBE_WITHIN_S: Final[float | None] = None
_CHANNELS: Final = frozenset({"trade", "ticker", "book", "ohlc", "level3"})
_SNAPSHOT_TRADES: Final = 50
_OLD_NAMES: Final = {"BTC": "XBT", "DOGE": "XDG"}
_PREFIXED: Final = {"BTC": "XXBT", "ETH": "XETH", "XRP": "XXRP", "LTC": "XLTC", "DOGE": "XXDG", "USD": "ZUSD"}


class KrakenSession:
    """One client's subscriptions: ``channel:symbol``."""

    def __init__(self, board: Board) -> None:
        self._streams: dict[str, None] = {}
        self._refused: set[str] = set()
        self._board = board

    @property
    def subscribed(self) -> bool:
        """Whether the client subscribed to anything."""
        return bool(self._streams)

    @property
    def answered(self) -> Set[str]:
        """The streams of symbols whose subscriptions were answered, whether accepted or refused."""
        return self._streams.keys() | self._refused

    def greeting(self, now_us: int) -> list[bytes]:
        """Return the status of the system."""
        data = {"api_version": "v2", "connection_id": now_us, "system": "online", "version": "2.0.9"}
        return [_json({"channel": "status", "type": "update", "data": [data]})]

    def answer(self, request: str | bytes, now_us: int) -> list[bytes]:
        """Carry a request out: a reply for each symbol, refused alone when it is not listed, and its snapshot."""
        time_in = rfc3339(now_us)
        asked = parsed_request(request)
        if asked is None:
            return [_json({"error": "Malformed request", "success": False, "time_in": time_in, "time_out": time_in})]
        method = asked.get("method")
        ids = {"req_id": asked["req_id"]} if "req_id" in asked else {}
        times = {"time_in": time_in, "time_out": rfc3339(now_us + 48)}
        if method == "ping":
            return [_json({"method": "pong", **ids, **times})]
        params = asked.get("params")
        if method not in {"subscribe", "unsubscribe"} or not isinstance(params, dict):
            return [_json({"error": "Method not supported", "method": method, **ids, "success": False, **times})]
        channel, symbols = params.get("channel"), params.get("symbol")
        if channel not in _CHANNELS or not isinstance(symbols, list):
            text = "Channel name invalid" if channel not in _CHANNELS else "Symbol(s) not found"
            return [_json({"error": text, "method": method, **ids, "success": False, **times})]
        # A symbol that is not listed is refused alone: the others of the same request are subscribed to.
        snapshot = params.get("snapshot", True) is not False
        return [
            frame
            for symbol in symbols
            for frame in self._carry_out(method, channel, str(symbol), snapshot, {**ids, **times})
        ]

    def beat(self, now_us: int, idle: bool) -> list[bytes]:  # noqa: ARG002  # as its twins
        """Return a heartbeat when nothing else was sent on any subscription."""
        return [b'{"channel":"heartbeat"}'] if idle and self._streams else []

    def wants(self, message: Message) -> bool:
        """Whether the client is subscribed to it."""
        return not message.streams or not self._streams.keys().isdisjoint(message.streams)

    def frame(self, message: Message) -> bytes:
        """Return the frame that carries a message to this client."""
        return message.body

    def _carry_out(
        self, method: str, channel: str, symbol: str, snapshot: bool, rest: dict[str, Any]
    ) -> Iterator[bytes]:
        stream = f"{channel}:{symbol}"
        if method == "unsubscribe":
            error = None if stream in self._streams else "Subscription not found"
        elif symbol not in self._board.listings:
            error = f"Currency pair not supported {symbol}"
        else:
            error = "Already subscribed" if stream in self._streams else None
        if error:
            self._refused.add(stream)
            yield _json({"error": error, "method": method, "success": False, "symbol": symbol, **rest})
            return
        result: dict[str, Any] = {"channel": channel, "symbol": symbol}
        if method == "unsubscribe":
            del self._streams[stream]
            yield _json({"method": method, "result": result, "success": True, **rest})
            return
        self._streams[stream] = None
        extra = {"event_trigger": "bbo"} if channel == "ticker" else {}
        result = {**result, **extra, "snapshot": snapshot}
        yield _json({"method": method, "result": result, "success": True, **rest})
        trades, quote = self._board.last_trades(symbol, _SNAPSHOT_TRADES), self._board.last_quote(symbol)
        if snapshot and channel == "trade" and trades:
            yield _trades(self._board.listings[symbol], trades, "snapshot")
        if snapshot and channel == "ticker" and quote is not None:
            yield _ticker(quote, "snapshot")


def session(path: str, board: Board) -> KrakenSession:  # noqa: ARG001  # as its twins
    """Return the conversation with one client."""
    return KrakenSession(board)


def messages(events: Iterable[Event], published_us: int) -> Iterator[Message]:  # noqa: ARG001  # as its twins
    """Yield the messages of events: one for all trades of an order, one for each quote."""
    for event in events:
        trade, ticker = streams(event.listing.symbol)
        if isinstance(event, Quote):
            yield Message(ticker, _ticker(event, "update"), event)
        else:
            yield Message(trade, _trades(event.listing, event.trades, "update"), event)


def side_texts(listing: Listing, side: Side | None) -> tuple[str, str]:
    """Return price and quantity of a side as Kraken writes them: JSON numbers; zeros when there is none."""
    ticks, lots = side or (0, 0)
    return decimal_text(ticks, listing.tick_digits), decimal_text(lots, listing.lot_digits)


def instruments(listings: Iterable[Listing], now_us: int) -> bytes:  # noqa: ARG001
    """Return the body of ``GET /0/public/AssetPairs``: under Kraken's old names, which its WebSocket does not use."""
    return _json({"error": [], "result": dict(map(_pair, listings))})


def _trades(listing: Listing, trades: list[Trade], kind: str) -> bytes:
    rows = []
    for trade in trades:
        price, quantity = side_texts(listing, (trade.ticks, trade.lots))
        side, order = "sell" if trade.sells else "buy", "market" if trade.number % 3 else "limit"
        rows.append(
            f'{{"symbol":"{listing.symbol}","side":"{side}","price":{price},"qty":{quantity},"ord_type":"{order}",'
            f'"trade_id":{trade.number},"timestamp":"{rfc3339(trade.at_us)}"}}'
        )
    return f'{{"channel":"trade","type":"{kind}","data":[{",".join(rows)}]}}'.encode()


def _ticker(quote: Quote, kind: str) -> bytes:
    listing = quote.listing
    (bid, bid_quantity), (ask, ask_quantity) = side_texts(listing, quote.bid), side_texts(listing, quote.ask)
    last = decimal_text(quote.last_ticks, listing.tick_digits)
    return (
        f'{{"channel":"ticker","type":"{kind}","data":[{{"symbol":"{listing.symbol}","bid":{bid},'
        f'"bid_qty":{bid_quantity},"ask":{ask},"ask_qty":{ask_quantity},"last":{last},"volume":163.28908096,'
        f'"vwap":{last},"low":{last},"high":{last},"change":0.0,"change_pct":0.0,'
        f'"timestamp":"{rfc3339(quote.at_us)}"}}]}}'
    ).encode()


@cache
def streams(symbol: str) -> tuple[tuple[str], tuple[str]]:
    """Return the streams of a symbol's trades and of its quotes; the venue tells upper from lower case."""
    return (f"trade:{symbol}",), (f"ticker:{symbol}",)


def _pair(listing: Listing) -> tuple[str, dict[str, Any]]:
    # A pair's key puts the assets' own names together (XXBTZUSD) where both have four letters and begin with X or Z,
    # and is the plain altname elsewhere (ADAUSD, and XDGUSD).
    base, quote = (_OLD_NAMES.get(code, code) for code in (listing.base, listing.quote))
    prefixed = tuple(_PREFIXED.get(code, code) for code in (listing.base, listing.quote))
    both = all(len(code) == 4 and code[0] in "XZ" for code in prefixed) and base != "XDG"  # noqa: PLR2004
    pair = {
        "altname": f"{base}{quote}",
        "wsname": f"{base}/{quote}",
        "aclass_base": "currency",
        "base": prefixed[0],
        "aclass_quote": "currency",
        "quote": prefixed[1],
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": listing.tick_digits,
        "lot_decimals": listing.lot_digits,
        "lot_multiplier": 1,
        "leverage_buy": [2, 3, 4, 5],
        "leverage_sell": [2, 3, 4, 5],
        "fees": [[0, 0.4], [10000, 0.35]],
        "fees_maker": [[0, 0.25], [10000, 0.2]],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": decimal_text(10, listing.lot_digits) if listing.lot_digits else "10",
        "costmin": "0.5",
        "tick_size": decimal_text(1, listing.tick_digits),
        "status": "online",
    }
    return "".join(prefixed) if both else f"{base}{quote}", pair


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
