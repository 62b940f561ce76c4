"""What a venue's feed knows of its ids from one process to the next: a small file, and what Kafka holds since.

The file only ever tells what Kafka has acknowledged. Whatever came after it stands in Kafka or is lost, so that both
together tell what is missing, however the last process ended. Ids of one source tell nothing of another's: a file holds
what came from one, and what other sources have left in Kafka is passed over.
"""

import hashlib
import threading
from collections.abc import Iterable
from typing import Final

import msgspec
from confluent_kafka import KafkaException

from k2_core import clock, topics
from k2_core.errors import MalformedFrame
from k2_core.logs import logger
from k2_core.raw_frame import decode
from k2_core.settings import Settings
from k2_core.venues.venue_protocol import Venue
from k2_feeds.kafka.feed_events import FeedEvent, read_event
from k2_feeds.kafka.partitioner import partition_of
from k2_feeds.kafka.provision import Provisioned, Stopped
from k2_feeds.kafka.replay import a_consumer, replay
from k2_feeds.trade_ids.gap_tracker import GapTracker
from k2_feeds.trade_ids.id_holes import Seen
from k2_feeds.trade_ids.trade_moments import moment_of

_MARGIN_MS: Final = 60_000  # Kafka's clock may differ from ours
_NEWEST: Final = 20_000  # messages of each partition, where there is no file
_RETRY_S: Final = 1.0
_log = logger(__name__)


class Remembered(msgspec.Struct):
    """The file's content: what is known of each of the venue's symbols, and when that was so."""

    at_ns: int
    symbols: dict[str, Seen]


class Watermarks:
    """One venue's file of one source, ``<home>/run/feed/<venue>.<source>.json``, and its topics."""

    def __init__(self, settings: Settings, venue: Venue, base_url: str, provisioned: Provisioned) -> None:
        self._source, self._url = settings.feeds.source, venue.stream_url(base_url)
        name = hashlib.sha256((self._source or self._url).encode()).hexdigest()[:8]
        self.path = settings.home / "run" / "feed" / f"{venue.VENUE}.{name}.json"
        self._servers, self._venue = settings.bootstrap_servers, venue
        self._frames = [(provisioned.trades_topic, partition) for partition in range(provisioned.partitions)]
        self._events = [(topics.FEED_EVENTS, partition_of(venue.VENUE, provisioned.partitions))]

    def write(self, remembered: Remembered) -> None:
        """Replace the file at once: a reader finds the old one or the new one."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside = self.path.with_suffix(".part")
            beside.write_bytes(msgspec.json.encode(remembered))
            beside.replace(self.path)
        except OSError as error:  # a full disk: Kafka is asked from further back when the feed starts again
            _log.error("what the feed knows cannot be written", file=str(self.path), reason=str(error))

    def read(self) -> Remembered | None:
        """Return the file's content; None when there is none that can be read."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Remembered)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.error("what the feed knew cannot be read: Kafka is asked", file=str(self.path), reason=str(error))
            return None

    def recall(self, stop: threading.Event) -> GapTracker:
        """Return what is known of the venue's ids. Blocks, and waits for Kafka.

        Raises:
            Stopped: ``stop`` was set meanwhile.
        """
        while not stop.is_set():
            try:
                return self._recall(stop)
            except KafkaException as error:
                _log.warning("Kafka is waited for, to recall what came", reason=error.args[0].str())
                stop.wait(_RETRY_S)
        raise Stopped

    def _recall(self, stop: threading.Event) -> GapTracker:
        remembered = self.read()
        tracker = GapTracker(remembered.symbols if remembered else None, moment_of(self._venue))
        since_ms = remembered.at_ns // clock.NS_PER_MS - _MARGIN_MS if remembered else None
        consumer = a_consumer(self._servers)
        try:
            events = [
                event
                for value in replay(consumer, self._events, since_ms, _NEWEST, stop)
                if (event := read_event(value))
            ]
            ours, foreign = self._ours(events)
            frames = self._see(tracker, replay(consumer, self._frames, since_ms, _NEWEST, stop), foreign)
            gaps = self._tell(tracker, ours)
        finally:
            consumer.close()
        symbols = len(tracker.state())
        _log.info("recalled", venue=self._venue.VENUE, file=bool(remembered), symbols=symbols, frames=frames, gaps=gaps)
        return tracker

    def _ours(self, events: Iterable[FeedEvent]) -> tuple[list[FeedEvent], set[str]]:
        """Return the venue's events while it was fed from this source, and the connections to others."""
        ours, foreign, is_ours = [], set(), True
        for event in events:
            if event.venue != self._venue.VENUE:
                continue
            if event.kind == "connect":
                source, url = event.details.get("source", ""), event.details.get("url", "")
                is_ours = source == self._source if source else url == self._url
                if not is_ours:
                    foreign.add(event.connection_id)
            if is_ours:
                ours.append(event)
        return ours, foreign

    def _see(self, tracker: GapTracker, values: Iterable[bytes], foreign: set[str]) -> int:
        route, see, frames = self._venue.route, tracker.see, 0
        for value in values:
            try:
                frame = decode(value)
            except MalformedFrame:  # whoever wrote it was no feed
                continue
            if frame.connection_id in foreign:
                continue
            frames += 1
            for symbol, first_id, last_id in route(frame.payload).runs:
                see(symbol, first_id, last_id, frame.payload)
        return frames

    def _tell(self, tracker: GapTracker, events: Iterable[FeedEvent]) -> int:
        """Mark the gaps that stand in the events, so that they are not told again."""
        gaps = 0
        for event in events:
            if event.kind != "gap":
                continue
            first, last = (event.details.get(name, "") for name in ("first_missing", "last_missing"))
            if first.isdecimal() and last.isdecimal():
                tracker.lose(event.symbol, int(first), int(last), event.details.get("reason", ""), told=True)
                gaps += 1
        return gaps
