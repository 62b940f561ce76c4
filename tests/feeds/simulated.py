"""A simulator in this process with its truth, and plain clients of its venues that keep what they are sent."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from websockets.asyncio.client import ClientConnection, connect

from k2_core import clock
from k2_feeds.simulator import control
from k2_feeds.simulator.frame_sources import MarketSource
from k2_feeds.simulator.server import Hub, serve_venue
from k2_feeds.simulator.truth_log import Truth
from tests.feeds.feed_fixtures import free_port

WITHIN_S = 240
SYMBOLS = {"binance": "BTCUSDT", "kraken": "BTC/USD", "coinbase": "BTC-USD"}


class Listener:
    """A client of one venue that subscribed to trades and quotes of one symbol, and keeps what it is sent."""

    def __init__(self, venue: str, socket: ClientConnection) -> None:
        self.venue, self.socket, self.frames = venue, socket, list[bytes]()

    async def subscribe(self) -> None:
        symbol = SYMBOLS[self.venue]
        if self.venue == "kraken":
            for channel in ("trade", "ticker"):
                params = {"channel": channel, "symbol": [symbol]}
                await self.socket.send(json.dumps({"method": "subscribe", "params": params}))
        if self.venue == "coinbase":
            for channel in ("market_trades", "ticker"):
                request = {"type": "subscribe", "channel": channel, "product_ids": [symbol]}
                await self.socket.send(json.dumps(request))

    async def hear(self, enough: Callable[["Listener"], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not enough(self):
                self.frames.append(await self.socket.recv(decode=False))

    async def hear_for(self, seconds: float) -> None:
        """Receive for so long, or until the connection ends."""
        try:
            async with asyncio.timeout(seconds):
                await self.hear(lambda _: False)
        except TimeoutError:
            return

    def readable(self) -> list[dict[str, Any]]:
        return [frame for frame in map(_readable, self.frames) if frame is not None]

    def trades(self) -> list[dict[str, Any]]:
        """Return the trades in their order, as their venue says them."""
        found = []
        for frame in self.readable():
            if self.venue == "binance" and "t" in frame.get("data", {}):
                found.append({"id": frame["data"]["t"], **frame["data"]})
            if frame.get("channel") == "trade":
                found += [{"id": row["trade_id"], **row} for row in frame["data"]]
            if frame.get("channel") == "market_trades":
                rows = [row for event in frame["events"] for row in event["trades"]]
                found += [{"id": int(row["trade_id"]), **row} for row in rows]
        return found

    def quotes(self) -> list[tuple[Any, ...]]:
        """Return bid, its quantity, ask, its quantity, and Binance's number or the others' time in µs."""
        found: list[tuple[Any, ...]] = []
        for frame in self.readable():
            data = frame.get("data", {})
            if self.venue == "binance" and "u" in data:
                found.append((data["b"], data["B"], data["a"], data["A"], data["u"]))
            if self.venue == "kraken" and frame.get("channel") == "ticker":
                found += [
                    (row["bid"], row["bid_qty"], row["ask"], row["ask_qty"], _us(row["timestamp"])) for row in data
                ]
            if self.venue == "coinbase" and frame["channel"] == "ticker":
                rows = [row for event in frame["events"] for row in event["tickers"]]
                names = ("best_bid", "best_bid_quantity", "best_ask", "best_ask_quantity")
                found += [(*(row[name] for name in names), _us(frame["timestamp"])) for row in rows]
        return found

    def ids(self) -> list[int]:
        return [trade["id"] for trade in self.trades()]


class Simulator(NamedTuple):
    """A simulator in this process, with its truth."""

    url: str
    port: int
    folder: Path
    hub: Hub

    @asynccontextmanager
    async def listener(self, venue: str) -> AsyncIterator[Listener]:
        path = {"binance": "/stream?streams=btcusdt@trade/btcusdt@bookTicker", "kraken": "/v2", "coinbase": ""}[venue]
        async with connect(self.url + path, compression=None) as socket:
            listener = Listener(venue, socket)
            await listener.subscribe()
            await listener.hear(lambda each: len(each.trades()) > 5)
            yield listener

    async def suffer(self, fault: str, venue: str, **details: object) -> dict[str, Any]:
        """Ask for a fault over the control socket and wait for its end."""
        request = {"fault": fault, "venue": venue, "wait": True, **details}
        return await asyncio.to_thread(control.ask, self.port, request)

    def rows(self, name: str, venue: str) -> list[dict[str, Any]]:
        self.hub.truth.flush()
        lines = (self.folder / f"{name}.jsonl").read_text().splitlines()
        return [row for row in map(json.loads, lines) if row["venue"] == venue]

    async def until_in_the_log(self, venue: str, fault: str, count: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(WITHIN_S):
            while True:
                rows = [row for row in self.rows("faults", venue) if row["fault"] == fault]
                if len(rows) >= count:
                    return rows
                await asyncio.sleep(0.02)

    def dropped_ids(self, venue: str) -> set[int]:
        rows = [row for row in self.rows("dropped", venue) if row["data"] == "trades"]
        return {number for row in rows for number in range(row["first"], row["last"] + 1)}


@asynccontextmanager
async def a_simulator(folder: Path, rate: float = 300) -> AsyncIterator[Simulator]:
    source, port = MarketSource(1, tuple(SYMBOLS.values()), rate, 2.0), free_port()
    hub = Hub(3600, source.listings, Truth(folder))
    tasks = [asyncio.create_task(each) for each in (source.run(hub), hub.beat())]
    try:
        async with await serve_venue(hub, port, source.status):
            yield Simulator(f"ws://127.0.0.1:{port}", port, folder, hub)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        hub.truth.close()


def _us(time: str) -> int:
    return clock.to_us(datetime.fromisoformat(time[:26] + "+00:00"))


@lru_cache(1_000_000)  # what a listener heard is asked for again at every frame
def _readable(frame: bytes) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(frame, parse_float=Decimal)
    except ValueError:
        return None
    return found


async def hear_meanwhile(listener: Listener, fault: Any) -> Any:
    """Listen while a fault is suffered, and a little longer."""
    task = asyncio.create_task(fault)
    while not task.done():
        await listener.hear_for(0.05)
    await listener.hear_for(0.5)
    return await task
