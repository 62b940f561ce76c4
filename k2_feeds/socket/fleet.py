"""All connections of one venue: its symbols spread over them within the venue's limits. Knows no Kafka."""

import asyncio
from collections import Counter
from typing import NamedTuple

from k2_core.errors import SettingsError
from k2_core.settings import Feeds
from k2_core.venues import VENUES
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue
from k2_feeds.socket.connection import Connection
from k2_feeds.socket.pacing import Paces
from k2_feeds.socket.sink import Sink


class Source(NamedTuple):
    """What the settings say of one venue."""

    venue: Venue
    url: str
    rest_url: str
    symbols: tuple[str, ...]
    data: tuple[Data, ...]


def source_of(feeds: Feeds, name: str) -> Source:
    """Return what the settings say of a venue; a symbol that they name twice counts once.

    Raises:
        SettingsError: K2 does not know the venue, or it has no symbols, or nothing of it is wanted.
    """
    venue = VENUES.get(name)
    if venue is None:
        msg = f"K2 does not know a venue {name!r}; it knows {', '.join(sorted(VENUES))}."
        raise SettingsError(msg)
    section, prefix = feeds.of(name), f"K2_FEEDS__{name.upper()}__"
    if not section.symbols or "" in section.symbols:
        example = Feeds().of(name).symbols[0]
        msg = f'{prefix}SYMBOLS must name at least one symbol, such as ["{example}"], none empty.'
        raise SettingsError(msg)
    kinds: tuple[Data, ...] = ("trades", "quotes")
    data = tuple(kind for kind in kinds if getattr(section, kind))
    if not data:
        msg = f"{prefix}TRADES and {prefix}QUOTES are both false: nothing of {name} would be fed."
        raise SettingsError(msg)
    return Source(venue, section.url, section.rest_url, tuple(dict.fromkeys(section.symbols)), data)


def spread(symbols: tuple[str, ...], most: int) -> list[tuple[str, ...]]:
    """Deal symbols out in turn to as few groups of at most ``most`` as possible: the first symbols are the busiest."""
    groups = -(-len(symbols) // most)
    return [symbols[number::groups] for number in range(groups)]


def most_symbols(source: Source, per_connection: int) -> int:
    """Return how many symbols one connection may carry: of each comes a stream for each kind of data."""
    streams = source.venue.LIMITS.streams_per_connection
    return per_connection if streams is None else max(min(per_connection, streams // len(source.data)), 1)


class Fleet:
    """All connections of a venue, from :meth:`start` to :meth:`stop`."""

    def __init__(self, source: Source, feeds: Feeds, sink: Sink, *, heeds_silence: bool = True) -> None:
        self.source = source
        self.paces = Paces(source.venue.LIMITS)
        self.groups = spread(source.symbols, most_symbols(source, feeds.symbols_per_connection))
        self._running: list[asyncio.Task[None]] = []
        self.connections = [
            Connection(
                source.venue,
                source.url,
                group,
                feeds,
                sink,
                data=source.data,
                paces=self.paces,
                heeds_silence=heeds_silence,
            )
            for group in self.groups
        ]

    def leave_out(self, unlisted: frozenset[str]) -> None:
        """Feed all symbols of the settings but these, from now on."""
        for group, connection in zip(self.groups, self.connections, strict=True):
            connection.want(tuple(symbol for symbol in group if symbol not in unlisted))

    def start(self) -> None:
        self._running = [asyncio.create_task(connection.run()) for connection in self.connections]

    async def ended(self) -> None:
        """Wait until all connections were stopped, or one has failed for good.

        Raises:
            K2Error: an error that another connection would not solve.
        """
        if self._running:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_EXCEPTION)
        for task in self._running:
            if task.done():
                task.result()

    async def stop(self, within_s: float) -> bool:
        """Close all connections and take all frames that have arrived; tell whether that was done in time."""
        for connection in self.connections:
            connection.stop()
        if not self._running:
            return True
        _, late = await asyncio.wait(self._running, timeout=within_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        return not late

    @property
    def ready(self) -> bool:
        """Whether every connection that has symbols is acknowledged."""
        return all(connection.acknowledged for connection in self.connections if connection.symbols)

    @property
    def connected(self) -> bool:
        """Whether every connection that has symbols is connected."""
        return all(
            connection.connected_since_ns is not None for connection in self.connections if connection.symbols
        ) and any(connection.symbols for connection in self.connections)

    @property
    def reconnects(self) -> Counter[str]:
        """How often connections ended or failed, by reason."""
        return sum((connection.reconnects for connection in self.connections), Counter())

    @property
    def message(self) -> str:
        """The messages of the connections; a message of several appears once, with their number."""
        said = Counter(connection.message for connection in self.connections if connection.symbols)
        if not said:
            return "none of the symbols is listed by the venue"
        if len(self.connections) == 1:
            return next(iter(said))
        return "; ".join(f"{text} ({count} of {len(self.connections)} connections)" for text, count in said.items())
