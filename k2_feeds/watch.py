"""Look at a running feed every second and say what is wrong with it: silence, staleness, clocks, holes, refusals."""

import asyncio
from collections import deque
from typing import Final

from k2_core import clock
from k2_core.errors import MalformedFrame
from k2_core.quotes import VenueQuote
from k2_core.settings import Feeds
from k2_core.trades import VenueTrade
from k2_core.venues.replies import Subscription
from k2_feeds.feed import Feed
from k2_feeds.fleet import Fleet
from k2_feeds.lateness import Lateness, Sample
from k2_feeds.listed import Listed
from k2_feeds.silence import CHANNELS
from k2_feeds.states import States, Wrong

LOOK_S: Final = 1.0
_SNAPSHOT: Final = b'"snapshot"'  # in the head of what a venue repeats when one subscribes
_HEAD_BYTES: Final = 256
_SYMBOL_PATIENCE: Final = 5  # times that of a whole channel: one symbol may well be quiet for a while
SEQUENCE_S: Final = 300.0


class Watch:
    """Judge one venue's feed."""

    def __init__(self, feed: Feed, fleet: Fleet, listed: Listed, settings: Feeds) -> None:
        self.states = States(feed)
        self.lateness = Lateness(settings.stale_after_s, settings.skew_s)
        self._feed, self._fleet, self._listed = feed, fleet, listed
        self._refused: dict[Subscription, str] = {}
        self._symbol_silence_s = settings.silence_s * _SYMBOL_PATIENCE
        self._breaks = deque([(clock.monotonic(), 0)])

    async def run(self) -> None:
        """Look every second, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Take what came since the last look, and bring the states up to date."""
        self._sample()
        now_ns, states = clock.now_ns(), self.states
        states.hold("stale", self.lateness.stale())
        states.hold("lag", self.lateness.lagging(now_ns))
        states.hold("skew", self.lateness.skewed(now_ns))
        states.hold("silence", self._silent(), scope="connections", begins=False, ends=False)  # they tell of it
        states.hold("silence", self._silent_symbols(now_ns), scope="symbols")
        states.hold("refused", self._refusals())
        states.hold("sequence", self._sequence(clock.monotonic()), begins=False)  # each gap and break has an event

    def _sample(self) -> None:
        for connection in self._fleet.connections:
            sample = connection.session.sample if connection.session else ()
            for received_ns, payload in tuple(sample):
                if _SNAPSHOT not in payload[:_HEAD_BYTES]:
                    self._see(received_ns, payload)
            if sample:
                sample.clear()

    def _see(self, received_ns: int, payload: bytes) -> None:
        venue = self._feed.venue
        for parse in (venue.parse, venue.parse_quotes):
            try:
                found = parse(payload) or ()
            except MalformedFrame:
                continue
            for item in found:
                if isinstance(item, VenueTrade | VenueQuote) and item.event_us is not None:
                    self.lateness.see(Sample(item.venue_symbol, received_ns, item.event_us, item.published_us))
            return

    def _silent(self) -> Wrong:
        return {
            ("", f"{data} {number}"): text
            for number, connection in enumerate(self._fleet.connections)
            for data, text in connection.silence.silent.items()
        }

    def _silent_symbols(self, now_ns: int) -> Wrong:
        """Return what is acknowledged and has brought nothing for long, though it may be the market that is quiet."""
        found: Wrong = {}
        now = clock.monotonic()
        for connection in self._fleet.connections:
            session = connection.session
            for (data, symbol), since in session.accepted.items() if session else ():
                heard_ns = session.stream.heard.get((CHANNELS[data], symbol)) if session else None
                quiet_s = now - since if heard_ns is None else (now_ns - heard_ns) / clock.NS_PER_SECOND
                if quiet_s > self._symbol_silence_s and now - since > self._symbol_silence_s:
                    found[symbol, data] = f"{data} of {symbol} were acknowledged and none has come for {quiet_s:.0f} s"
        return found

    def _refusals(self) -> Wrong:
        """Return what is refused, until it is accepted: a reconnect does not make it well."""
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

    def _sequence(self, now: float) -> Wrong:
        """Return a sentence while ids or counters have jumped within the last minutes."""
        total = self._feed.gaps_found.total() + self._feed.sequence_breaks
        if self._breaks[-1][1] != total:
            self._breaks.append((now, total))
        while len(self._breaks) > 1 and self._breaks[1][0] < now - SEQUENCE_S:
            self._breaks.popleft()
        recent = total - self._breaks[0][1]
        if not recent:
            return {}
        return {("", ""): f"ids or counters have jumped {recent} times within {SEQUENCE_S / 60:.0f} minutes"}
