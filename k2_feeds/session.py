"""One open WebSocket of a venue, from subscribing to its end: who was accepted, what was heard. It is not reopened."""

import asyncio
import re
from collections import deque
from collections.abc import Iterable
from types import ModuleType
from typing import Final

from websockets.exceptions import ConnectionClosed

from k2_core import clock
from k2_core.venues.replies import Reply, Subscription
from k2_core.venues.routing import CHANNELS, Data
from k2_feeds.backoff import Backoff
from k2_feeds.pacing import Pace
from k2_feeds.sink import Sink, Stream
from k2_feeds.sockets import VenueSocket

ACKNOWLEDGE_S: Final = 10.0
PING_S: Final = 20.0
SAMPLED_FRAMES: Final = 32
_ASKED: Final = 6  # times that one asks for a subscription which the venue does not answer, while it answers others
ASK_AGAIN_S: Final = (30.0, 600.0)  # for what was refused: a refusal may pass, as one for too many requests does
_PONG_TIMEOUT: Final = "keepalive ping timeout"


class Session:
    """Subscribe over an open socket and take every frame, verbatim, until the connection ends.

    ``accepted`` says since when (monotonic seconds) the venue acknowledges a subscription, ``refused`` what it says of
    one that it does not have, until it accepts it after all; ``missing`` are those that it has not answered. ``sample``
    holds the newest frames.
    """

    def __init__(
        self,
        venue: ModuleType,
        socket: VenueSocket,
        wanted: Iterable[Subscription],
        *,
        sink: Sink,
        stream: Stream,
        connection_id: str,
        pace: Pace,
    ) -> None:
        self.connection_id = connection_id
        self.stream = stream
        self.opened_at, self.opened_ns = clock.monotonic(), clock.now_ns()
        self.missing = dict.fromkeys(wanted)
        self.accepted: dict[Subscription, float] = {}
        self.refused: dict[Subscription, str] = {}
        self.settled = asyncio.Event()
        self._shrunk = asyncio.Event()
        self.ending = False
        self.renew_at = float("inf")
        self.reason = self.text = ""
        self.pong_timeout = False
        self.sample: deque[tuple[int, bytes]] = deque(maxlen=SAMPLED_FRAMES)
        self._venue, self._socket, self._sink, self._pace = venue, socket, sink, pace
        self._closer: asyncio.Future[None] | None = None
        self.task = asyncio.create_task(self._run())

    @property
    def over(self) -> bool:
        """Whether all that came has been taken, and nothing will come any more."""
        return self.task.done()

    @property
    def quiet_s(self) -> float:
        """For how long the venue has said nothing at all, pings included."""
        return clock.monotonic() - self._socket.heard_at

    def close(self, reason: str, text: str) -> None:
        """Ask for the end of the connection; what was sent before it is still read."""
        if not self.reason:
            self.reason, self.text = reason, text
            self._closer = asyncio.ensure_future(self._socket.close())

    def believe_data(self) -> None:
        """Take a subscription that brings data for accepted, whatever was said of it."""
        heard = self.stream.heard
        self._accept(tuple((data, symbol) for data, symbol in self.refused if (CHANNELS[data], symbol) in heard))

    async def _run(self) -> None:
        asking = asyncio.create_task(self._ask())
        pinging = asyncio.create_task(self._ping())
        try:
            await self._read()
        except ConnectionClosed as error:
            self._lost(str(error) or type(error).__name__)
        finally:
            asking.cancel()
            pinging.cancel()
            self.stream.close()
            await asyncio.gather(asking, pinging, return_exceptions=True)

    async def _read(self) -> None:
        """Take frames until the connection is closed. ``recv`` does not yield while frames are at hand."""
        recv, take, now_ns, sink = self._socket.recv, self.stream.take, clock.now_ns, self._sink
        keep, missing, refused, mark = self.sample.append, self.missing, self.refused, self._venue.ENDING
        while True:
            payload = await recv(decode=False)
            received_ns = now_ns()
            take(received_ns, payload)
            keep((received_ns, payload))
            if missing or refused:
                self._answered(self._venue.reply_of(payload))
            if mark and mark in payload:
                self.ending = True
            if sink.full:
                await sink.room()

    async def _ask(self) -> None:
        """Subscribe, and again to what is not answered in time; give the connection up when nothing is answered."""
        for data, symbol in self.missing:
            self.stream.note("subscribe", symbol, channel=data)
        try:
            for _ in range(_ASKED):
                self._shrunk.clear()
                await self._send(self._frames(self.missing))
                await self._answers_within(ACKNOWLEDGE_S)
                if not self.missing:
                    break
                if not self.accepted and not self.refused:
                    self.close("not_acknowledged", f"the subscription was not acknowledged within {ACKNOWLEDGE_S:g} s")
                    return
            self._refuse(tuple(self.missing), f"no answer to {_ASKED} requests")
            await self._ask_again()
        except ConnectionClosed:
            return

    async def _ask_again(self) -> None:
        """Subscribe to what was refused, now and then, until nothing is."""
        pause = Backoff(*ASK_AGAIN_S)
        while self.refused:
            await asyncio.sleep(pause.delay_s())
            await self._send(self._frames(self.refused))

    def _frames(self, wanted: Iterable[Subscription]) -> list[bytes]:
        """Return what subscribes to all that is wanted, each kind of data with its own symbols."""
        names: dict[Data, list[str]] = {}
        for data, symbol in wanted:
            names.setdefault(data, []).append(symbol)
        symbols: dict[tuple[str, ...], list[Data]] = {}
        for data, each in names.items():
            symbols.setdefault(tuple(each), []).append(data)
        return [
            frame for group, kinds in symbols.items() for frame in self._venue.subscribe_frames(group, tuple(kinds))
        ]

    async def _send(self, frames: list[bytes]) -> None:
        for frame in frames:
            await self._pace.wait()
            await self._socket.send(frame, text=True)

    async def _answers_within(self, seconds: float) -> None:
        """Wait until nothing is missing, or the venue has refused a part of a request and so perhaps all of it."""
        try:
            async with asyncio.timeout(seconds):
                await self._shrunk.wait()
        except TimeoutError:
            return

    async def _ping(self) -> None:
        """Ask the venue for a sign of life in its own way, where it has one; WebSocket's pings are the library's."""
        try:
            while self._venue.PING:
                await asyncio.sleep(PING_S)
                await self._send([self._venue.PING])
        except ConnectionClosed:
            return

    def _answered(self, reply: Reply | None) -> None:
        if reply is None:
            return
        if reply.accepted:
            self._accept(reply.subscriptions or tuple(self.missing))
        elif reply.subscriptions:
            self._refuse(reply.subscriptions, reply.text)
        elif named := self._named_in(reply.text):
            self._refuse(named, reply.text)
            self._shrunk.set()  # it may have refused the whole request for the sake of one symbol
        elif self.missing:
            self.close("refused", f"the venue refuses the subscription: {reply.text}")

    def _accept(self, subscriptions: tuple[Subscription, ...]) -> None:
        for each in subscriptions:
            if each in self.missing or each in self.refused:
                self.missing.pop(each, None)
                self.refused.pop(each, None)
                self.accepted[each] = clock.monotonic()
        self._settle()

    def _refuse(self, subscriptions: tuple[Subscription, ...], text: str) -> None:
        for each in subscriptions:
            if each in self.missing:
                del self.missing[each]
                self.refused[each] = text
        self._settle()

    def _settle(self) -> None:
        if not self.missing and not self.settled.is_set():
            if self.accepted:
                self.stream.note("ack", symbols=",".join(dict.fromkeys(symbol for _, symbol in self.accepted)))
            self.settled.set()
            self._shrunk.set()

    def _named_in(self, text: str) -> tuple[Subscription, ...]:
        """Return what a refusal is about that names symbols only in its text; it may have been refused before."""
        words = set(re.split(r"[\s,;:'\"()\[\]]+", text.upper()))
        return tuple(each for each in (*self.missing, *self.refused) if each[1].upper() in words)

    def _lost(self, said: str) -> None:
        self.pong_timeout = _PONG_TIMEOUT in said
        if not self.reason:
            self.reason, self.text = "closed", f"the connection ended: {said}"
        self.stream.note("disconnect", reason=self.reason, text=self.text)
