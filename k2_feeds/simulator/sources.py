"""Where the venue's frames come from: the random market, or recordings played by their own times."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from k2_core import clock
from k2_core.clock import NS_PER_SECOND
from k2_feeds.simulator.market import Market
from k2_feeds.simulator.recording import Contents, Line, merged
from k2_feeds.simulator.server import Hub, deliver

_TICK_S: Final = 0.005
_NS_PER_MS: Final = 1_000_000
_BATCH: Final = 1_000


class Source(Protocol):
    """Something that has frames for subscribers."""

    def status(self) -> dict[str, Any]:
        """Return what GET /status says: mode, symbols, position, total, finished, message."""

    async def run(self, hub: Hub) -> None:
        """Offer frames to the hub's subscribers as they fall due."""


class MarketSource:
    """The random market, by the clock: what falls due while nobody listens happens all the same."""

    def __init__(self, seed: int, symbols: tuple[str, ...], rate: float) -> None:
        self._seed, self._symbols, self._rate = seed, symbols, rate
        self._trades = 0

    def status(self) -> dict[str, Any]:
        """Return what GET /status says."""
        text = f"a random market of {len(self._symbols)} symbols at {self._rate:g} trades/s, seed {self._seed}"
        return {
            "mode": "market",
            "symbols": list(self._symbols),
            "position": self._trades,
            "total": None,
            "finished": False,
            "message": text,
        }

    async def run(self, hub: Hub) -> None:
        """Trade until cancelled."""
        market = Market(self._seed, self._symbols, self._rate, clock.now_ns() // _NS_PER_MS)
        while True:
            for events in market.due(clock.now_ns() // _NS_PER_MS):
                self._trades += len(events)
                for client in hub.subscribers():
                    streams, combined = client.subscriptions.streams, client.subscriptions.combined
                    wanted = ((stream, data) for stream, data in events if stream in streams)
                    client.offer(_wrapped(stream, data) if combined else data for stream, data in wanted)
                await asyncio.sleep(0)
            await asyncio.sleep(_TICK_S)


class Player:
    """Recordings, played once from the first subscription on.

    With a ``speed``, frames fall due by their recorded times, and what falls due while nobody is subscribed is lost.
    At full speed (``speed`` None) frames go as fast as subscribers take them: the position moves only while somebody
    is subscribed; what had been handed to a connection that then broke is lost. At the end connections stay open.

    Frames that name no stream (broken ones) go to every subscriber; answers to the recorder's own requests to nobody.
    """

    def __init__(self, paths: list[Path], contents: Contents, speed: float | None) -> None:
        self._paths, self._contents, self._speed = paths, contents, speed
        self._position = 0
        self._message = "waits for the first subscription"

    def status(self) -> dict[str, Any]:
        """Return what GET /status says."""
        return {
            "mode": "recording",
            "symbols": list(self._contents.symbols),
            "position": self._position,
            "total": self._contents.frames,
            "finished": self._position >= self._contents.frames,
            "message": self._message,
        }

    async def run(self, hub: Hub) -> None:
        """Play to the end, then return."""
        await hub.subscribed()
        self._message = "playing " + ", ".join(path.name for path in self._paths)
        lines = merged(self._paths)
        await (self._play_at_full_speed(hub, lines) if self._speed is None else self._play(hub, lines, self._speed))
        self._message = "the recording has been played to its end; connections stay open and silent"

    async def _play_at_full_speed(self, hub: Hub, lines: Iterator[Line]) -> None:
        while batch := list(itertools.islice(lines, _BATCH)):
            await hub.subscribed()
            self._deliver(hub, batch)
            await hub.sent()

    async def _play(self, hub: Hub, lines: Iterator[Line], speed: float) -> None:
        began_ns, first_ns, batch = clock.now_ns(), None, list[Line]()
        for line in lines:
            first_ns = line.received_ns if first_ns is None else first_ns
            wait_s = ((line.received_ns - first_ns) / speed - (clock.now_ns() - began_ns)) / NS_PER_SECOND
            if batch and (wait_s > 0 or len(batch) == _BATCH):
                self._deliver(hub, batch)
                batch = []
                await asyncio.sleep(max(wait_s, 0))
            elif wait_s > 0:
                await asyncio.sleep(wait_s)
            batch.append(line)
        self._deliver(hub, batch)

    def _deliver(self, hub: Hub, batch: list[Line]) -> None:
        deliver(hub, [(line.stream, line.frame) for line in batch])
        self._position += len(batch)


def _wrapped(stream: str, data: bytes) -> bytes:
    return b'{"stream":"%b","data":%b}' % (stream.encode(), data)
