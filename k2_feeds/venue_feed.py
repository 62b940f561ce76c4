"""One venue's feed from its topics to its end: provision, recall, connect, take over, watch, flush."""

import asyncio
import contextlib
import os
import threading
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Final

from k2_core import clock, topics
from k2_core.errors import K2Error, PartError
from k2_core.logs import logger
from k2_core.settings import Settings
from k2_feeds.feed import Feed
from k2_feeds.handover import TakeOver, successor_of
from k2_feeds.health.health_report import Running, VenueHealth
from k2_feeds.health.watch import Watch
from k2_feeds.kafka.kept_topics import KeptTopics
from k2_feeds.kafka.provision import Provisioned, Stopped, provision
from k2_feeds.kafka.publisher import Publisher
from k2_feeds.socket.backoff import Backoff
from k2_feeds.socket.fleet import Fleet, Source
from k2_feeds.socket.listed_symbols import FIRST_WITHIN_S, Listed
from k2_feeds.trade_ids.watermarks import Watermarks

_CLOSE_S: Final = 4.0
_FLUSH_S: Final = 5.0
_READY_LOOK_S: Final = 0.05
_AGAIN_S: Final = (5.0, 60.0)
_log = logger(__name__)


class VenueFeed:
    """Feed one venue into Kafka until ``stop`` is set.

    Args:
        settings: all of them.
        source: the venue, its symbols and the data to feed.
        take_over: the processes that feed venues now, and end once this one has taken over.
        stop: set when the process is to end.
        beside: how many venues the process feeds.
        provisioning: held while topics and schemas are created, since venues share some of them.
    """

    def __init__(
        self,
        settings: Settings,
        source: Source,
        take_over: TakeOver,
        stop: asyncio.Event,
        *,
        beside: int = 1,
        provisioning: asyncio.Lock | None = None,
    ) -> None:
        self.name = source.venue.VENUE
        self.health = VenueHealth(source)
        self.failed: K2Error | None = None
        self.in_charge = asyncio.Event()
        self._settings, self._source, self._take_over = settings, source, take_over
        self._stop, self._beside = stop, beside
        self._provisioning = provisioning or asyncio.Lock()
        if take_over.predecessor_of(self.name) is None:
            self.in_charge.set()

    async def run(self) -> None:
        """Feed until ``stop``; after an error wait and begin again, while other venues go on."""
        pause = Backoff(*_AGAIN_S)
        while not self._stop.is_set():
            try:
                await self._run_once()
            except K2Error as error:
                _log.error("a venue's feed has failed", venue=self.name, text=str(error))
                self.failed = error
            except Exception as error:  # noqa: BLE001  # a fault of one venue's feed must not end the others
                _log.exception("a venue's feed broke", venue=self.name)
                self.failed = PartError(f"the feed of {self.name} broke ({error!r}): its log says where.")
            if self.failed is not None:
                self.health.waits(str(self.failed))
                await _set_within(self._stop, pause.delay_s())

    async def _run_once(self) -> None:
        provisioned = await self._provision()
        if provisioned is None:
            return
        self.failed = None
        venue, servers, feeds = self._source.venue, self._settings.bootstrap_servers, self._settings.feeds
        buffer_mb = max(feeds.buffer_mb // self._beside, 1)  # the venues of a process share its memory
        publisher = Publisher(servers, buffer_mb=buffer_mb, away_after_s=feeds.kafka_away_after_s)
        watermarks = Watermarks(self._settings, venue, self._source.url, provisioned)
        feed = Feed(venue, provisioned, publisher, watermarks=watermarks, grace_s=feeds.gap_grace_s)
        fleet, listed = Fleet(self._source, feeds, feed), Listed(self._source, feeds)
        watch = Watch(feed, fleet, listed, feeds)
        kept = KeptTopics(self._settings, (*provisioned.raw_topics, topics.FEED_EVENTS))
        publisher.missing = lambda: kept.missing
        refused: Counter[str] = Counter()
        publisher.on_failure.append(lambda topic, _value, _reason: refused.update([topic]))
        self.health.running = Running(feed, fleet, watch, refused)
        ended = threading.Event()
        try:
            await self._until_stopped(
                feed.run(),
                kept.run(),
                self._recall_and_connect(feed, fleet, listed, ended),
                self._come_into_charge(feed, fleet, ended),
                listed.keep_asking(lambda: fleet.leave_out(listed.unlisted)),
                watch.run(),
            )
        finally:
            ended.set()
            # Frames that have arrived are taken, and Kafka acknowledges them; both within bounds.
            if not await fleet.stop(_CLOSE_S):
                _log.error("frames that had arrived could not be handed to Kafka in time", venue=self.name)
            handover = successor_of(self._settings, self.name) is not None
            left = await asyncio.to_thread(lambda: feed.finish(_FLUSH_S, handover=handover))
            done = publisher.acknowledged
            _log.info("feed stopped", venue=self.name, messages=feed.messages, acknowledged=done, lost=left)

    async def _until_stopped(self, *duties: Coroutine[Any, Any, None]) -> None:
        """Run all duties until the feed stops; one that fails ends the others."""
        stopped = asyncio.create_task(self._stop.wait())
        running = [asyncio.create_task(duty) for duty in duties]
        try:
            waiting = {stopped, *running}
            while not stopped.done() and not any(task.done() and task.exception() for task in running):
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopped, *running):
                task.cancel()
            await asyncio.gather(stopped, *running, return_exceptions=True)
        for task in running:
            if not task.cancelled():
                task.result()

    async def _recall_and_connect(self, feed: Feed, fleet: Fleet, listed: Listed, ended: threading.Event) -> None:
        # With a predecessor the order is: connect, take over, recall. It feeds until then, so its ids are not final.
        if self.in_charge.is_set():
            await self._recall(feed, ended)
        await _set_within(listed.answered, FIRST_WITHIN_S)
        fleet.start()
        await fleet.ended()

    async def _recall(self, feed: Feed, ended: threading.Event) -> None:
        """Read what earlier processes have fed; ``ended`` ends the thread if the feed stops meanwhile."""
        try:
            await asyncio.to_thread(feed.recall, ended)
        except Stopped:
            return

    async def _come_into_charge(self, feed: Feed, fleet: Fleet, ended: threading.Event) -> None:
        """Once all subscriptions are acknowledged, end the predecessor; then look for gaps between it and this feed.

        Both feed the venue meanwhile. The predecessor's last frames are in Kafka when it has ended, so only then can
        this feed recall its ids and report what neither of them has received.
        """
        if self.in_charge.is_set():
            return
        while not fleet.ready:  # noqa: ASYNC110  # many connections, each with an event of its own
            await asyncio.sleep(_READY_LOOK_S)
        since_ns = clock.now_ns()
        predecessor = await self._take_over.ended(self.name)
        await self._recall(feed, ended)
        self.in_charge.set()
        if predecessor is not None:
            both_s = f"{(clock.now_ns() - since_ns) / clock.NS_PER_SECOND:.1f}"
            feed.note("handover", predecessor=str(predecessor.pid), successor=str(os.getpid()), both_fed_s=both_s)

    async def _provision(self) -> Provisioned | None:
        ended = threading.Event()
        waiter = asyncio.create_task(self._stop.wait())
        waiter.add_done_callback(lambda _: ended.set())
        try:
            async with self._provisioning:
                venue, data = self._source.venue, self._source.data
                return await asyncio.to_thread(provision, self._settings, venue, data, self.health.waits, ended)
        except Stopped:
            return None
        finally:
            waiter.cancel()


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait until an event is set, but not longer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
