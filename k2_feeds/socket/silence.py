"""Notice that a channel which the venue acknowledged brings nothing. Pure, but for the clock."""

from typing import Final

from k2_core import clock
from k2_core.clock import NS_PER_SECOND
from k2_core.venues.replies import Subscription
from k2_core.venues.routing import CHANNELS, Data
from k2_feeds.socket.session import Session

_LONGEST: Final = 16  # times the patience of the settings, for a market that is quiet by nature


class Silence:
    """Watch the channels of one lane of connections.

    A channel is silent when none of its symbols brought anything for ``patience_s``. A new connection then shows
    whether it was the connection or the market: while the channel stays as quiet, each next silence takes twice as
    long to be one. Only what is heard ends a silence: neither a reconnect, nor the snapshot that comes of subscribing.
    """

    def __init__(self, patience_s: float) -> None:
        self.silent: dict[Data, str] = {}
        self._first_s = patience_s
        self._patience_s: dict[Data, float] = {}
        self._fell_on: dict[Data, Session] = {}

    def broken(self, session: Session) -> bool:
        """Tell whether the connection is to be renewed because a channel has become silent on it, and is so still."""
        for data, channel in CHANNELS.items():
            quiet_s = _quiet_s(session, data, channel)
            if quiet_s is None:
                if session.settled.is_set():
                    self._end(session, data)
            elif quiet_s > self._patience_s.get(data, self._first_s):
                self._fall_silent(session, data, quiet_s)
            elif quiet_s < self._first_s:
                self._spoke(session, data, channel)
        return any(self._fell_on.get(data) is session for data in self.silent)

    def brings(self, session: Session, subscription: Subscription) -> bool:
        """Tell whether something of a subscription was heard within the patience of the settings."""
        data, symbol = subscription
        heard_ns = session.stream.heard.get((CHANNELS[data], symbol))
        return heard_ns is not None and (clock.now_ns() - heard_ns) / NS_PER_SECOND <= self._first_s

    def end(self, session: Session) -> None:
        """End all silences, since nothing is wanted any more."""
        for data in CHANNELS:
            self._end(session, data)

    def _fall_silent(self, session: Session, data: Data, quiet_s: float) -> None:
        text = f"the venue acknowledged {data} and has sent none for {quiet_s:.0f} s"
        if data not in self.silent:
            session.stream.note("silence", channel=data, text=text)
        self.silent[data], self._fell_on[data] = text, session
        longest_s = self._first_s * _LONGEST
        self._patience_s[data] = min(self._patience_s.get(data, self._first_s) * 2, longest_s)

    def _spoke(self, session: Session, data: Data, channel: str) -> None:
        heard_ns = _heard_ns(session, channel)
        if heard_ns is None:
            return
        self._end(session, data)
        if (heard_ns - session.opened_ns) / NS_PER_SECOND > self._first_s:
            self._patience_s.pop(data, None)

    def _end(self, session: Session, data: Data) -> None:
        if self.silent.pop(data, None):
            session.stream.note("recovered", state="silence", channel=data)


def _quiet_s(session: Session, data: Data, channel: str) -> float | None:
    """Return for how long a channel has brought nothing; None when it need not."""
    since = [at for (kind, _), at in session.accepted.items() if kind == data]
    if not since:
        return None
    heard_ns = _heard_ns(session, channel)
    acknowledged_s = clock.monotonic() - max(since)
    return acknowledged_s if heard_ns is None else min(acknowledged_s, (clock.now_ns() - heard_ns) / NS_PER_SECOND)


def _heard_ns(session: Session, channel: str) -> int | None:
    return max((at for (heard, _), at in session.stream.heard.items() if heard == channel), default=None)
