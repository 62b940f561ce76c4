"""Where the venues' frames come from: the random market, or recordings played by their own times."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any, Final

from k2_core import clock
from k2_core.clock import NS_PER_SECOND
from k2_core.logs import logger
from k2_core.settings import Feeds
from k2_feeds.simulator.audience import Audience, fed_streams
from k2_feeds.simulator.board import Message
from k2_feeds.simulator.market import Market, Quote
from k2_feeds.simulator.recording import Contents, Line, Recording, merged
from k2_feeds.simulator.server import Hub
from k2_feeds.simulator.simulated_listings import VENUES, Listing, listing_of

_TICK_S: Final = 0.005
_BATCH: Final = 1_000
_log = logger(__name__)


class MarketSource:
    """The random market, by the clock: what falls due while nobody listens happens all the same."""

    def __init__(self, seed: int, symbols: tuple[str, ...], rate: float, quotes_per_trade: float = 4.0) -> None:
        self.listings = tuple(listing_of(symbol) for symbol in symbols)
        self._seed, self._rate, self._quotes_per_trade = seed, rate, quotes_per_trade
        self._trades = 0

    def status(self) -> dict[str, Any]:
        """Return what GET /status says: mode, symbols, venues, position, total, finished, message."""
        text = f"a random market of {len(self.listings)} symbols at {self._rate:g} trades/s, seed {self._seed}"
        return {
            "mode": "market",
            **_traded(self.listings),
            "position": self._trades,
            "total": None,
            "finished": False,
            "message": text,
        }

    async def run(self, hub: Hub) -> None:
        """Trade until cancelled."""
        # After a pause many batches are due at once: clients are served between them.
        market = Market(self._seed, self.listings, self._rate, clock.now_us(), self._quotes_per_trade)
        while True:
            now_us = clock.now_us()
            for events in market.due(now_us):
                self._trades += sum(len(event.trades) for event in events if not isinstance(event, Quote))
                hub.publish(events, now_us)
                await asyncio.sleep(0)
            await asyncio.sleep(_TICK_S)


class Player:
    """Recordings, played once, from when their venues' feeds have subscribed.

    With a ``speed``, frames fall due by their recorded times, and what falls due while nobody is subscribed is lost.
    At full speed (``speed`` None) frames go as fast as subscribers take them, and each feed that leaves is waited for
    as at the beginning; what had been handed to a connection that then broke is lost. At the end connections stay open.

    Frames that name no stream (broken ones) go to every subscriber of their venue; answers to the recorder's own
    requests to nobody, though a venue that numbers its messages counts them.
    """

    def __init__(
        self, recordings: list[Recording], contents: Contents, speed: float | None, audience: Audience | None = None
    ) -> None:
        self._recordings, self._contents, self._speed = recordings, contents, speed
        self._audience = audience or Audience(fed_streams(contents.symbols, Feeds()))
        self._position = 0
        self._message = "waits for the first subscription"
        self.listings = tuple(
            listing_of(symbol)._replace(venue=venue)
            for venue, symbols in contents.symbols.items()
            for symbol in symbols
        )

    def status(self) -> dict[str, Any]:
        """Return what GET /status says; see :meth:`Audience.status` for the rest."""
        waits_for = self._audience.waits_for()
        said = f"waits for the subscriptions of {waits_for}" if waits_for else self._message
        return {
            "mode": "recording",
            **_traded(self.listings),
            "position": self._position,
            "total": self._contents.frames,
            "finished": self._position >= self._contents.frames,
            **self._audience.status(),
            "message": "; ".join([said, *self._audience.sentences()]),
        }

    async def run(self, hub: Hub) -> None:
        """Play to the end, then return."""
        for venue in hub.venues.values():
            venue.board.recorded = True
        await self._audience.gather(hub)
        self._message = "playing " + ", ".join(recording.path.name for recording in self._recordings)
        lines = merged(self._recordings)
        if self._speed is not None:
            await self._play(hub, lines, self._speed)
        else:
            while batch := list(itertools.islice(lines, _BATCH)):
                await self._audience.gather(hub)  # feeds that left meanwhile are waited for
                self._deliver(hub, batch)
                await hub.sent()
        self._message = "the recording has been played to its end; connections stay open and silent"
        for sentence in self._audience.sentences():
            _log.warning(sentence)

    async def _play(self, hub: Hub, lines: Iterator[Line], speed: float) -> None:
        # A frame is due when the time between it and the first frame, divided by the speed, has passed since the
        # beginning. Frames that are due already are delivered together, before the next wait or when they are many.
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
        for name, venue in hub.venues.items():
            mine = [Message(line.streams or (), line.frame) for line in batch if line.venue == name]
            if mine:
                self._audience.count(name, venue.deliver(mine))
        self._position += len(batch)


Source = MarketSource | Player
"""What has frames for subscribers: ``listings`` of all venues, a ``status``, and ``run``, which offers them."""


def _traded(listings: tuple[Listing, ...]) -> dict[str, Any]:
    """Return the venues with their symbols; ``symbols`` are those of the first venue that has any."""
    venues = {venue: [each.symbol for each in listings if each.venue == venue] for venue in VENUES}
    found = {venue: symbols for venue, symbols in venues.items() if symbols}
    return {"symbols": next(iter(found.values()), []), "venues": found}
