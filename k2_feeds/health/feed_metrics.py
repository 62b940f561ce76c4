"""Copy the feeds' own counts into Prometheus' metrics at each scrape."""

from collections import Counter as Counted
from collections.abc import Sequence
from typing import Final

from prometheus_client import Counter, generate_latest

from k2_core import clock, metrics
from k2_core.clock import NS_PER_SECOND
from k2_feeds.health.fault_states import STATES
from k2_feeds.health.health_report import Running, VenueHealth

PROMETHEUS_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


class FeedMetrics:
    """The metrics of all venues of a process."""

    def __init__(self, venues: Sequence[VenueHealth]) -> None:
        self._venues = venues
        self._counted: dict[tuple[str, ...], tuple[object, int]] = {}
        self._running: dict[str, Running] = {}

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        for each in self._venues:
            venue, running = each.venue, each.running
            ended = self._running.pop(venue, None)
            if ended is not None and ended is not running:
                self._count(venue, ended)  # what it has counted since the last scrape
            if running is None:
                metrics.FEED_CONNECTED.labels(venue).set(0)
                metrics.FEED_CONNECTION_LIFETIME.labels(venue).set(0)
                for state in STATES:
                    metrics.FEED_STATE.labels(venue, state).set(0)
            else:
                self._running[venue] = running
                self._count(venue, running)
                feed, fleet, watch, _ = running
                since_ns = [
                    each.connected_since_ns for each in fleet.connections if each.connected_since_ns is not None
                ]
                age_s = (clock.now_ns() - min(since_ns)) / NS_PER_SECOND if since_ns else 0.0
                metrics.FEED_CONNECTED.labels(venue).set(fleet.connected)
                metrics.FEED_CONNECTION_LIFETIME.labels(venue).set(age_s)
                metrics.FEED_LAST_MESSAGE.labels(venue).set(feed.last_received_ns / NS_PER_SECOND)
                lateness, skew_s = watch.lateness, watch.lateness.skew_s(clock.now_ns())
                if lateness.newest is not None:
                    metrics.FEED_EVENT_LAG.labels(venue).set(lateness.newest.lag_s)
                if skew_s is not None:
                    metrics.FEED_CLOCK_SKEW.labels(venue).set(skew_s)
                for state in STATES:
                    metrics.FEED_STATE.labels(venue, state).set(state in watch.states)
        return generate_latest()

    def _count(self, venue: str, running: Running) -> None:
        feed, fleet, refused = running.feed, running.fleet, running.refused
        produced: Counted[str] = Counted()
        for place in {place for _, place, _ in feed.lanes.values()}:
            produced[place.topic] += place.acknowledged
        for topic in feed.provisioned.raw_topics:
            self._raise(metrics.FEED_PRODUCED, feed, produced[topic], venue, topic)
            self._raise(metrics.FEED_PRODUCE_ERRORS, feed, refused[topic], venue, topic)
        self._raise(metrics.FEED_DROPPED, feed, feed.drops.total, venue)
        self._raise(metrics.FEED_RECEIVED, feed, feed.messages, venue)
        self._raise(metrics.FEED_MESSAGE_ERRORS, feed, feed.unreadable + feed.oversized, venue)
        self._raise(metrics.SEQUENCE_GAP_MESSAGES, feed, feed.ids_missing, venue)
        self._raise(metrics.OUT_OF_ORDER, feed, feed.gaps.out_of_order, venue)
        self._raise(metrics.SEQUENCE_BREAKS, feed, feed.sequence_breaks, venue)
        self._raise(metrics.DUPLICATES, feed, feed.gaps.duplicates, venue)
        for (symbol, severity), count in feed.gaps_found.items():
            self._raise(metrics.SEQUENCE_GAPS, feed, count, venue, symbol, severity)
        self._raise(metrics.FEED_PONG_TIMEOUTS, fleet, sum(each.pong_timeouts for each in fleet.connections), venue)
        for reason, count in fleet.reconnects.items():
            self._raise(metrics.FEED_RECONNECTS, fleet, count, venue, reason)

    def _raise(self, counter: Counter, source: object, total: int, *labels: str) -> None:
        """Raise a counter by what ``source`` has counted since the last scrape; another source counts from 0."""
        key = (str(counter), *labels)
        seen, before = self._counted.get(key, (source, 0))
        counter.labels(*labels).inc(max(total - (before if seen is source else 0), 0))
        self._counted[key] = source, max(total, before if seen is source else 0)
