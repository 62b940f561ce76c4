"""The frames of one connection on their way to Kafka: which topic, which ids, the envelope."""

import hashlib
from types import ModuleType
from typing import TYPE_CHECKING, Final

from k2_core import clock
from k2_core.logs import logger
from k2_core.raw_frame import MAX_FRAME_BYTES, UNREADABLE, Encoder
from k2_feeds.feed_events import HEAD_BYTES, FeedEvent, Kind

if TYPE_CHECKING:
    from k2_feeds.feed import Feed

_log = logger(__name__)
_POLL_EVERY: Final = 1024


class FeedStream:
    """Take one connection's frames in the order they came, and publish each verbatim."""

    def __init__(self, feed: "Feed", venue: ModuleType, connection_id: str) -> None:
        self.heard: dict[tuple[str, str], int] = {}
        self.frames = 0
        self.last_received_ns = 0
        self._feed, self._venue = feed, venue
        self._connection_id = connection_id
        self._encode = {
            topic: Encoder(schema_id, venue.VENUE, connection_id).encode
            for topic, schema_id in feed.provisioned.raw_schema_ids.items()
        }
        self._route, self._see, self._lanes, self._put = venue.route, feed.gaps.see, feed.lanes, feed.publisher.put
        self._poll = feed.publisher.poll

    def take(self, received_ns: int, payload: bytes) -> None:
        """Publish one frame."""
        sequence = self.frames
        self.frames = sequence + 1
        self.last_received_ns = received_ns
        if len(payload) > MAX_FRAME_BYTES:
            self._refuse_oversized(payload)
            return
        channel, symbol, runs, _ = self._route(payload)
        if runs:
            self._feed.last_trade = received_ns, payload
            for run in runs:
                gap = self._see(*run)
                if gap is not None:
                    self._feed.note_gap(gap)
        elif channel == UNREADABLE:
            self._feed.unreadable += 1
        place = channel, symbol
        topic, partition, key = self._lanes.get(place) or self._feed.lane(channel, symbol)
        if symbol:
            self.heard[place] = received_ns
        self._put(topic, partition, key, self._encode[topic](received_ns, sequence, channel, symbol, payload))
        if not sequence % _POLL_EVERY:
            self._poll(0)

    def note(self, kind: Kind, symbol: str = "", **details: str) -> None:
        """Publish a feed event of this connection."""
        venue: str = self._venue.VENUE
        _log.info(kind, venue=venue, symbol=symbol, connection_id=self._connection_id, **details)
        self._feed.publish_event(FeedEvent(clock.now_ns(), venue, kind, symbol, self._connection_id, details))

    def close(self) -> None:
        """End the connection."""
        self._feed.closed(self)

    def _refuse_oversized(self, payload: bytes) -> None:
        self._feed.oversized += 1
        digest = hashlib.sha256(payload).hexdigest()
        head = payload[:HEAD_BYTES].decode("utf-8", "backslashreplace")
        self.note("oversized", bytes=str(len(payload)), sha256=digest, head=head)
