"""One venue's frames on their way to Kafka: which instrument, which ids, a gap before them, the envelope."""

import hashlib
import uuid
from collections import Counter
from types import ModuleType
from typing import Final

from k2_core import clock, topics
from k2_core.errors import MalformedFrame
from k2_core.logs import logger
from k2_core.raw_frame import MAX_FRAME_BYTES, UNREADABLE, Encoder, decode
from k2_feeds.feed_events import HEAD_BYTES, EventEncoder, FeedEvent, Kind
from k2_feeds.gaps import Gap, GapTracker, severity
from k2_feeds.partitions import partition_of
from k2_feeds.provision import Provisioned
from k2_feeds.publisher import Publisher

_log = logger(__name__)
_POLL_EVERY: Final = 1024


class Feed:
    """Take a venue's frames in the order they came, and publish each verbatim.

    It outlives connections: ids are followed from one to the next, so that what was missed between them is a gap.
    """

    def __init__(self, venue: ModuleType, provisioned: Provisioned, publisher: Publisher) -> None:
        self.venue = venue
        self.topic = provisioned.raw_topic
        self.gaps = GapTracker()
        self.gaps_found: Counter[tuple[str, str]] = Counter()
        self.ids_missing = 0
        self.messages = 0
        self.unreadable = 0
        self.oversized = 0
        self.last_received_ns = 0
        self.last_trade: tuple[int, bytes] | None = None
        self._partitions = provisioned.partitions
        self._schema_id = provisioned.raw_schema_id
        self._events = EventEncoder(provisioned.event_schema_id)
        self._publisher = publisher
        self._put = publisher.put
        self._route = venue.route
        self._see = self.gaps.see
        self._lanes: dict[str, tuple[int, bytes]] = {}
        publisher.on_failure = self._undelivered
        self.opened(str(uuid.uuid4()))

    @property
    def full(self) -> bool:
        """Whether Kafka must take what waits before :meth:`take` is called again; then await :meth:`room`."""
        return self._publisher.full

    async def room(self) -> None:
        """Wait until the producer takes values again."""
        await self._publisher.room()

    def opened(self, connection_id: str) -> None:
        """Begin a connection: its frames are numbered from 0."""
        self._connection_id = connection_id
        self._sequence = 0
        self._encode = Encoder(self._schema_id, self.venue.VENUE, connection_id).encode

    def take(self, received_ns: int, payload: bytes) -> None:
        """Publish one frame."""
        sequence = self._sequence
        self._sequence = sequence + 1
        self.messages += 1
        self.last_received_ns = received_ns
        if len(payload) > MAX_FRAME_BYTES:
            self._refuse_oversized(payload)
            return
        channel, symbol, runs, _ = self._route(payload)
        if runs:
            self.last_trade = received_ns, payload
            for run in runs:
                gap = self._see(*run)
                if gap is not None:
                    self._note_gap(gap)
        elif channel == UNREADABLE:
            self.unreadable += 1
        partition, key = self._lanes.get(symbol) or self._lane(symbol)
        self._put(self.topic, partition, key, self._encode(received_ns, sequence, channel, symbol, payload))
        if not sequence % _POLL_EVERY:
            self._publisher.poll(0)

    def note(self, kind: Kind, symbol: str = "", **details: str) -> None:
        """Publish a feed event."""
        venue: str = self.venue.VENUE
        _log.info(kind, venue=venue, symbol=symbol, connection_id=self._connection_id, **details)
        value = self._events.encode(FeedEvent(clock.now_ns(), venue, kind, symbol, self._connection_id, details))
        self._put(topics.FEED_EVENTS, partition_of(venue, self._partitions), venue.encode(), value)

    def _lane(self, symbol: str) -> tuple[int, bytes]:
        lane = partition_of(symbol, self._partitions), symbol.encode()
        self._lanes[symbol] = lane
        return lane

    def _note_gap(self, gap: Gap, reason: str = "the venue's ids jump") -> None:
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

    def _refuse_oversized(self, payload: bytes) -> None:
        self.oversized += 1
        digest = hashlib.sha256(payload).hexdigest()
        head = payload[:HEAD_BYTES].decode("utf-8", "backslashreplace")
        self.note("oversized", bytes=str(len(payload)), sha256=digest, head=head)

    def _undelivered(self, topic: str, value: bytes, reason: str) -> None:
        """Record the ids of a frame that Kafka refused as a gap, so that nobody counts on them."""
        if topic != self.topic:
            return
        try:
            frame = decode(value)
        except MalformedFrame as error:
            _log.error("a refused value cannot be read", reason=str(error))
            return
        for run in self._route(frame.payload).runs:
            self._note_gap(Gap(*run), f"Kafka refused the frame: {reason}")
