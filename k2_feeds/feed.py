"""One venue's frames on their way to Kafka: all its connections together, their ids, and the gaps between them."""

import asyncio
import threading
from collections import Counter
from typing import Final

from k2_core import clock, topics
from k2_core.errors import MalformedFrame
from k2_core.logs import logger
from k2_core.raw_frame import decode
from k2_core.venues.routing import QUOTE, IdRun
from k2_core.venues.venue_protocol import Venue
from k2_feeds.kafka.acknowledgements import Mark
from k2_feeds.kafka.dropped_frames import Drops
from k2_feeds.kafka.feed_events import EventEncoder, FeedEvent, Kind
from k2_feeds.kafka.partitioner import partition_of
from k2_feeds.kafka.provision import Provisioned
from k2_feeds.kafka.publisher import Publisher
from k2_feeds.stream import FeedStream, Lane
from k2_feeds.trade_ids.gap_tracker import Gap, GapTracker, severity
from k2_feeds.trade_ids.trade_moments import moment_of
from k2_feeds.trade_ids.watermarks import Remembered, Watermarks

_log = logger(__name__)
GRACE_S: Final = 2.0
_TEND_S: Final = 0.1
_LONGEST_TICK_S: Final = 0.5  # while a process was stopped, late ids could not come
_REMEMBER_S: Final = 1.0
_MARK_AGAIN_S: Final = 30.0


