"""Whom a recording is played to: which feeds it waits for, and how many of its frames reached nobody."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from k2_core import clock
from k2_core.logs import logger
from k2_core.settings import Feeds
from k2_feeds.simulator.attribution import REPLY
from k2_feeds.simulator.board import Message
from k2_feeds.simulator.dialects import DIALECTS
from k2_feeds.simulator.server import Hub

WITHIN_S: Final = 60.0
_PAUSE_S: Final = 1.0
_NAMED: Final = 3
_UNATTRIBUTED: Final = "frames without a symbol"
_log = logger(__name__)

Streams = Mapping[str, frozenset[str]]
"""Streams by venue."""


def fed_streams(symbols: Mapping[str, Iterable[str]], feeds: Feeds) -> dict[str, frozenset[str]]:
    """Return the streams that the feed of each venue subscribes to when it is given these symbols."""
    found = {}
    for venue, names in symbols.items():
        wanted = feeds.of(venue).trades, feeds.of(venue).quotes
        kinds = [zip(wanted, DIALECTS[venue].streams(name), strict=True) for name in names]
        found[venue] = frozenset(stream for pairs in kinds for fed, (stream,) in pairs if fed)
    return found


class Audience:
    """The feeds of a recording's venues.

    Each venue is waited for until the subscriptions to its ``fed`` streams are answered, accepted or refused, but at
    most ``within_s`` from the first of them all. Unless ``wait_for_all``, it is enough that each venue has some, and
    that nobody has asked for more for a second: whoever listens may want a part of the recording only.

    While nobody has a subscription answered, playing would lose all, so it waits; after ``within_s`` that is trouble.
    """

    def __init__(self, fed: Streams, *, wait_for_all: bool = False, within_s: float = WITHIN_S) -> None:
        self._fed = {venue: streams for venue, streams in fed.items() if streams}
        self._wait_for_all, self._within_s = wait_for_all, within_s
        self._missing: Streams = {}
        self._given_up: dict[str, frozenset[str]] = dict.fromkeys(self._fed, frozenset())
        self._late: dict[str, frozenset[str]] = {}
        self._overdue = False  # nobody is here at all, and has not been for within_s
        self._unheard = Counter[str]()
        self._unheard_streams: dict[str, Counter[str]] = defaultdict(Counter)
        self._hub: Hub | None = None

    async def gather(self, hub: Hub) -> None:
        """Wait for the feeds, as long as they are to be waited for; for ever while none of them is here."""
        self._hub = hub
        if not self._fed:
            await hub.subscribed()
        deadline, anybody = clock.monotonic() + self._within_s, False
        # The time to wait begins when the first feed comes, and again when the last has gone. Without any feed it only
        # makes this overdue. With feeds it ends the waiting for what is missing; once every venue has some of its
        # streams, a second without a change does so as well.
        while True:
            # What was given up is not waited for again while it stays away; once it was here it is, should it leave.
            absent = {venue: streams - hub.venues[venue].answered() for venue, streams in self._fed.items()}
            self._given_up = {venue: streams & absent[venue] for venue, streams in self._given_up.items()}
            missing = {venue: streams - self._given_up[venue] for venue, streams in absent.items()}
            self._missing = {venue: streams for venue, streams in missing.items() if streams}
            if not self._missing:
                break
            here, now = [venue for venue in self._fed if hub.venues[venue].answered()], clock.monotonic()
            if anybody != bool(here):
                deadline, anybody, self._overdue = now + self._within_s, bool(here), False
            enough = len(here) == len(self._fed) and not self._wait_for_all
            left_s = min(deadline - now, _PAUSE_S) if enough else deadline - now
            try:
                async with asyncio.timeout(None if self._overdue else left_s):
                    await hub.change()
            except TimeoutError:
                self._give_up(late=not enough, waits=not anybody)
        self._overdue = False

    def count(self, venue: str, messages: Iterable[Message]) -> None:
        """Count recorded messages that nobody is subscribed to; answers to the recorder are nobody's."""
        streams = self._unheard_streams[venue]
        for message in messages:
            if message.streams != REPLY:
                self._unheard[venue] += 1
                streams.update(message.streams or (_UNATTRIBUTED,))

    def waits_for(self) -> str:
        """Say which feeds are waited for; nothing when none is."""
        return " and ".join(f"{venue} ({len(streams)} not answered)" for venue, streams in self._missing.items())

    def status(self) -> dict[str, Any]:
        """Return what GET /status says: missing and unheard, by venue, and trouble when a feed has lost something."""
        # Frames that reached nobody are a loss where the venue's feed would have taken them.
        lost = any(
            not streams.keys().isdisjoint({*self._fed.get(venue, ()), _UNATTRIBUTED})
            for venue, streams in self._unheard_streams.items()
        )
        return {
            "missing": {venue: sorted(streams) for venue, streams in self._not_in_time().items()},
            "unheard": dict(self._unheard),
            "unheard_streams": {venue: dict(streams) for venue, streams in self._unheard_streams.items() if streams},
            "unsent": self._unsent(),
            "trouble": bool(self._not_in_time() or self._unsent()) or lost,
        }

    def sentences(self) -> list[str]:
        """Say what went wrong: feeds that were not there in time, frames that reached nobody."""
        counts = {
            venue: [f"{stream} {count:,}" for stream, count in streams.most_common()]
            for venue, streams in self._unheard_streams.items()
        }
        return [
            *(
                f"the feed of {venue} had not subscribed to {_some(sorted(streams))} within {self._within_s:g} s:"
                " see its log"
                for venue, streams in self._not_in_time().items()
            ),
            *(
                f"{frames:,} frames of {venue} reached nobody ({_some(counts[venue])})"
                for venue, frames in self._unheard.items()
            ),
            *(
                f"{frames:,} frames of {venue} were not sent yet when their connection ended"
                for venue, frames in self._unsent().items()
            ),
        ]

    def _give_up(self, *, late: bool, waits: bool) -> None:
        """Go on without what is missing, until it comes after all; only say what is while playing ``waits``."""
        for venue, streams in self._missing.items() if late else ():
            said = "a feed has not subscribed yet" if waits else "a feed was not waited for any longer"
            _log.warning(said, venue=venue, missing=_some(sorted(streams)), within_s=self._within_s)
        if waits:
            self._overdue = True
            return
        for venue, streams in self._missing.items():
            self._given_up[venue] |= streams
            if late:
                self._late[venue] = self._late.get(venue, frozenset()) | streams
        self._missing = {}

    def _not_in_time(self) -> Streams:
        """Return what was not subscribed to in time, by venue; while nobody is here, all that is missing."""
        absent = self._missing if self._overdue else {}
        return {
            venue: self._late.get(venue, frozenset()) | absent.get(venue, frozenset())
            for venue in dict.fromkeys((*self._late, *absent))
        }

    def _unsent(self) -> dict[str, int]:
        venues = self._hub.venues if self._hub else {}
        return {name: venue.unsent for name, venue in venues.items() if venue.unsent}


def _some(names: list[str]) -> str:
    more = [f"and {len(names) - _NAMED:,} more"] if len(names) > _NAMED else []
    return ", ".join([*names[:_NAMED], *more])
