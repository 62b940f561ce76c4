"""Notice that a channel which the venue acknowledged sends nothing. Pure, but for the clock."""

from typing import Final

from k2_core import clock
from k2_core.clock import NS_PER_SECOND
from k2_core.venues.replies import Subscription
from k2_core.venues.routing import CHANNELS, Data
from k2_feeds.socket.session import Session

_LONGEST: Final = 16  # times the patience of the settings, for a market that is quiet by nature


class Silence:
    """Watch the channels of one lane of connections.

    A channel is silent when nothing came for any of its symbols for ``patience_s``. A new connection then shows whether
    the connection or the market is quiet: while the channel stays quiet, each further silence takes twice as long.
    Only data ends a silence: neither a reconnect nor the snapshot that answers a subscription does.
    """

    def __init__(self, patience_s: float) -> None:
        self.silent: dict[Data, str] = {}
        self._first_s = patience_s
        self._patience_s: dict[Data, float] = {}
        self._fell_on: dict[Data, Session] = {}

    def broken(self, session: Session) -> bool:
        """Tell whether the connection is to be renewed because a channel has become silent on it, and still is."""
        for data, channel in CHANNELS.items():
            heard_ns = max((at for (heard, _), at in session.stream.heard.items() if heard == channel), default=None)
            since = [at for (kind, _), at in session.accepted.items() if kind == data]
            patience_s = self._patience_s.get(data, self._first_s)
            # Quiet since its acknowledgement, or since it was heard if that is later.
            quiet_s = clock.monotonic() - max(since) if since else 0.0
            if heard_ns is not None:
                quiet_s = min(quiet_s, (clock.now_ns() - heard_ns) / NS_PER_SECOND)
            if not since:  # nothing is acknowledged; once all is answered nothing is expected either
                if session.settled.is_set():
                    self._end(session, data)
            elif quiet_s > patience_s:
                text = f"the venue acknowledged {data} and has sent none for {quiet_s:.0f} s"
                if data not in self.silent:
                    session.stream.note("silence", channel=data, text=text)
                self.silent[data], self._fell_on[data] = text, session
                self._patience_s[data] = min(patience_s * 2, self._first_s * _LONGEST)
            elif quiet_s < self._first_s and heard_ns is not None:
                self._end(session, data)
                # Data right after the connect may be late snapshots. Later data shows that the market is awake.
                if (heard_ns - session.opened_ns) / NS_PER_SECOND > self._first_s:
                    self._patience_s.pop(data, None)
        return any(self._fell_on.get(data) is session for data in self.silent)

    def brings(self, session: Session, subscription: Subscription) -> bool:
        """Tell whether data of a subscription came within the patience of the settings."""
        data, symbol = subscription
        heard_ns = session.stream.heard.get((CHANNELS[data], symbol))
        return heard_ns is not None and (clock.now_ns() - heard_ns) / NS_PER_SECOND <= self._first_s

    def end(self, session: Session) -> None:
        """End all silences, since no symbol is fed any more."""
        for data in CHANNELS:
            self._end(session, data)

    def _end(self, session: Session, data: Data) -> None:
        if self.silent.pop(data, None):
            session.stream.note("recovered", state="silence", channel=data)
