"""Coinbase Advanced Trade's protocol: market_trades, ticker, heartbeats, and its list of products. Pure.

Source: Coinbase's "Advanced Trade WebSocket" documentation with its AsyncAPI description, and "Get all known trading
pairs" of the Exchange API.
"""

import json
import re
from collections.abc import Iterable, Iterator, Set
from functools import cache
from typing import Any, Final

from k2_feeds.simulator.board import Board, Message
from k2_feeds.simulator.market import Event, Quote, Side, Trade, Trades
from k2_feeds.simulator.simulated_listings import Listing
from k2_feeds.simulator.texts import decimal_text, parsed_request, rfc3339

REQUESTS_A_SECOND: Final[int | None] = 8
SUBSCRIBE_WITHIN_S: Final[float | None] = 5.0
_CHANNELS: Final = frozenset({"market_trades", "ticker", "heartbeats", "level2", "candles", "status", "ticker_batch"})
_WITHOUT_PRODUCTS: Final = frozenset({"heartbeats", "status"})
_SNAPSHOT_TRADES: Final = 100
_NUMBER: Final = re.compile(rb'("sequence_num"\s*:\s*)(\d{1,19})(?!\d)')


class CoinbaseSession:
    """One client's subscriptions and its counter of messages, which rises by one over all channels."""

    def __init__(self, board: Board) -> None:
        self._channels: dict[str, dict[str, None]] = {}
        self._streams: set[str] = set()
        self._refused: set[str] = set()
        self._board = board
        self._sequence, self._beats, self._withheld = 0, 0, 0

    @property
    def subscribed(self) -> bool:
        """Whether the client subscribed to anything."""
        return bool(self._channels)

    @property
    def answered(self) -> Set[str]:
        """The streams of symbols whose subscriptions were answered, whether accepted or refused."""
        return (self._streams | self._refused) - _WITHOUT_PRODUCTS

    def greeting(self, now_us: int) -> list[bytes]:  # noqa: ARG002  # as its twins
        """Return nothing: Coinbase begins silently."""
        return []

    def answer(self, request: str | bytes, now_us: int) -> list[bytes]:
        """Carry a request out: errors for what is not listed, snapshots, then all subscriptions."""
        asked = parsed_request(request)
        if asked is None or asked.get("type") not in {"subscribe", "unsubscribe"}:
            return [_error("failed to parse the request: unknown type")]
        channel, products = asked.get("channel"), asked.get("product_ids", [])
        if channel not in _CHANNELS:
            return [_error(f"unknown channel: {channel}")]
        if not isinstance(products, list) or not (products or channel in _WITHOUT_PRODUCTS):
            return [_error(f"channel {channel} needs product_ids")]
        known = [product for product in products if product in self._board.listings]
        unknown = [product for product in products if product not in known]
        errors = [_error(f"unknown product: {product}") for product in unknown]
        self._refused.update(f"{channel}:{product}" for product in unknown)
        if products and not known and channel not in _WITHOUT_PRODUCTS:
            return errors
        snapshots = self._change(asked["type"], channel, known, now_us)
        listed = {name: list(of_channel) for name, of_channel in self._channels.items()}
        subscriptions = json.dumps([{"subscriptions": listed}], separators=(",", ":"))
        return [*errors, *snapshots, self._said(_envelope("subscriptions", now_us), subscriptions)]

    def beat(self, now_us: int, idle: bool) -> list[bytes]:  # noqa: ARG002
        """Return a heartbeat, if they are subscribed to."""
        if "heartbeats" not in self._channels:
            return []
        self._beats += 1
        event = {"current_time": f"{rfc3339(now_us)}"[:-1].replace("T", " ") + "000+00:00"}
        events = json.dumps([{**event, "heartbeat_counter": self._beats}], separators=(",", ":"))
        return [self._said(_envelope("heartbeats", now_us), events)]

    def wants(self, message: Message) -> bool:
        """Whether the client is subscribed to it; a recorded message that is withheld from it is counted."""
        # The recording's numbers count the messages of all its channels: without those that are withheld, the client
        # would take each for a loss.
        wanted = not message.streams or not self._streams.isdisjoint(message.streams)
        if not wanted and message.event is None and _NUMBER.search(message.body):
            self._withheld += 1
        return wanted

    def frame(self, message: Message) -> bytes:
        """Return the frame that carries a message to this client, under its next number.

        A recorded one keeps its number, less one for each numbered message that was withheld from this client: what
        the recording has a hole in stays a hole, and what the client did not subscribe to makes none.
        """
        if message.event is None:
            if not self._withheld:
                return message.body
            return _NUMBER.sub(
                lambda found: b"%b%d" % (found[1], max(int(found[2]) - self._withheld, 0)), message.body, count=1
            )
        body = message.body % self._sequence
        self._sequence += 1
        return body

    def _change(self, kind: str, channel: str, products: list[str], now_us: int) -> list[bytes]:
        listed = self._channels.setdefault(channel, {})
        names = [f"{channel}:{product}" for product in products] or [channel]
        if kind == "unsubscribe":
            self._streams.difference_update(names)
            for product in products:
                listed.pop(product, None)
            if not listed:
                del self._channels[channel]
            return []
        # A product that was subscribed to already gets no second snapshot. A channel without products lists itself.
        fresh = [product for product in products if product not in listed]
        listed.update(dict.fromkeys(products or [channel]))
        self._streams.update(names)
        snapshots = []
        for product in fresh:
            trades, quote = self._board.last_trades(product, _SNAPSHOT_TRADES), self._board.last_quote(product)
            if channel == "market_trades" and trades:
                made = Trades(self._board.listings[product], trades)
                snapshots.append(self.frame(Message((), _trades(*made, "snapshot", now_us), made)))
            if channel == "ticker" and quote is not None:
                snapshots.append(self.frame(Message((), _ticker(quote, "snapshot"), quote)))
        return snapshots

    def _said(self, envelope: str, events: str) -> bytes:
        if self._board.recorded:  # the numbers are the recording's
            return f'{envelope},"events":{events}}}'.encode()
        sequence, self._sequence = self._sequence, self._sequence + 1
        return f'{envelope},"sequence_num":{sequence},"events":{events}}}'.encode()


