"""What ``/health`` reports of feeds: JSON for programs, sentences for people."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from k2_core import clock
from k2_core.clock import NS_PER_SECOND, NS_PER_US
from k2_feeds.feed import Feed
from k2_feeds.health.watch import Watch
from k2_feeds.socket.fleet import Fleet, Source

_COUNTS: Final = ("messages", "produced", "gaps", "reconnects")
_SAID_AT_MOST: Final = 3


class Running(NamedTuple):
    """The parts of one venue's feed."""

    feed: Feed
    fleet: Fleet
    watch: Watch
    refused: Counter[str]
    """How many values Kafka has refused for good, by topic."""


class VenueHealth:
    """The state of one venue's feed, from before its first connection."""

    def __init__(self, source: Source) -> None:
        self.venue: str = source.venue.VENUE
        self.message = "starting"
        self.running: Running | None = None
        """The feed to report, once it runs."""
        self._source = source

    def waits(self, text: str) -> None:
        """Report what the feed waits for before it can begin."""
        self.running, self.message = None, text

    def snapshot(self) -> dict[str, Any]:
        """Return the state; times are RFC 3339."""
        source = self._source
        base = {"venue": self.venue, "url": source.venue.stream_url(source.url), "symbols": list(source.symbols)}
        if self.running is None:
            times = {"connected_since": None, "last_message_at": None}
            return {**base, "connected": False, **times, **dict.fromkeys(_COUNTS, 0), "message": self.message}
        feed, fleet, watch, _ = self.running
        since_ns = [each.connected_since_ns for each in fleet.connections if each.connected_since_ns is not None]
        return {
            **base,
            "data": list(source.data),
            "connected": fleet.connected,
            "connected_since": _iso(min(since_ns, default=None)),
            "last_message_at": _iso(feed.last_received_ns or None),
            "messages": feed.messages,
            "produced": feed.publisher.acknowledged,
            "gaps": feed.gaps_found.total(),
            "reconnects": fleet.reconnects.total(),
            "dropped": feed.drops.total,
            "states": watch.states.texts,
            "connections": [
                {
                    "symbols": list(each.symbols),
                    "connected_since": _iso(each.connected_since_ns),
                    "acknowledged": each.acknowledged,
                    "silent": each.silence.silent,
                    "message": each.message,
                }
                for each in fleet.connections
            ],
            "message": _sentence(feed, fleet, watch),
        }


def snapshot(venues: Sequence[VenueHealth]) -> dict[str, Any]:
    """Return the state of all venues of a process: of each venue, and above them totals."""
    found = {each.venue: each.snapshot() for each in venues}
    one = len(found) == 1
    messages = [state["message"] if one else f"{venue}: {state['message']}" for venue, state in found.items()]
    return {
        "connected": all(state["connected"] for state in found.values()),
        "message": " | ".join(messages),
        "symbols": [symbol for state in found.values() for symbol in state["symbols"]],
        **{name: sum(state[name] for state in found.values()) for name in _COUNTS},
        "venues": found,
    }


def _sentence(feed: Feed, fleet: Fleet, watch: Watch) -> str:
    publisher = feed.publisher
    if publisher.full:
        return f"Kafka takes nothing at the moment ({publisher.trouble or 'its queue is full'}): reading has paused"
    said = [fleet.message]
    if publisher.away:
        said.append(f"{publisher.away_because}: frames are dropped")
    elif publisher.trouble:
        said.append(f"Kafka: {publisher.trouble}")
    elif feed.last_received_ns and fleet.connected:
        quiet_s = (clock.now_ns() - feed.last_received_ns) / NS_PER_SECOND
        said.append(f"the last frame came {quiet_s:.1f} s ago")
    texts = [text for each in watch.states.texts.values() for text in each]
    more = [f"and {len(texts) - _SAID_AT_MOST} more"] if len(texts) > _SAID_AT_MOST else []
    return "; ".join([*said, *texts[:_SAID_AT_MOST], *more])


def _iso(moment_ns: int | None) -> str | None:
    return None if moment_ns is None else clock.iso(clock.from_us(moment_ns // NS_PER_US))
