"""A venue that does what a test tells it, in a thread of its own: trades at a steady pace, faults on demand."""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

TRADES_A_SECOND = 100


class Client:
    """One connection, and what it is subscribed to: (channel, symbol)."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.subscribed: set[tuple[str, str]] = set()
        self.asked: set[tuple[str, str]] = set()
        self.sequence = 0


class ScriptedVenue:
    """One venue on a free port. Ids rise whoever listens; who is subscribed gets every trade from then on.

    ``listed`` are the symbols of its REST interface; ``refuses`` those that its WebSocket does not have; ``mute``
    subscriptions, (channel, symbol), are acknowledged and bring nothing; ``unanswered`` ones are not even that, and
    Kraken is ``busy`` for some. ``refusal`` makes the refusal of a whole request from the symbols that it asked for and
    those that it is refused for. Unless it ``acknowledges`` it serves what is asked for, and answers nothing.
    ``aliases`` come under another name, and are acknowledged so if it
    ``acknowledges_aliases``. With ``snapshots`` it begins each subscription with one, of mute ones too.
    """

    def __init__(self, name: str, symbols: tuple[str, ...]) -> None:
        self.name, self.listed = name, list(symbols)
        self.refuses: set[str] = set()
        self.mute: set[tuple[str, str]] = set()
        self.unanswered: set[tuple[str, str]] = set()
        self.busy: set[tuple[str, str]] = set()
        self.refusal: Callable[[list[str], list[str]], Any] | None = None
        self.aliases: dict[str, str] = {}
        self.acknowledges = True
        self.acknowledges_aliases = False
        self.snapshots = False
        self.clients: list[Client] = []
        self.requests: list[tuple[float, Any]] = []
        self.handshakes: list[float] = []
        self.refuse_with: int | None = None
        self.rest_status = 200
        self.retry_after = "2"
        self.offset_s = 0.0
        self.ids = dict.fromkeys(symbols, int(time.time() * 1000))  # noqa: TID251  # above those of earlier tests
        self.port = 0
        self.tls: ssl.SSLContext | None = None
        self.busiest = 0
        self.deaf = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._server: Server

    @property
    def url(self) -> str:
        return f"{'wss' if self.tls else 'ws'}://127.0.0.1:{self.port}"

    @property
    def rest_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def do(self, action: Coroutine[Any, Any, None]) -> None:
        """Run something in the venue's own thread."""
        asyncio.run_coroutine_threadsafe(action, self._loop).result(10)

    async def say(self, payload: bytes) -> None:
        """Send a frame to everybody."""
        for client in self.clients:
            await client.socket.send(payload, text=True)

    async def cut(self) -> None:
        """End every connection at once."""
        for client in tuple(self.clients):
            client.socket.transport.abort()

    def _page(self, _socket: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            self.handshakes.append(time.monotonic())  # noqa: TID251
            return self._answer(self.refuse_with, b"") if self.refuse_with else None
        return self._answer(self.rest_status, self._listing() if self.rest_status == 200 else b"")

    def _answer(self, status: int, body: bytes) -> Response:
        headers = Headers({"Content-Length": str(len(body)), "Connection": "close", "Retry-After": self.retry_after})
        return Response(status, "said", headers, body)

    def _listing(self) -> bytes:
        if self.name == "binance":
            listed = [
                {"symbol": s, "status": "TRADING", "baseAsset": s[:-4], "quoteAsset": s[-4:]} for s in self.listed
            ]
            return json.dumps({"symbols": [{**each, "filters": []} for each in listed]}).encode()
        if self.name == "kraken":
            pairs = {
                s: {"altname": s, "wsname": s, "base": s[:3], "quote": s[4:], "status": "online"} for s in self.listed
            }
            return json.dumps({"error": [], "result": pairs}).encode()
        products = [{"id": s, "base_currency": s[:3], "quote_currency": s[4:], "status": "online"} for s in self.listed]
        return json.dumps(products).encode()

    async def _serve(self, socket: ServerConnection) -> None:
        client = Client(socket)
        self.clients.append(client)
        self.busiest = max(self.busiest, len(self.clients))
        try:
            async for text in socket:
                request = json.loads(text)
                self.requests.append((time.monotonic(), request))  # noqa: TID251
                await _REPLIES[self.name](self, client, request)
        except ConnectionClosed:
            pass
        finally:
            self.clients.remove(client)

    async def _trade(self) -> None:
        while True:
            await asyncio.sleep(1 / TRADES_A_SECOND)
            while self.deaf.is_set():
                time.sleep(0.01)  # noqa: ASYNC251  # it answers nothing, pings included
            for symbol in self.ids:
                self.ids[symbol] += 1
                for client in tuple(self.clients):
                    for channel in ("trades", "quotes"):
                        if (channel, symbol) in client.subscribed - self.mute:
                            await self._send(
                                client, _DATA[self.name](channel, symbol, self.ids[symbol], self._now_us())
                            )

    async def _snapshot(self, client: Client, subscriptions: set[tuple[str, str]]) -> None:
        for channel, symbol in sorted(subscriptions) if self.snapshots else ():
            message = _DATA[self.name](channel, symbol, self.ids[symbol], self._now_us())
            await self._send(client, json.loads(json.dumps(message).replace('"update"', '"snapshot"')))

    async def _acknowledge(self, client: Client, message: dict[str, Any]) -> None:
        if self.acknowledges:
            await self._send(client, message)

    async def _send(self, client: Client, message: dict[str, Any]) -> None:
        if self.name == "coinbase" and "channel" in message:  # errors are not counted
            message = {**message, "sequence_num": client.sequence}
            client.sequence += 1
        try:
            await client.socket.send(json.dumps(message))
        except ConnectionClosed:
            client.subscribed.clear()

    def _now_us(self) -> int:
        return int((time.time() + self.offset_s) * 1e6)  # noqa: TID251

    async def _main(self, ready: threading.Event, ended: asyncio.Event) -> None:
        options = {"process_request": self._page, "compression": None, "ssl": self.tls}
        async with serve(self._serve, "127.0.0.1", self.port, **options) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            trading = asyncio.create_task(self._trade())
            ready.set()
            await ended.wait()
            trading.cancel()
            await self.cut()


async def _binance(venue: ScriptedVenue, client: Client, request: Any) -> None:
    kinds = {"trade": "trades", "bookTicker": "quotes"}
    asked = [stream.split("@") for stream in request["params"]]
    if venue.unanswered:
        return
    symbols = [symbol.upper() for symbol, _ in asked]
    if venue.refusal and venue.refuses.intersection(symbols):
        await venue._send(client, venue.refusal(symbols, sorted(venue.refuses.intersection(symbols))))
        return
    client.subscribed |= {(kinds[kind], venue.aliases.get(symbol.upper(), symbol.upper())) for symbol, kind in asked}
    await venue._acknowledge(client, {"result": None, "id": request["id"]})


async def _kraken(venue: ScriptedVenue, client: Client, request: Any) -> None:
    if request["method"] == "ping":
        await venue._send(client, {"method": "pong"})
        return
    kind, symbol = request["params"]["channel"], request["params"]["symbol"][0]
    wanted = ({"trade": "trades", "ticker": "quotes"}[kind], symbol)
    base = {"method": "subscribe", "req_id": request["req_id"]}
    if wanted in venue.unanswered:
        return
    if venue.refusal and symbol in venue.refuses:
        await venue._send(client, venue.refusal([symbol], [symbol]))
        return
    if symbol in venue.refuses or wanted in venue.busy:
        said = f"Currency pair not supported {symbol}" if symbol in venue.refuses else "Exceeded msg rate"
        await venue._send(client, {**base, "success": False, "error": said, "symbol": symbol})
        return
    other = venue.aliases.get(symbol, symbol)
    client.subscribed.add((wanted[0], other))
    named = other if venue.acknowledges_aliases else symbol
    await venue._acknowledge(client, {**base, "success": True, "result": {"channel": kind, "symbol": named}})
    await venue._snapshot(client, {wanted})


async def _coinbase(venue: ScriptedVenue, client: Client, request: Any) -> None:
    kinds = {"market_trades": "trades", "ticker": "quotes"}
    symbols = request.get("product_ids", ())
    unknown = [symbol for symbol in symbols if symbol in venue.refuses]
    if unknown and venue.refusal:
        await venue._send(client, venue.refusal(symbols, unknown))
        return
    if unknown:
        await venue._send(client, {"type": "error", "message": f"{unknown[0]} is not a valid product"})
        return
    wanted = {(kinds.get(request["channel"], "heartbeats"), symbol) for symbol in symbols}
    client.asked |= wanted - venue.unanswered
    client.subscribed = {(kind, venue.aliases.get(symbol, symbol)) for kind, symbol in client.asked}
    acknowledged = client.subscribed if venue.acknowledges_aliases else client.asked
    lists = {name: sorted(s for kind, s in acknowledged if kind == data) for name, data in kinds.items()}
    await venue._acknowledge(client, {"channel": "subscriptions", "events": [{"subscriptions": lists}]})
    await venue._snapshot(client, wanted)


def _binance_data(channel: str, symbol: str, number: int, now_us: int) -> dict[str, Any]:
    if channel == "quotes":
        data: dict[str, Any] = {"u": number, "s": symbol, "b": "1.5", "B": "2", "a": "1.6", "A": "3"}
        return {"stream": f"{symbol.lower()}@bookTicker", "data": data}
    at = now_us // 1000
    data = {"e": "trade", "E": at, "s": symbol, "t": number, "p": "1.5", "q": "2", "T": at, "m": True, "M": True}
    return {"stream": f"{symbol.lower()}@trade", "data": data}


def _kraken_data(channel: str, symbol: str, number: int, now_us: int) -> dict[str, Any]:
    base = {"symbol": symbol, "timestamp": _iso(now_us)}
    if channel == "quotes":
        return {
            "channel": "ticker",
            "type": "update",
            "data": [{**base, "bid": 1, "bid_qty": 2, "ask": 3, "ask_qty": 4}],
        }
    trade = {**base, "side": "buy", "price": 1.5, "qty": 2, "ord_type": "limit", "trade_id": number}
    return {"channel": "trade", "type": "update", "data": [trade]}


def _coinbase_data(channel: str, symbol: str, number: int, now_us: int) -> dict[str, Any]:
    at = _iso(now_us)
    if channel == "quotes":
        sides = {"best_bid": "1", "best_bid_quantity": "2", "best_ask": "3", "best_ask_quantity": "4"}
        tickers = [{"type": "ticker", "product_id": symbol, **sides}]
        return {"channel": "ticker", "timestamp": at, "events": [{"type": "update", "tickers": tickers}]}
    trade = {"trade_id": str(number), "product_id": symbol, "price": "1", "size": "2", "side": "BUY", "time": at}
    return {"channel": "market_trades", "timestamp": at, "events": [{"type": "update", "trades": [trade]}]}


def _iso(now_us: int) -> str:
    return datetime.fromtimestamp(now_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_REPLIES = {"binance": _binance, "kraken": _kraken, "coinbase": _coinbase}
_DATA = {"binance": _binance_data, "kraken": _kraken_data, "coinbase": _coinbase_data}


@contextmanager
def scripted(name: str, symbols: tuple[str, ...], tls: tuple[Path, Path] | None = None) -> Iterator[ScriptedVenue]:
    """Run a venue until the block ends."""
    venue, ready = ScriptedVenue(name, symbols), threading.Event()
    if tls is not None:
        venue.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        venue.tls.load_cert_chain(*tls)
    ended: list[asyncio.Event] = []

    async def main() -> None:
        venue._loop = asyncio.get_running_loop()
        ended.append(asyncio.Event())
        await venue._main(ready, ended[0])

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield venue
    finally:
        venue._loop.call_soon_threadsafe(ended[0].set)
        thread.join(10)
