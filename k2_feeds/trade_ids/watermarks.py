"""What a venue's feed knows of its ids from one process to the next: a small file, and what Kafka holds since.

The file holds only what Kafka has acknowledged. What came later is in Kafka or is lost: file and Kafka together show
what is missing, however the last process ended. Ids of two sources have nothing in common: a file belongs to one
source, and frames of other sources in Kafka are skipped.
"""

import hashlib
import threading
from collections.abc import Iterable
from typing import Final

import msgspec
from confluent_kafka import KafkaException

from k2_core import clock, topics, whole_file
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
    """The file's content: what is known of each of the venue's symbols at a moment."""

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
        """Replace the file atomically."""
        try:
            whole_file.replace(self.path, msgspec.json.encode(remembered))
        except OSError as error:  # such as a full disk: the next start then reads more of Kafka
            _log.error("the feed's watermarks cannot be written", file=str(self.path), reason=str(error))

    def read(self) -> Remembered | None:
        """Return the file's content; None if there is no file or it cannot be read."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Remembered)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.error(
                "the feed's watermarks cannot be read: Kafka is read instead", file=str(self.path), reason=str(error)
            )
            return None

    def recall(self, stop: threading.Event) -> GapTracker:
        """Return what is known of the venue's ids, from the file and Kafka. Blocks until Kafka answers.

        Raises:
            Stopped: ``stop`` was set meanwhile.
        """
        while not stop.is_set():
            try:
                return self._recall(stop)
            except KafkaException as error:
                _log.warning("waiting for Kafka, to read what earlier feeds stored", reason=error.args[0].str())
                stop.wait(_RETRY_S)
        raise Stopped

    def _recall(self, stop: threading.Event) -> GapTracker:
        remembered = self.read()
        tracker = GapTracker(remembered.symbols if remembered else None, moment_of(self._venue))
        # All ids of the file are acknowledged, so Kafka is read from its time on, with a margin for the clocks.
        since_ms = remembered.at_ns // clock.NS_PER_MS - _MARGIN_MS if remembered else None
        consumer = a_consumer(self._servers)
        try:
            events = [
                event
                for value in replay(consumer, self._events, since_ms, _NEWEST, stop)
                if (event := read_event(value))
            ]
            ours, foreign = self._ours(events)
            frames = 0
            for value in replay(consumer, self._frames, since_ms, _NEWEST, stop):
                try:
                    frame = decode(value)
                except MalformedFrame:  # it was not written by a feed
                    continue
                if frame.connection_id not in foreign:
                    frames += 1
                    for run in self._venue.route(frame.payload).runs:
                        tracker.see(*run, frame.payload)
        finally:
            consumer.close()
        # Gaps that were reported before are not reported again.
        gaps = 0
        for event in ours:
            first, last = (event.details.get(name, "") for name in ("first_missing", "last_missing"))
            if event.kind == "gap" and first.isdecimal() and last.isdecimal():
                tracker.lose(event.symbol, int(first), int(last), event.details.get("reason", ""), reported=True)
                gaps += 1
        symbols = len(tracker.state())
        _log.info("recalled", venue=self._venue.VENUE, file=bool(remembered), symbols=symbols, frames=frames, gaps=gaps)
        return tracker

    def _ours(self, events: Iterable[FeedEvent]) -> tuple[list[FeedEvent], set[str]]:
        """Return the venue's events while it was fed from this source, and the ids of connections to other sources."""
        ours, foreign, is_ours = [], set(), True
        for event in events:
            if event.venue != self._venue.VENUE:
                continue
            if event.kind == "connect":  # says from where the following events, and the connection's frames, come
                source, url = event.details.get("source", ""), event.details.get("url", "")
                is_ours = source == self._source if source else url == self._url
                if not is_ours:
                    foreign.add(event.connection_id)
            if is_ours:
                ours.append(event)
        return ours, foreign
