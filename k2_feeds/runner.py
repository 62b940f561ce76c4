"""Run a feed or a recorder as a process: start, signals, housekeeping, a clean end."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Coroutine
from types import ModuleType
from typing import Any, Final, Protocol

import msgspec
import uvloop

from k2_core import topics
from k2_core.errors import SettingsError
from k2_core.logs import logger
from k2_core.settings import Settings
from k2_core.venues import VENUES
from k2_feeds.connection import Connection
from k2_feeds.feed import Feed
from k2_feeds.health import PROMETHEUS_TEXT, Health
from k2_feeds.http import serve_pages
from k2_feeds.kept_topics import LOOK_S, KeptTopics
from k2_feeds.provision import Provisioned, Stopped, provision
from k2_feeds.publisher import Publisher
from k2_feeds.recorder import Recorder

_log = logger(__name__)
_HOUSEKEEPING_S: Final = 0.1
_CLOSE_S: Final = 4.0
_FLUSH_S: Final = 5.0


class _Source(Protocol):
    url: str
    symbols: tuple[str, ...]


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` in a fresh event loop; uvloop reads a socket faster (docs/measurements.md)."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def venue_named(name: str) -> ModuleType:
    """Return the venue's module.

    Raises:
        SettingsError: there is none; the sentence lists those that are.
    """
    venue = VENUES.get(name)
    if venue is None:
        msg = f"K2 does not know a venue {name!r}; it knows {', '.join(sorted(VENUES))}."
        raise SettingsError(msg)
    return venue


def source_of(settings: Settings, venue: ModuleType) -> _Source:
    """Return the venue's URL and symbols.

    Raises:
        SettingsError: no symbols, or more than one connection may carry.
    """
    source: _Source = getattr(settings.feeds, venue.VENUE)
    name = f"K2_FEEDS__{venue.VENUE.upper()}__SYMBOLS"
    if not source.symbols:
        msg = f'{name} is empty: name at least one symbol, such as ["BTCUSDT"].'
        raise SettingsError(msg)
    most = venue.LIMITS.streams_per_connection
    if most is not None and len(source.symbols) > most:
        msg = f"{name} names {len(source.symbols)} symbols; one connection carries {most} at most."
        raise SettingsError(msg)
    return source


async def feed(settings: Settings, venue_name: str) -> None:
    """Feed one venue into Kafka until SIGTERM or SIGINT.

    Raises:
        K2Error: what cannot be mended by waiting.
    """
    venue = venue_named(venue_name)
    source = source_of(settings, venue)
    stop = stop_on_signals()
    health = Health(venue.VENUE, source.url, source.symbols)
    pages = {
        "/health": lambda: ("application/json", msgspec.json.encode(health.snapshot())),
        "/metrics": lambda: (PROMETHEUS_TEXT, health.exposition()),
    }
    async with await serve_pages(pages, settings.ports.feed_health, "K2_PORTS__FEED_HEALTH"):
        provisioned = await _provision(settings, venue, health, stop)
        if provisioned is None:
            return
        publisher = Publisher(settings.bootstrap_servers)
        sink = Feed(venue, provisioned, publisher)
        connection = Connection(venue, source.url, source.symbols, settings.feeds, sink)
        health.attach(sink, connection, publisher)
        kept = KeptTopics(settings, (*provisioned.raw_topics, topics.FEED_EVENTS))
        publisher.missing = lambda: kept.missing
        keeping = asyncio.create_task(_keep_topics(kept, stop))
        await _feed_until(stop, connection, sink, publisher)
        await keeping


async def record(settings: Settings, venue_name: str, recorder: Recorder, seconds: float | None) -> None:
    """Record one venue until SIGTERM, SIGINT or ``seconds`` have passed; the file is then complete."""
    venue = venue_named(venue_name)
    source = source_of(settings, venue)
    stop = stop_on_signals()
    connection = Connection(venue, source.url, source.symbols, settings.feeds, recorder)
    if seconds is not None:
        asyncio.get_running_loop().call_later(seconds, stop.set)
    try:
        await _run_until(stop, connection)
    finally:
        recorder.finish()
        _log.info("recorded", file=str(recorder.path), frames=recorder.frames, bytes=recorder.bytes)


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _provision(settings: Settings, venue: ModuleType, health: Health, stop: asyncio.Event) -> Provisioned | None:
    def report(text: str) -> None:
        if text != health.message:
            _log.info(text)
        health.message = text

    ended = threading.Event()
    waiter = asyncio.create_task(stop.wait())
    waiter.add_done_callback(lambda _: ended.set())
    try:
        return await asyncio.to_thread(provision, settings, venue, report, ended)
    except Stopped:
        return None
    finally:
        waiter.cancel()


async def _feed_until(stop: asyncio.Event, connection: Connection, sink: Feed, publisher: Publisher) -> None:
    housekeeping = asyncio.create_task(_housekeeping(publisher, stop))
    try:
        await _run_until(stop, connection)
    finally:
        stop.set()
        left = await asyncio.to_thread(publisher.flush, _FLUSH_S)
        _log.info("feed stopped", messages=sink.messages, acknowledged=publisher.acknowledged, lost=left)
    await housekeeping


async def _keep_topics(kept: KeptTopics, stop: asyncio.Event) -> None:
    try:
        while not stop.is_set():
            await asyncio.to_thread(kept.look)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_S)
    finally:
        stop.set()


async def _housekeeping(publisher: Publisher, stop: asyncio.Event) -> None:
    try:
        while not stop.is_set():
            publisher.serve()
            await asyncio.sleep(_HOUSEKEEPING_S)
    finally:
        stop.set()


async def _run_until(stop: asyncio.Event, connection: Connection) -> None:
    """Run the connection until ``stop``; then let it take what has arrived, but not for ever."""
    running = asyncio.create_task(connection.run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    connection.stop()
    await asyncio.wait({running}, timeout=_CLOSE_S)
    if running.cancel():
        _log.error("frames that had arrived could not be handed to Kafka in time")
    else:
        running.result()
