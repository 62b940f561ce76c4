"""One venue's frames on their way to Kafka: all its connections together, their ids, and what was missed."""

from collections import Counter
from types import ModuleType
from typing import Final

from k2_core import clock, topics
from k2_core.errors import MalformedFrame
from k2_core.logs import logger
from k2_core.raw_frame import decode
from k2_core.venues.routing import QUOTE
from k2_feeds.feed_events import EventEncoder, FeedEvent, Kind
from k2_feeds.gaps import Gap, GapTracker, severity
from k2_feeds.partitions import partition_of
from k2_feeds.provision import Provisioned
from k2_feeds.publisher import Publisher
from k2_feeds.stream import FeedStream

_log = logger(__name__)
Lane = tuple[str, int, bytes]
"""Topic, partition and key of all frames of one channel and symbol."""
_JUMP: Final = "the venue's ids jump"


class Feed:
    """Take a venue's frames from all its connections, and publish each verbatim.

    It outlives connections: ids are followed from one to the next, so that what was missed between them is a gap.
    """

    def __init__(self, venue: ModuleType, provisioned: Provisioned, publisher: Publisher) -> None:
        self.venue = venue
        self.publisher = publisher
        self.provisioned = provisioned
        self.gaps = GapTracker()
        self.gaps_found: Counter[tuple[str, str]] = Counter()
        self.ids_missing = 0
        self.unreadable = 0
        self.oversized = 0
        self.last_trade: tuple[int, bytes] | None = None
        self.lanes: dict[tuple[str, str], Lane] = {}
        self._streams: set[FeedStream] = set()
        self._frames_of_closed = self._heard_of_closed = 0
        self._events = EventEncoder(provisioned.event_schema_id)
        publisher.on_failure = self._undelivered

    @property
    def topic(self) -> str:
        """The topic of trades."""
        return self.provisioned.trades_topic

    @property
    def full(self) -> bool:
        """Whether Kafka must take what waits before a stream is given more; then await :meth:`room`."""
        return self.publisher.full

    @property
    def messages(self) -> int:
        """How many frames were taken."""
        return self._frames_of_closed + sum(stream.frames for stream in self._streams)

    @property
    def last_received_ns(self) -> int:
        """When the newest frame came; 0 before the first."""
        return max((stream.last_received_ns for stream in self._streams), default=0) or self._heard_of_closed

    async def room(self) -> None:
        """Wait until the producer takes values again."""
        await self.publisher.room()

    def open(self, connection_id: str) -> FeedStream:
        """Begin a connection."""
        stream = FeedStream(self, self.venue, connection_id)
        self._streams.add(stream)
        return stream

    def closed(self, stream: FeedStream) -> None:
        """Forget a connection, but not what it brought."""
        if stream in self._streams:
            self._streams.remove(stream)
            self._frames_of_closed += stream.frames
            self._heard_of_closed = max(self._heard_of_closed, stream.last_received_ns)

    def lane(self, channel: str, symbol: str) -> Lane:
        """Return where frames of a channel and symbol go."""
        made = self.provisioned
        topic = made.quotes_topic if channel == QUOTE else made.trades_topic
        lane = topic, partition_of(symbol, made.partitions), symbol.encode()
        self.lanes[channel, symbol] = lane
        return lane

    def note(self, kind: Kind, symbol: str = "", **details: str) -> None:
        """Publish a feed event that concerns no single connection."""
        venue: str = self.venue.VENUE
        _log.info(kind, venue=venue, symbol=symbol, **details)
        self.publish_event(FeedEvent(clock.now_ns(), venue, kind, symbol, "", details))

    def publish_event(self, event: FeedEvent) -> None:
        """Publish a feed event."""
        partition = partition_of(event.venue, self.provisioned.partitions)
        self.publisher.put(topics.FEED_EVENTS, partition, event.venue.encode(), self._events.encode(event))

    def note_gap(self, gap: Gap, reason: str = _JUMP) -> None:
        """Publish and count a gap."""
        grade = severity(gap.missing)
        self.gaps_found[gap.symbol, grade] += 1
        self.ids_missing += gap.missing
        first, last, missing = str(gap.first_missing), str(gap.last_missing), str(gap.missing)
        self.note(
            "gap",
            gap.symbol,
            first_missing=first,
            last_missing=last,
            missing=missing,
            severity=grade,
            reason=reason,
        )

    def _undelivered(self, topic: str, value: bytes, reason: str) -> None:
        """Record the ids of a frame that Kafka refused as a gap, so that nobody counts on them."""
        if topic not in self.provisioned.raw_topics:
            return
        try:
            frame = decode(value)
        except MalformedFrame as error:
            _log.error("a refused value cannot be read", reason=str(error))
            return
        for run in self.venue.route(frame.payload).runs:
            self.note_gap(Gap(*run), f"Kafka refused the frame: {reason}")
