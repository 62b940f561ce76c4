"""Look at a running feed every second and report what is wrong: silence, staleness, clocks, holes, refusals."""

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Final

from k2_core import clock
from k2_core.errors import MalformedFrame
from k2_core.quotes import VenueQuote
from k2_core.settings import Feeds
from k2_core.trades import VenueTrade
from k2_core.venues.replies import Subscription
from k2_core.venues.routing import CHANNELS, is_snapshot
from k2_feeds.feed import Feed
from k2_feeds.health.fault_states import States, Wrong
from k2_feeds.health.lateness import Lateness, Sample
from k2_feeds.socket.fleet import Fleet
from k2_feeds.socket.listed_symbols import Listed
from k2_feeds.socket.session import Session

LOOK_S: Final = 1.0
_SYMBOL_PATIENCE: Final = 5  # times that of a whole channel: one symbol may well be quiet for a while
SEQUENCE_S: Final = 300.0


class Watch:
    """Judge one venue's feed."""

    def __init__(self, feed: Feed, fleet: Fleet, listed: Listed, settings: Feeds) -> None:
        self.states = States(feed)
        self.lateness = Lateness(settings.stale_after_s, settings.skew_s)
        self._feed, self._fleet, self._listed = feed, fleet, listed
        self._refused: dict[Subscription, str] = {}
        self._aliases: dict[Subscription, str] = {}
        self._silent_since_ns: dict[Subscription, int] = {}
        self._symbol_silence_s = settings.silence_s * _SYMBOL_PATIENCE
        self._breaks = deque([(clock.monotonic(), 0)])

    async def run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Take the frames that connections have sampled since the last look, and update the states."""
        for sample in [each.session.sample for each in self._fleet.connections if each.session]:
            for received_ns, payload in tuple(sample):
                if not is_snapshot(payload):
                    self._see(received_ns, payload)
            sample.clear()
        now_ns, states, refused = clock.now_ns(), self.states, self._refusals()
        self.lateness.keep({each[1] for _, each in self._wanted() if each not in self._refused})
        states.hold("stale", self.lateness.stale())
        states.hold("lag", self.lateness.lagging(now_ns))
        states.hold("skew", self.lateness.skewed(now_ns))
        states.hold("alias", self._served_as())
        silent: Wrong = {
            ("", f"{data} {number}"): text
            for number, connection in enumerate(self._fleet.connections)
            for data, text in connection.silence.silent.items()
        }
        states.hold("silence", silent, scope="connections", begins=False, ends=False)  # connections publish the events
        states.hold("silence", self._silent_symbols(now_ns), scope="symbols")
        states.hold("refused", refused)
        # Totals of jumps with their times: the oldest kept one is the last before the window.
        now, total = clock.monotonic(), self._feed.gaps_found.total() + self._feed.sequence_breaks
        if self._breaks[-1][1] != total:
            self._breaks.append((now, total))
        while len(self._breaks) > 1 and self._breaks[1][0] < now - SEQUENCE_S:
            self._breaks.popleft()
        recent = total - self._breaks[0][1]
        text = f"ids or counters have jumped {recent} times within {SEQUENCE_S / 60:.0f} minutes"
        states.hold("sequence", {("", ""): text} if recent else {}, begins=False)  # each gap and break has an event

    def _see(self, received_ns: int, payload: bytes) -> None:
        venue = self._feed.venue
        for parse in (venue.parse, venue.parse_quotes):  # a frame of quotes is an unknown event to the first
            try:
                found = parse(payload) or ()
            except MalformedFrame:
                continue
            for item in found:
                if isinstance(item, VenueTrade | VenueQuote) and item.event_us is not None:
                    self.lateness.see(Sample(item.venue_symbol, received_ns, item.event_us, item.published_us))
            return

    def _silent_symbols(self, now_ns: int) -> Wrong:
        """Return what is acknowledged and has sent nothing for long, though the market may be quiet."""
        before_ns, self._silent_since_ns = self._silent_since_ns, {}
        found: Wrong = {}
        for session, each in self._wanted():
            if each in self._aliases:
                continue
            (data, symbol), since_ns = each, before_ns.get(each)
            # A reconnect alone does not end a silence: it lasts while a new connection is not acknowledged, or has
            # brought nothing yet.
            heard_ns = session.stream.heard.get((CHANNELS[data], symbol)) if session is not None else None
            if session is not None and each in session.accepted and (heard_ns is not None or since_ns is None):
                accepted_ns = now_ns - int((clock.monotonic() - session.accepted[each]) * clock.NS_PER_SECOND)
                since_ns = max(accepted_ns, heard_ns or 0)
                if (now_ns - since_ns) / clock.NS_PER_SECOND <= self._symbol_silence_s:
                    since_ns = None
            elif session is not None and each in session.refused:
                since_ns = None
            if since_ns is not None:
                self._silent_since_ns[each] = since_ns
                quiet_s = (now_ns - since_ns) / clock.NS_PER_SECOND
                found[symbol, data] = f"{data} of {symbol} were acknowledged and none has come for {quiet_s:.0f} s"
        return found

    def _wanted(self) -> Iterator[tuple[Session | None, Subscription]]:
        """Yield all subscriptions that are wanted, each with its present connection."""
        for connection in self._fleet.connections:
            for each in connection.wanted:
                yield connection.session, each

    def _refusals(self) -> Wrong:
        """Return what is refused, until it is accepted: a reconnect does not change that."""
        for connection in self._fleet.connections:
            if connection.session is not None:
                self._refused |= connection.session.refused
                for each in connection.session.accepted:
                    self._refused.pop(each, None)
        name = self._feed.venue.VENUE
        found: Wrong = {
            (symbol, data): f"{name} refuses {data} of {symbol}: {text}; the other symbols are fed"
            for (data, symbol), text in self._refused.items()
        }
        for symbol in sorted(self._listed.unlisted):
            found[symbol, ""] = self._listed.sentence_of(symbol)
        return found

    def _served_as(self) -> Wrong:
        """Return what is served under another name, until it comes under its own: a reconnect does not change it."""
        for session, each in self._wanted():
            if session is not None and each in session.aliases:
                self._aliases[each] = session.aliases[each]
            elif session is not None and (
                each in session.refused or (CHANNELS[each[0]], each[1]) in session.stream.heard
            ):
                self._aliases.pop(each, None)
        name = self._feed.venue.VENUE
        return {
            (symbol, ""): f"{name} serves {symbol} as {other}: it is stored under the symbol of {other}"
            for (_, symbol), other in self._aliases.items()
        }
