"""Keep some symbols of a venue connected: connect, reconnect, and renew with overlap. Knows no Kafka."""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Awaitable
from typing import Final

from websockets.exceptions import WebSocketException

from k2_core import clock
from k2_core.logs import logger
from k2_core.settings import Feeds
from k2_core.venues.replies import Subscription
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue
from k2_feeds.socket.backoff import Backoff
from k2_feeds.socket.pacing import Paces
from k2_feeds.socket.session import Session
from k2_feeds.socket.silence import Silence
from k2_feeds.socket.sink import Sink
from k2_feeds.socket.websockets import RateLimited, VenueSocket, dial

_LOOK_S: Final = 0.2
_STEADY_S: Final = 5.0  # a connection that lived so long begins the back-off again
_EARLIEST: Final = 0.9  # of the age at which a connection is renewed, so that not all are at once
_log = logger(__name__)


class Connection:
    """Keep some symbols of one venue connected until :meth:`stop`.

    A renewal overlaps: the next connection is opened and acknowledged before the present one is closed. Both feed the
    same sink meanwhile, so that nothing is missed. If the next one cannot be opened, the present one goes on.

    Args:
        venue: whose symbols they are.
        base_url: ``wss://host:port``; the venue knows the path.
        symbols: the venue's own symbols; :meth:`want` changes them.
        data: trades, quotes or both.
        settings: back-off, silence and rotation.
        sink: where frames and events go.
        paces: the venue's limits, shared by all its connections.
        heeds_silence: whether a silent channel is a failure; the sink must then keep ``heard``.
    """

    def __init__(
        self,
        venue: Venue,
        base_url: str,
        symbols: tuple[str, ...],
        settings: Feeds,
        sink: Sink,
        *,
        data: tuple[Data, ...] = ("trades",),
        paces: Paces | None = None,
        heeds_silence: bool = True,
    ) -> None:
        self.url = venue.stream_url(base_url)
        self.symbols, self.data = symbols, data
        self.session: Session | None = None
        self.reconnects: Counter[str] = Counter()
        self.rotations: Counter[str] = Counter()
        self.pong_timeouts = 0
        self.message = f"not connected yet to {self.url}"
        self.silence = Silence(settings.silence_s if heeds_silence else float("inf"))
        self._venue, self._settings, self._sink = venue, settings, sink
        self._paces = paces or Paces(venue.LIMITS)
        self._backoff = Backoff(settings.backoff_first_s, settings.backoff_last_s)
        self._renewal = Backoff(settings.backoff_first_s, settings.backoff_last_s)
        self._renew_not_before = 0.0
        self._stop, self._wanted_changed = asyncio.Event(), False
        self._leaving: set[Session] = set()

    @property
    def connected_since_ns(self) -> int | None:
        """When the present connection was opened; None without one."""
        return None if self.session is None or self.session.over else self.session.opened_ns

    @property
    def acknowledged(self) -> bool:
        """Whether the venue has answered all subscriptions of the present connection."""
        return self.session is not None and not self.session.over and self.session.settled.is_set()

    @property
    def wanted(self) -> tuple[Subscription, ...]:
        return tuple((data, symbol) for data in self.data for symbol in self.symbols)

    def want(self, symbols: tuple[str, ...]) -> None:
        """Feed these symbols from now on, by a renewal with overlap."""
        if set(symbols) != set(self.symbols):
            self.symbols, self._wanted_changed = symbols, True

    def stop(self) -> None:
        """Close the connection; :meth:`run` returns when all frames that had arrived are taken."""
        self._stop.set()

    async def run(self) -> None:
        """Connect, read, renew and reconnect until :meth:`stop`."""
        while not self._stop.is_set():
            if self.session is None:
                self.session = await self._begin()
            if self.session is None:
                await self._pause()
            else:
                await self._serve(self.session)
        for session in {*self._leaving, *([self.session] if self.session else [])}:
            session.close("stop", "the feed stops")
            await asyncio.wait({session.task})
            session.task.result()
        self.message = "stopped"

    async def _serve(self, session: Session) -> None:
        """Watch the present connection until it has ended, another has taken its place, or the feed stops."""
        while not self._stop.is_set() and session is self.session:
            await asyncio.wait({session.task}, timeout=_LOOK_S)
            if session.over:
                self._ended(session)
                self.session = None
                await self._pause()
                return
            if not session.settled.is_set():
                self.message = f"connected to {self.url}, not yet subscribed"
            elif session.accepted:
                self.message = f"connected to {self.url}"
            else:
                self.message = f"connected to {self.url}, which has none of the symbols"
            await self._look(session)

    async def _look(self, session: Session) -> None:
        """Close a connection that is dead; renew one that is about to end, silent, old or has other symbols to feed."""
        if not self._sink.full and session.quiet_s > self._settings.silence_s:
            text = f"nothing was heard for {self._settings.silence_s:g} s"
            session.stream.note("silence", text=text)
            session.close("silence", text)
            return
        if not self.symbols:
            self.silence.end(session)
            session.close("symbols", "the venue lists none of its symbols any more")
            return
        session.believe_data(self._settings.silence_s)
        if session.ending:
            reason = "shutdown"
        elif self._wanted_changed:
            reason = "symbols"
        elif not self._sink.full and self.silence.broken(session):
            reason = "silence"
        elif clock.monotonic() > session.renew_at:
            reason = "rotation"
        else:
            return
        if clock.monotonic() >= self._renew_not_before:
            await self._renew(session, reason)

    async def _renew(self, session: Session, reason: str) -> None:
        """Replace this connection by another one, without a gap between them."""
        successor = await self._begin()
        if successor is not None:
            # Wait until the successor is acknowledged, by an answer or by data, or there is nothing to wait for.
            while not (successor.settled.is_set() or successor.over or session.over or self._stop.is_set()):
                await self._first_of(asyncio.sleep(_LOOK_S), successor.settled.wait(), successor.task, session.task)
                successor.believe_data(self._settings.silence_s)
            # A session that has ended cannot be better than a successor that is open, whatever that one lacks. Beside
            # one that goes on, the successor must have all of its subscriptions that are still wanted. If the session
            # is silent, it need not have what the venue refuses it, unless that still comes.
            lacks = (session.accepted.keys() & set(self.wanted)) - successor.accepted.keys()
            if reason == "silence":
                lacks -= {each for each in successor.refused if not self.silence.brings(session, each)}
            if not successor.over and (session.over or (successor.settled.is_set() and not lacks)):
                # The old connection is closed, but read to its end: both bring the same trades meanwhile, and gold
                # keeps one.
                text = f"connection {successor.connection_id} has taken over"
                self.session = successor
                self._renewal.reset()
                if session.over:  # it ended before its successor was ready
                    self._ended(session)
                    return
                session.stream.note("rotation", reason=reason, successor=successor.connection_id, text=text)
                self.rotations[reason] += 1
                self._leave(session, reason, text)
                return
            self._leave(successor, "not_acknowledged", "the present connection goes on")
            self._wanted_changed = reason == "symbols"
        self._renew_not_before = clock.monotonic() + self._renewal.delay_s()
        _log.warning("a connection could not be renewed yet", reason=reason, url=self.url, text=self.message)

    def _leave(self, session: Session, reason: str, text: str) -> None:
        """Close a connection that another one replaces; frames sent before are taken in the background."""
        session.close(reason, text)
        self._leaving.add(session)
        session.task.add_done_callback(lambda _: self._leaving.discard(session))

    async def _first_of(self, *awaited: Awaitable[object]) -> None:
        """Wait for the first of these, or for the feed to stop; only tasks go on."""
        stopped = asyncio.ensure_future(self._stop.wait())
        futures = {asyncio.ensure_future(each): each for each in awaited}
        await asyncio.wait({stopped, *futures}, return_when=asyncio.FIRST_COMPLETED)
        for future, given in {**futures, stopped: None}.items():
            if future is not given:
                future.cancel()

    async def _begin(self) -> Session | None:
        """Open a connection and begin to subscribe; None if it cannot be opened, or the feed is stopped meanwhile."""
        if not self.symbols:
            return None
        attempt = asyncio.ensure_future(self._dial())
        await self._first_of(attempt)
        attempt.cancel()  # does nothing to an attempt that is done
        try:
            return self._opened(await attempt)
        except asyncio.CancelledError:
            return None
        except RateLimited as error:
            self._paces.attempts.hold(error.retry_after_s)
            self._failed("rate_limited", f"{self.url} cannot be reached: {error}")
        except (OSError, TimeoutError, WebSocketException) as error:
            self._failed("unreachable", f"{self.url} cannot be reached: {str(error) or type(error).__name__}")
        return None

    async def _dial(self) -> VenueSocket:
        await self._paces.attempts.wait()
        return await dial(self.url, self._settings.ca_file)

    def _opened(self, socket: VenueSocket) -> Session:
        self._wanted_changed = False
        connection_id = str(uuid.uuid4())
        stream = self._sink.open(connection_id)
        source = {"source": self._settings.source} if self._settings.source else {}
        stream.note("connect", url=self.url, **source)
        session = Session(
            self._venue,
            socket,
            self.wanted,
            sink=self._sink,
            stream=stream,
            connection_id=connection_id,
            pace=self._paces.messages,
        )
        age_s = self._settings.rotate_after_s * random.uniform(_EARLIEST, 1)  # noqa: S311  # no cryptography
        session.renew_at = session.opened_at + age_s
        return session

    def _ended(self, session: Session) -> None:
        session.task.result()
        self.pong_timeouts += session.pong_timeout
        # Only a connection that worked for a while resets the back-off: a venue may accept and close at once.
        if session.settled.is_set() and clock.monotonic() - session.opened_at > _STEADY_S:
            self._backoff.reset()
        self._failed(session.reason, session.text)

    def _failed(self, reason: str, text: str) -> None:
        self.message = text
        if not self._stop.is_set():
            self.reconnects[reason] += 1
            _log.warning("reconnecting", reason=reason, text=text, url=self.url)

    async def _pause(self) -> None:
        """Wait before the next attempt, at least as long as the venue asked for."""
        delay_s = _LOOK_S
        if self.symbols:
            delay_s = max(self._backoff.delay_s(), self._paces.attempts.held_until - clock.monotonic())
            self.message = f"{self.message}; next attempt in {delay_s:.1f} s"
        try:
            async with asyncio.timeout(delay_s):
                await self._stop.wait()
        except TimeoutError:
            return
