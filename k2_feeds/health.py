"""What a feed says of itself: ``/health`` as JSON for programs and people, ``/metrics`` for Prometheus."""

from typing import Any, Final

from prometheus_client import Counter, generate_latest

from k2_core import clock, metrics
from k2_core.clock import NS_PER_SECOND, NS_PER_US
from k2_core.errors import MalformedFrame
from k2_core.trades import VenueTrade
from k2_feeds.connection import Connection
from k2_feeds.feed import Feed
from k2_feeds.publisher import Publisher

PROMETHEUS_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """The state of one venue's feed, from before its first connection."""

    def __init__(self, venue: str, url: str, symbols: tuple[str, ...]) -> None:
        self.message = "starting"
        self._venue, self._url, self._symbols = venue, url, symbols
        self._running: tuple[Feed, Connection, Publisher] | None = None
        self._counted: dict[tuple[str, ...], int] = {}

    def attach(self, feed: Feed, connection: Connection, publisher: Publisher) -> None:
        """Speak from now on for a feed that runs."""
        self._running = feed, connection, publisher

    def snapshot(self) -> dict[str, Any]:
        """Return the state for ``/health``; times are RFC 3339."""
        base = {"venue": self._venue, "url": self._url, "symbols": list(self._symbols)}
        if self._running is None:
            idle = dict.fromkeys(("messages", "produced", "gaps", "reconnects"), 0)
            times = {"connected_since": None, "last_message_at": None}
            return {**base, "connected": False, **times, **idle, "message": self.message}
        feed, connection, publisher = self._running
        return {
            **base,
            "connected": connection.connected_since_ns is not None,
            "connected_since": _iso(connection.connected_since_ns),
            "last_message_at": _iso(feed.last_received_ns or None),
            "messages": feed.messages,
            "produced": publisher.acknowledged,
            "gaps": feed.gaps_found.total(),
            "reconnects": connection.reconnects.total(),
            "message": _sentence(feed, connection, publisher),
        }

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        if self._running is not None:
            self._count(*self._running)
            self._gauge(*self._running)
        return generate_latest()

    def _count(self, feed: Feed, connection: Connection, publisher: Publisher) -> None:
        venue = self._venue
        self._raise(metrics.FEED_PRODUCED, publisher.acknowledged, venue, feed.topic)
        self._raise(metrics.FEED_PRODUCE_ERRORS, publisher.failed, venue, feed.topic)
        self._raise(metrics.FEED_RECEIVED, feed.messages, venue)
        self._raise(metrics.FEED_MESSAGE_ERRORS, feed.unreadable + feed.oversized, venue)
        self._raise(metrics.FEED_PONG_TIMEOUTS, connection.pong_timeouts, venue)
        self._raise(metrics.SEQUENCE_GAP_MESSAGES, feed.ids_missing, venue)
        self._raise(metrics.OUT_OF_ORDER, feed.gaps.out_of_order, venue)
        self._raise(metrics.DUPLICATES, feed.gaps.duplicates, venue)
        for reason, count in connection.reconnects.items():
            self._raise(metrics.FEED_RECONNECTS, count, venue, reason)
        for (symbol, severity), count in feed.gaps_found.items():
            self._raise(metrics.SEQUENCE_GAPS, count, venue, symbol, severity)

    def _gauge(self, feed: Feed, connection: Connection, publisher: Publisher) -> None:  # noqa: ARG002  # as its twin
        venue, since_ns = self._venue, connection.connected_since_ns
        metrics.FEED_CONNECTED.labels(venue).set(since_ns is not None)
        age_s = (clock.now_ns() - since_ns) / NS_PER_SECOND if since_ns is not None else 0.0
        metrics.FEED_CONNECTION_LIFETIME.labels(venue).set(age_s)
        metrics.FEED_LAST_MESSAGE.labels(venue).set(feed.last_received_ns / NS_PER_SECOND)
        if feed.last_trade is not None:
            self._gauge_times(feed, *feed.last_trade)

    def _gauge_times(self, feed: Feed, received_ns: int, payload: bytes) -> None:
        try:
            trades = feed.venue.parse(payload)
        except MalformedFrame:
            return
        for trade in trades or ():
            if isinstance(trade, VenueTrade):
                lag_s = (received_ns - trade.event_us * NS_PER_US) / NS_PER_SECOND
                metrics.FEED_EVENT_LAG.labels(self._venue).set(lag_s)
                published_ns = (trade.published_us or 0) * NS_PER_US
                ahead_s = max(published_ns - received_ns, 0) / NS_PER_SECOND
                metrics.FEED_CLOCK_SKEW.labels(self._venue).set(ahead_s)

    def _raise(self, counter: Counter, total: int, *labels: str) -> None:
        """Bring a counter up to ``total``; what it was brought to before is remembered."""
        key = (str(counter), *labels)
        before = self._counted.get(key, 0)
        self._counted[key] = max(before, total)
        counter.labels(*labels).inc(max(total - before, 0))


def _sentence(feed: Feed, connection: Connection, publisher: Publisher) -> str:
    if publisher.full:
        return f"Kafka takes nothing at the moment ({publisher.trouble or 'its queue is full'}): reading has paused"
    if publisher.trouble:
        return f"{connection.message}; Kafka: {publisher.trouble}"
    if feed.last_received_ns and connection.connected_since_ns is not None:
        quiet_s = (clock.now_ns() - feed.last_received_ns) / NS_PER_SECOND
        return f"{connection.message}; the last frame came {quiet_s:.1f} s ago"
    return connection.message


def _iso(moment_ns: int | None) -> str | None:
    return None if moment_ns is None else clock.iso(clock.from_us(moment_ns // NS_PER_US))