class Feed:
    """Take a venue's frames from all its connections, and publish each verbatim.

    It follows ids from one connection to the next, so that it reports what was missed between them as a gap. With
    ``watermarks`` it does so from one process to the next, too: :meth:`recall` reads what earlier processes have fed,
    before the first connection, or after the predecessor has ended if that one still feeds. No gap is reported before.
    Call :meth:`tend` some times a second, or :meth:`run`, in the thread that gives the frames, and :meth:`finish` at
    the end.
    """

    def __init__(
        self,
        venue: Venue,
        provisioned: Provisioned,
        publisher: Publisher,
        *,
        watermarks: Watermarks | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        self.venue = venue
        self.publisher = publisher
        self.provisioned = provisioned
        self.gaps = GapTracker(moment=moment_of(venue))
        self.gaps_found: Counter[tuple[str, str]] = Counter()
        self.ids_missing = self.unreadable = self.oversized = 0
        self.sequence_breaks = self.sequence_repeats = 0
        self.drops = Drops()
        self.lanes: dict[tuple[str, str], Lane] = {}
        self._grace_s = grace_s
        self._streams: set[FeedStream] = set()
        self._closed_frames = self._closed_received_ns = 0
        self._closed_trade: tuple[int, bytes] | None = None
        self._events = EventEncoder(provisioned.event_schema_id)
        self._watermarks = watermarks
        self._history: GapTracker | None = None
        self._knows = watermarks is None
        self._tended_at = clock.monotonic()
        self._pending: tuple[float, Mark, Remembered] | None = None
        self._remembered_at = 0.0
        self.wait_until_accepted = publisher.wait_until_accepted
        publisher.on_failure.append(self._undelivered)

    @property
    def full(self) -> bool:
        return self.publisher.full

    @property
    def messages(self) -> int:
        return self._closed_frames + sum(stream.frames for stream in self._streams)

    @property
    def last_received_ns(self) -> int:
        """When the newest frame came; 0 before the first."""
        return max(self._closed_received_ns, *(stream.last_received_ns for stream in self._streams), 0)

    @property
    def last_trade(self) -> tuple[int, bytes] | None:
        """The newest frame with trades, and when it came."""
        found = [stream.last_trade for stream in self._streams if stream.last_trade]
        return max(found, default=self._closed_trade)

    def open(self, connection_id: str) -> FeedStream:
        self._learn()
        stream = FeedStream(self, self.venue, connection_id)
        self._streams.add(stream)
        return stream

    def closed(self, stream: FeedStream) -> None:
        """End a connection, and keep its counts."""
        if stream in self._streams:
            self._streams.remove(stream)
            self._closed_frames += stream.frames
            self._closed_received_ns = max(self._closed_received_ns, stream.last_received_ns)
            self._closed_trade = stream.last_trade or self._closed_trade

    def recall(self, stop: threading.Event) -> None:
        """Find out what earlier processes have fed. Blocks: run it in a thread of its own.

        Raises:
            Stopped: ``stop`` was set meanwhile.
        """
        if self._watermarks is not None:
            self._history = self._watermarks.recall(stop)

    def tend(self) -> None:
        """Serve the producer, report what is due, and write down what Kafka has acknowledged.

        Raises:
            TopicError: the producer can never deliver again, and the process must be restarted.
        """
        self.publisher.serve()
        self._learn()
        now = clock.monotonic()
        elapsed_s, self._tended_at = min(now - self._tended_at, _LONGEST_TICK_S), now
        if not self.full and not self.publisher.away:
            self._tell(elapsed_s)
        self._remember(now)

    async def run(self) -> None:
        while True:
            self.tend()
            await asyncio.sleep(_TEND_S)

    def finish(self, within_s: float, *, handover: bool = False) -> int:
        """Report the gaps that are still open, unless a successor will, and wait for Kafka. Blocks.

        Returns:
            How many values Kafka has not acknowledged.
        """
        self._learn()
        self._tell(0.0 if handover else self._grace_s)
        left = self.publisher.flush(within_s)
        self._pending = None
        self._remember(clock.monotonic() + _REMEMBER_S)  # marks what was handed over
        self._remember(clock.monotonic())  # and writes it, if Kafka has acknowledged all of it
        return left

    def lane(self, channel: str, symbol: str) -> Lane:
        made = self.provisioned
        topic = made.quotes_topic if channel == QUOTE else made.trades_topic
        lane = topic, self.publisher.place(topic, partition_of(symbol, made.partitions)), symbol.encode()
        self.lanes[channel, symbol] = lane
        return lane

    def drop(self, received_ns: int, payload: bytes, runs: tuple[IdRun, ...]) -> None:
        """Count a frame that is dropped while Kafka is away; its ids are lost unless they come again."""
        if not self.drops:
            _log.error("frames are dropped", venue=self.venue.VENUE, reason=self.publisher.away_because)
        self.drops.add(received_ns, len(payload))
        for run in runs:
            self.gaps.lose(*run, f"dropped: {self.publisher.away_because}")

    def note(self, kind: Kind, symbol: str = "", **details: str) -> None:
        venue = self.venue.VENUE
        _log.info(kind, venue=venue, symbol=symbol, **details)
        self.publish_event(FeedEvent(clock.now_ns(), venue, kind, symbol, "", details))

    def publish_event(self, event: FeedEvent) -> None:
        """Publish a feed event; while Kafka is away it waits, and is never dropped."""
        place = self.publisher.place(topics.FEED_EVENTS, partition_of(event.venue, self.provisioned.partitions))
        self.publisher.keep(place, event.venue.encode(), self._events.encode(event))

    def _learn(self) -> None:
        """Take what :meth:`recall` has found in its own thread; the tracker belongs to the thread of the frames."""
        history, self._history = self._history, None
        if history is not None:
            self.gaps.learn(history)
            self._knows = True

    def _tell(self, elapsed_s: float) -> None:
        """Report dropped frames; then, once it is known what earlier processes have fed, restarts and gaps."""
        if self.drops:
            self.note("dropped", reason=self.publisher.away_because, **self.drops.take_details())
        if not self._knows:
            return
        restarts, self.gaps.restarts = self.gaps.restarts, []
        for each in restarts:
            last, first = str(each.last_before), str(each.first_after)
            self.note("ids_begin_again", each.symbol, last_before=last, first_after=first)
        for gap in self.gaps.due(elapsed_s, self._grace_s):
            self._note_gap(gap)
        filled, self.gaps.filled = self.gaps.filled, []
        for gap in filled:
            first, last = str(gap.first_missing), str(gap.last_missing)
            self.note("recovered", gap.symbol, state="gap", first_missing=first, last_missing=last)

    def _note_gap(self, gap: Gap) -> None:
        grade = severity(gap.missing)
        self.gaps_found[gap.symbol, grade] += 1
        self.ids_missing += gap.missing
        first, last, missing = str(gap.first_missing), str(gap.last_missing), str(gap.missing)
        details = {"first_missing": first, "last_missing": last, "missing": missing, "severity": grade}
        self.note("gap", gap.symbol, **details, reason=gap.reason)

    def _remember(self, now: float) -> None:
        """Write the watermarks, but only once Kafka has acknowledged all frames that they come from.

        A snapshot of the ids is taken with a mark of what was handed over by then, and written when Kafka has reached
        the mark. A mark that is not reached in time, as when a topic was deleted, is replaced by a later one.
        """
        if self._watermarks is None or not self._knows:
            return
        if self._pending is not None:
            marked_at, mark, remembered = self._pending
            if self.publisher.has_acknowledged(mark):
                self._watermarks.write(remembered)
                self._pending, self._remembered_at = None, now
            elif now - marked_at > _MARK_AGAIN_S:
                self._pending = None
        elif now - self._remembered_at >= _REMEMBER_S:
            handed_over = self.publisher.mark()
            if handed_over is not None:
                self._pending = now, handed_over, Remembered(clock.now_ns(), self.gaps.state())

    def _undelivered(self, topic: str, value: bytes, reason: str) -> None:
        """Report the ids of a frame that Kafka refused as a gap."""
        if topic not in self.provisioned.raw_topics:
            return
        try:
            frame = decode(value)
        except MalformedFrame as error:
            _log.error("a refused value cannot be read", reason=str(error))
            return
        for symbol, first_id, last_id in self.venue.route(frame.payload).runs:
            self._note_gap(Gap(symbol, first_id, last_id, f"Kafka refused the frame: {reason}"))