def session(path: str, board: Board) -> CoinbaseSession:  # noqa: ARG001  # as its twins
    """Return the conversation with one client."""
    return CoinbaseSession(board)


def messages(events: Iterable[Event], published_us: int) -> Iterator[Message]:
    """Yield the messages of events: one for all trades of a product, newest first, one for each quote."""
    together: dict[str, Trades] = {}
    for event in events:
        if isinstance(event, Quote):
            yield Message(streams(event.listing.symbol)[1], _ticker(event, "update"), event)
        else:
            found = together.setdefault(event.listing.symbol, Trades(event.listing, []))
            found.trades.extend(event.trades)
    for product, made in together.items():
        yield Message(streams(product)[0], _trades(*made, "update", published_us), made)


def side_texts(listing: Listing, side: Side | None) -> tuple[str, str]:
    """Return price and size of a side as Coinbase writes them; zeros when there is none."""
    ticks, lots = side or (0, 0)
    return decimal_text(ticks, listing.tick_digits), decimal_text(lots, listing.lot_digits)


def instruments(listings: Iterable[Listing], now_us: int) -> bytes:  # noqa: ARG001  # as its twins
    """Return the body of ``GET /products``."""
    return json.dumps([_product(listing) for listing in listings], separators=(",", ":")).encode()


def _trades(listing: Listing, trades: list[Trade], kind: str, published_us: int) -> bytes:
    """Return a message with a place for its number; a trade's ``side`` is the maker's."""
    rows = []
    for trade in reversed(trades):
        price, size = side_texts(listing, (trade.ticks, trade.lots))
        side = "BUY" if trade.sells else "SELL"
        rows.append(
            f'{{"product_id":"{listing.symbol}","trade_id":"{trade.number}","price":"{price}","size":"{size}",'
            f'"time":"{rfc3339(trade.at_us)}","side":"{side}"}}'
        )
    head = _envelope("market_trades", published_us)
    events = f'[{{"type":"{kind}","trades":[{",".join(rows)}]}}]'
    return f'{head},"sequence_num":%d,"events":{events}}}'.encode()


def _ticker(quote: Quote, kind: str) -> bytes:
    listing = quote.listing
    (bid, bid_size), (ask, ask_size) = side_texts(listing, quote.bid), side_texts(listing, quote.ask)
    last = decimal_text(quote.last_ticks, listing.tick_digits)
    return (
        f'{_envelope("ticker", quote.at_us, quote.number)},"sequence_num":%d,"events":[{{"type":"{kind}","tickers":'
        f'[{{"type":"ticker","product_id":"{listing.symbol}","price":"{last}","volume_24_h":"15328.12345678",'
        f'"low_24_h":"{last}","high_24_h":"{last}","low_52_w":"{last}","high_52_w":"{last}",'
        f'"price_percent_chg_24_h":"0","best_bid":"{bid}","best_bid_quantity":"{bid_size}","best_ask":"{ask}",'
        f'"best_ask_quantity":"{ask_size}"}}]}}]}}'
    ).encode()


def _envelope(channel: str, at_us: int, number: int = 0) -> str:
    """Return the head of a message; nanoseconds are made of ``number``, so that a repeat has the same."""
    nanoseconds = f"{number * 7919 % 1000:03d}"
    return f'{{"channel":"{channel}","timestamp":"{rfc3339(at_us, nanoseconds)}"'


@cache
def streams(symbol: str) -> tuple[tuple[str], tuple[str]]:
    """Return the streams of a product's trades and of its quotes; the venue tells upper from lower case."""
    return (f"market_trades:{symbol}",), (f"ticker:{symbol}",)


def _product(listing: Listing) -> dict[str, Any]:
    return {
        "id": listing.symbol,
        "base_currency": listing.base,
        "quote_currency": listing.quote,
        "quote_increment": decimal_text(1, listing.tick_digits),
        "base_increment": decimal_text(1, listing.lot_digits),
        "display_name": listing.symbol,
        "min_market_funds": "1",
        "margin_enabled": False,
        "post_only": False,
        "limit_only": False,
        "cancel_only": False,
        "status": "online",
        "status_message": "",
        "trading_disabled": False,
        "fx_stablecoin": False,
        "max_slippage_percentage": "0.02000000",
        "auction_mode": False,
        "high_bid_limit_percentage": "",
    }


def _error(message: str) -> bytes:
    return json.dumps({"type": "error", "message": message}, separators=(",", ":")).encode()
