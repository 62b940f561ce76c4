"""The frames of one connection on their way to Kafka: which topic, which ids, the envelope."""

import hashlib
from typing import Final, Protocol

from k2_core import clock
from k2_core.errors import MalformedFrame
from k2_core.logs import logger
from k2_core.quotes import VenueQuote
from k2_core.raw_frame import MAX_FRAME_BYTES, UNREADABLE, Encoder
from k2_core.venues.routing import QUOTE, TRADE, IdRun, is_snapshot
from k2_core.venues.venue_protocol import Venue
from k2_feeds.kafka.acknowledgements import Place
from k2_feeds.kafka.feed_events import HEAD_BYTES, FeedEvent, Kind
from k2_feeds.kafka.provision import Provisioned
from k2_feeds.kafka.publisher import Publisher
from k2_feeds.trade_ids.gap_tracker import GapTracker

_log = logger(__name__)
_POLL_EVERY: Final = 1024


Lane = tuple[str, Place, bytes]
"""Topic, partition and key of all frames of one channel and symbol."""


class StreamOwner(Protocol):
    """What a stream needs of the feed that it belongs to; the feed counts for all its streams."""

    provisioned: Provisioned
    publisher: Publisher
    gaps: GapTracker
    lanes: dict[tuple[str, str], Lane]
    unreadable: int
    oversized: int
    sequence_breaks: int
    sequence_repeats: int

    def lane(self, channel: str, symbol: str) -> Lane:
        """Return topic, partition and key of frames of a channel and symbol."""

    def drop(self, received_ns: int, payload: bytes, runs: tuple[IdRun, ...]) -> None:
        """Count a frame that cannot be stored."""

    def publish_event(self, event: FeedEvent) -> None:
        """Publish a feed event."""

    def closed(self, stream: "FeedStream") -> None:
        """Forget a connection, but not what it brought."""


class FeedStream:
    """Take one connection's frames in the order they came, and publish each verbatim."""

    def __init__(self, feed: StreamOwner, venue: Venue, connection_id: str) -> None:
        self.heard: dict[tuple[str, str], int] = {}
        self.frames = 0
        self.last_received_ns = 0
        self.last_trade: tuple[int, bytes] | None = None
        self._feed, self._venue = feed, venue
        self._connection_id = connection_id
        self._venue_sequence: int | None = None
        self._encode = {
            topic: Encoder(schema_id, venue.VENUE, connection_id).encode
            for topic, schema_id in feed.provisioned.raw_schema_ids.items()
        }
        self._route, self._see = venue.route, feed.gaps.see
        self._lanes, self._put, self._poll = feed.lanes, feed.publisher.put, feed.publisher.poll

    def take(self, received_ns: int, payload: bytes) -> None:
        """Publish one frame, or count it as dropped while Kafka is away."""
        # The hot path of a feed: one routing, one encoding, one call of the producer for each frame.
        sequence = self.frames
        self.frames = sequence + 1
        self.last_received_ns = received_ns
        if len(payload) > MAX_FRAME_BYTES:
            self._refuse_oversized(payload)
            return
        channel, symbol, runs, venue_sequence = self._route(payload)
        if venue_sequence is not None:
            self._follow(venue_sequence)
        topic, place, key = self._lanes.get((channel, symbol)) or self._feed.lane(channel, symbol)
        if not self._put(place, key, self._encode[topic](received_ns, sequence, channel, symbol, payload)):
            self._feed.drop(received_ns, payload, runs)
            return
        # Ids count as seen only once the producer has taken the frame: Kafka then holds it, or reports a failure.
        if runs:
            self.last_trade = received_ns, payload
            for symbol_of_run, first_id, last_id in runs:
                self._see(symbol_of_run, first_id, last_id, payload)
        elif channel == UNREADABLE:
            self._feed.unreadable += 1
        if not is_snapshot(payload):  # the answer to a subscription does not show that the channel works
            self._hear(received_ns, channel, symbol, payload, runs)
        if not sequence % _POLL_EVERY:
            self._poll(0)

    def note(self, kind: Kind, symbol: str = "", **details: str) -> None:
        venue = self._venue.VENUE
        _log.info(kind, venue=venue, symbol=symbol, connection_id=self._connection_id, **details)
        self._feed.publish_event(FeedEvent(clock.now_ns(), venue, kind, symbol, self._connection_id, details))

    def close(self) -> None:
        self._feed.closed(self)

    def _follow(self, found: int) -> None:
        """Follow the venue's own counter of the connection's messages, which rises by one."""
        expected = self._venue_sequence
        # A smaller number repeats a message, and does not change what is expected next.
        if expected is not None and found > expected:
            self._feed.sequence_breaks += 1
            self.note("sequence_break", expected=str(expected), found=str(found))
        if expected is None or found >= expected:
            self._venue_sequence = found + 1
        else:
            self._feed.sequence_repeats += 1

    def _hear(self, received_ns: int, channel: str, symbol: str, payload: bytes, runs: tuple[IdRun, ...]) -> None:
        """Remember when each symbol of a frame was heard."""
        if symbol:
            self.heard[channel, symbol] = received_ns
        elif channel == TRADE:
            self.heard.update(dict.fromkeys(((channel, run[0]) for run in runs), received_ns))
        elif channel == QUOTE:
            try:
                quotes = self._venue.parse_quotes(payload) or ()
            except MalformedFrame:
                return
            symbols = {quote.venue_symbol for quote in quotes if isinstance(quote, VenueQuote)}
            self.heard.update(dict.fromkeys(((channel, each) for each in symbols), received_ns))

    def _refuse_oversized(self, payload: bytes) -> None:
        """Record size, hash and head of a frame that is too large for Kafka, instead of storing it."""
        self._feed.oversized += 1
        venue_sequence = self._route(payload).connection_sequence
        if venue_sequence is not None:
            self._follow(venue_sequence)
        digest = hashlib.sha256(payload).hexdigest()
        head = payload[:HEAD_BYTES].decode("utf-8", "backslashreplace")
        self.note("oversized", bytes=str(len(payload)), sha256=digest, head=head)
