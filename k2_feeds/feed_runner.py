"""Run feeds or a recorder as a process: start, signals, health, a clean end."""

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import uvloop

from k2_core.errors import PartError, SettingsError
from k2_core.logs import logger
from k2_core.settings import Settings
from k2_feeds import handover
from k2_feeds.health import health_report
from k2_feeds.health.feed_metrics import PROMETHEUS_TEXT, FeedMetrics
from k2_feeds.health.http_server import Page, serve_pages
from k2_feeds.health.memory_trend import Memory
from k2_feeds.recorder import Recorder
from k2_feeds.socket.fleet import Fleet, Source, source_of
from k2_feeds.venue_feed import VenueFeed

_log = logger(__name__)
_CLOSE_S: Final = 4.0
_LOOK_S: Final = 0.2
_PORT_SETTING: Final = "--health-port or K2_PORTS__FEED_HEALTH"


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` in a fresh event loop; uvloop reads a socket faster (docs/measurements.md)."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def sources_of(settings: Settings, names: tuple[str, ...]) -> list[Source]:
    """Return the settings of these venues; without any, of all venues that the settings name.

    Raises:
        SettingsError: a venue is unknown, or has nothing to feed.
    """
    wanted = tuple(dict.fromkeys(names or settings.feeds.venues))
    if not wanted:
        raise SettingsError("K2_FEEDS__VENUES is empty: name a venue, such as binance.")
    return [source_of(settings.feeds, name) for name in wanted]


async def feed(settings: Settings, names: tuple[str, ...], *, health_port: int, take_over: bool = False) -> None:
    """Feed venues into Kafka until SIGTERM or SIGINT.

    Raises:
        SettingsError: a venue is unknown, or has nothing to feed.
        PartError: another process feeds one of the venues, or the port is taken.
        K2Error: the feeds of all venues have failed.
    """
    sources = sources_of(settings, names)
    venues = tuple(source.venue.VENUE for source in sources)
    me = handover.this_process(venues, health_port)
    taking_over = handover.TakeOver(handover.predecessors(settings, venues, take_over=take_over))
    stop = stop_on_signals()
    one_by_one = asyncio.Lock()
    feeds = [
        VenueFeed(settings, source, taking_over, stop, beside=len(sources), provisioning=one_by_one)
        for source in sources
    ]
    try:
        if taking_over.feeders:
            handover.announce(settings, me)
        async with _pages(health_port, feeds, stop, patient=bool(taking_over.feeders)):
            await _run_all(settings, feeds, me, stop)
    finally:
        handover.give_up(settings, me)


async def _run_all(settings: Settings, feeds: list[VenueFeed], me: handover.Feeder, stop: asyncio.Event) -> None:
    """Run the feeds until ``stop`` is set, or all have failed; claim each venue once its feed is in charge."""
    running = [asyncio.create_task(each.run()) for each in feeds]

    async def claim(feed_: VenueFeed) -> None:
        await feed_.in_charge.wait()
        handover.claim(settings, me, feed_.name)

    beside = [asyncio.create_task(claim(each)) for each in feeds]
    beside.append(asyncio.create_task(Memory().run()))
    try:
        while not stop.is_set():
            if all(each.failed for each in feeds):
                break
            await asyncio.wait([*running], timeout=_LOOK_S, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        stop.set()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await asyncio.gather(*running)
    failed = [each.failed for each in feeds if each.failed]
    if len(failed) == len(feeds):
        raise failed[0]


@asynccontextmanager
async def _pages(port: int, feeds: list[VenueFeed], stop: asyncio.Event, *, patient: bool) -> AsyncIterator[None]:
    """Serve health and metrics; with ``patient`` once a predecessor has released the port."""
    venues = [each.health for each in feeds]
    metrics = FeedMetrics(venues)
    pages: dict[str, Page] = {
        "/health": lambda: ("application/json", msgspec.json.encode(health_report.snapshot(venues))),
        "/metrics": lambda: (PROMETHEUS_TEXT, metrics.exposition()),
    }
    if not patient:
        async with await serve_pages(pages, port, _PORT_SETTING):
            yield
        return
    serving = asyncio.create_task(_serve_once_free(pages, port, stop))
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _serve_once_free(pages: dict[str, Page], port: int, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            server = await serve_pages(pages, port, _PORT_SETTING)
        except PartError:
            await asyncio.sleep(_LOOK_S)
        else:
            async with server:
                await stop.wait()


async def record(settings: Settings, venue_name: str, recorder: Recorder, seconds: float | None) -> None:
    """Record one venue until SIGTERM, SIGINT or ``seconds`` have passed; the file is then complete."""
    stop = stop_on_signals()
    fleet = Fleet(source_of(settings.feeds, venue_name), settings.feeds, recorder, heeds_silence=False)
    if seconds is not None:
        asyncio.get_running_loop().call_later(seconds, stop.set)
    try:
        fleet.start()
        ended = asyncio.create_task(fleet.ended())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not await fleet.stop(_CLOSE_S):
            _log.error("frames that had arrived could not be written in time")
        await ended
    finally:
        recorder.finish()
        _log.info("recorded", file=str(recorder.path), frames=recorder.frames, bytes=recorder.bytes)


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
