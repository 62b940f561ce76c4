"""One open WebSocket of a venue, from subscribing to its end: who was accepted, what was heard. It is not reopened."""

import asyncio
import re
from collections import deque
from collections.abc import Iterable, Set
from typing import Final

from websockets.exceptions import ConnectionClosed

from k2_core import clock
from k2_core.venues.replies import Reply, Subscription
from k2_core.venues.routing import CHANNELS, Data
from k2_core.venues.venue_protocol import Venue
from k2_feeds.socket.aliases import served_as
from k2_feeds.socket.backoff import Backoff
from k2_feeds.socket.pacing import Pace
from k2_feeds.socket.sink import Sink, Stream
from k2_feeds.socket.websockets import VenueSocket

ACKNOWLEDGE_S: Final = 10.0
PING_S: Final = 20.0
SAMPLED_FRAMES: Final = 32
_ASKED: Final = 6  # requests for a subscription that the venue does not answer, while it answers others
SETTLE_S: Final = 0.5  # for further answers to a request of which a part was refused
_FUTILE: Final = 40  # requests that were refused without a name, and none accepted: it is not the symbols
ASK_AGAIN_S: Final = (30.0, 600.0)  # for what was refused: some refusals pass, such as one of too many requests
_PONG_TIMEOUT: Final = "keepalive ping timeout"


class Session:
    """Subscribe over an open socket and take every frame, verbatim, until the connection ends.

    ``accepted`` maps subscriptions to the time (monotonic seconds) of their acknowledgement, ``refused`` to the venue's
    reason until it accepts them after all; ``missing`` are those without an answer. ``aliases`` are accepted ones that
    the venue serves under another name. ``sample`` holds the newest frames.
    """

    def __init__(
        self,
        venue: Venue,
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
        self.aliases: dict[Subscription, str] = {}
        self.settled = asyncio.Event()
        self._wanted, self._named = frozenset(self.missing), set[Subscription]()
        self._open, self._answered_all = set[Subscription](), asyncio.Event()  # of the last request
        self._unnamed = ""
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
        """Close the connection; what the venue sent before is still read."""
        if not self.reason:
            self.reason, self.text = reason, text
            self._closer = asyncio.ensure_future(self._socket.close())

    def believe_data(self, patience_s: float) -> None:
        """Accept subscriptions whose data comes, whether they were refused or not answered, under whatever name.

        A symbol for which nothing has come for ``patience_s`` may be served under its documented alias.
        """
        heard = self.stream.heard
        unanswered = *self.refused, *self.missing
        self._accept(tuple((data, symbol) for data, symbol in unanswered if (CHANNELS[data], symbol) in heard))
        long_ago = clock.monotonic() - patience_s
        for data, channel in CHANNELS.items():
            # Names that came are matched with lost symbols: those that have waited long enough with all names, and any
            # lost symbol with names that nobody asked for.
            asked = {symbol for kind, symbol in self._wanted if kind == data}
            names = {symbol for kind, symbol in heard if kind == channel}
            lost = asked - names
            waiting = {symbol for symbol in lost if self.accepted.get((data, symbol), long_ago) >= long_ago}
            self._alias(data, lost - waiting - self._symbols(self.refused, data), names)
            self._alias(data, lost & self._symbols({**self.missing, **self.accepted}, data), names - asked)
            for symbol in names:
                self.aliases.pop((data, symbol), None)

    async def _run(self) -> None:
        asking = asyncio.create_task(self._ask())
        pinging = asyncio.create_task(self._ping())
        try:
            await self._read()
        except ConnectionClosed as error:
            said = str(error) or type(error).__name__
            self.pong_timeout = _PONG_TIMEOUT in said
            if not self.reason:
                self.reason, self.text = "closed", f"the connection ended: {said}"
            self.stream.note("disconnect", reason=self.reason, text=self.text)
        finally:
            asking.cancel()
            pinging.cancel()
            self.stream.close()
            await asyncio.gather(asking, pinging, return_exceptions=True)

    async def _read(self) -> None:
        """Take frames until the connection is closed. ``recv`` does not yield while frames are waiting."""
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
                await sink.wait_until_accepted()

    async def _ask(self) -> None:
        """Subscribe, and again to what is not answered in time; close the connection if nothing is answered.

        Then subscribe to what was refused, each symbol by itself, now and then, until nothing is refused.
        """
        for data, symbol in self.missing:
            self.stream.note("subscribe", symbol, channel=data)
        try:
            fruitless = 0
            while self.missing and fruitless < _ASKED:
                before = len(self.missing)
                await self._ask_for(tuple(self.missing))
                if not self.accepted and not self.refused:
                    if self._unnamed:
                        self.close("refused", f"the venue refuses the subscription: {self._unnamed}")
                    else:
                        text = f"the subscription was not acknowledged within {ACKNOWLEDGE_S:g} s"
                        self.close("not_acknowledged", text)
                    return
                fruitless = 0 if len(self.missing) < before else fruitless + 1
            self._refuse(tuple(self.missing), f"no answer to {_ASKED} requests")
            pause = Backoff(*ASK_AGAIN_S)
            while self.refused:
                await asyncio.sleep(pause.delay_s())
                for symbol in dict.fromkeys(symbol for _, symbol in self.refused):
                    await self._request(tuple(each for each in self.refused if each[1] == symbol))
        except ConnectionClosed:
            return

    async def _ask_for(self, wanted: tuple[Subscription, ...]) -> None:
        """Subscribe to all of these; after a refusal that names none of them, to each half, down to single symbols.

        A symbol that is refused by itself counts as refused only if the venue accepts, or refuses by name, any other:
        else it refuses the connection, not the symbol.
        """
        # A binary search: an unnamed refusal of several symbols may mean any of them, one of a single symbol means it.
        groups, culprits = [wanted], dict[Subscription, str]()
        while groups and (len(culprits) < _FUTILE or self.accepted or self.refused):
            group = tuple(each for each in groups.pop() if each in self.missing)
            said = await self._request(group) if group else ""
            left = tuple(each for each in group if each in self.missing) if said else ()
            symbols = list(dict.fromkeys(symbol for _, symbol in left))
            if len(symbols) == 1:
                culprits |= dict.fromkeys(left, said)
            elif symbols:
                half = set(symbols[: len(symbols) // 2])
                groups.append(tuple(each for each in left if each[1] not in half))
                groups.append(tuple(each for each in left if each[1] in half))
        self._unnamed = next(iter(culprits.values()), "")
        if self.accepted or self.refused:
            for each, said in culprits.items():
                self._refuse((each,), said)

    async def _request(self, wanted: tuple[Subscription, ...]) -> str:
        """Subscribe, and wait for the answers; return the text of a refusal that names none of these, or nothing."""
        # One group for all kinds of data that have the same symbols.
        names: dict[Data, list[str]] = {}
        for data, symbol in wanted:
            names.setdefault(data, []).append(symbol)
        groups: dict[tuple[str, ...], list[Data]] = {}
        for data, symbols in names.items():
            groups.setdefault(tuple(symbols), []).append(data)
        frames = [frame for each, kinds in groups.items() for frame in self._venue.subscribe_frames(each, tuple(kinds))]
        self._open, self._unnamed = set(wanted), ""
        self._answered_all.clear()
        await self._send(frames)
        await self._answers_within(ACKNOWLEDGE_S)
        if self._unnamed and self._open:
            self._answered_all.clear()
            await self._answers_within(SETTLE_S)
        return self._unnamed

    async def _send(self, frames: list[bytes]) -> None:
        for frame in frames:
            await self._pace.wait()
            await self._socket.send(frame, text=True)

    async def _answers_within(self, seconds: float) -> None:
        """Wait until a request is answered, or a part of it is refused: the venue may then have refused all of it."""
        try:
            async with asyncio.timeout(seconds):
                await self._answered_all.wait()
        except TimeoutError:
            return

    async def _ping(self) -> None:
        """Send the venue's own ping, if it has one; the library sends WebSocket pings."""
        try:
            while self._venue.PING:
                await asyncio.sleep(PING_S)
                await self._send([self._venue.PING])
        except ConnectionClosed:
            return

    def _answered(self, reply: Reply | None) -> None:
        """Take an answer: it names its subscriptions, or names symbols in a text, or is about all open requests."""
        if reply is None:
            return
        if reply.accepted:
            # An acknowledgement may be of other names than were asked for: those may be aliases of open requests.
            self._named.update(reply.subscriptions)
            self._accept(reply.subscriptions or tuple(self._open))
            for data in dict.fromkeys(data for data, _ in reply.subscriptions):
                self._alias(data, self._symbols(self._open, data), self._symbols(self._named, data))
        elif any(each in self.missing or each in self.refused for each in reply.subscriptions):
            self._refuse(reply.subscriptions, reply.text)
        elif named := self._named_in(reply):
            news = any(each in self.missing for each in named) or not self._open.isdisjoint(named)
            self._refuse(named, reply.text)
            if news:
                self._answered_all.set()  # it may have refused the whole request because of one symbol
        elif self._open:
            self._unnamed = reply.text or "it gives no reason"
            self._answered_all.set()

    def _accept(self, subscriptions: tuple[Subscription, ...]) -> None:
        for each in subscriptions:
            if each in self.missing or each in self.refused:
                self.missing.pop(each, None)
                self.refused.pop(each, None)
                self.accepted[each] = clock.monotonic()
            self._open.discard(each)
            self.aliases.pop(each, None)
        self._settle()

    def _alias(self, data: Data, lost: Set[str], names: Set[str]) -> None:
        """Accept lost symbols that the venue serves under other names."""
        for symbol, other in served_as(self._venue, lost, names, self._symbols(self._wanted, data)).items():
            self._accept(((data, symbol),))
            self.aliases[data, symbol] = other

    def _symbols(self, subscriptions: Iterable[Subscription], data: Data) -> set[str]:
        return {symbol for kind, symbol in subscriptions if kind == data}

    def _refuse(self, subscriptions: tuple[Subscription, ...], text: str) -> None:
        for each in subscriptions:
            if self.aliases.pop(each, None):
                del self.accepted[each]
                self.refused[each] = text
            if each in self.missing:
                del self.missing[each]
                self.refused[each] = text
            self._open.discard(each)
        self._settle()

    def _settle(self) -> None:
        if not self._open:
            self._answered_all.set()
        if not self.missing and not self.settled.is_set():
            if self.accepted:
                self.stream.note("ack", symbols=",".join(dict.fromkeys(symbol for _, symbol in self.accepted)))
            self.settled.set()

    def _named_in(self, reply: Reply) -> tuple[Subscription, ...]:
        """Return the subscriptions whose symbols a refusal names in its text; they may have been refused before.

        Of several texts the one that names the fewest counts. A text that names the whole request only repeats it.
        """
        known = (*self.missing, *self.refused)
        whole = {each: re.compile(rf"(?<![\w/-]){re.escape(each[1])}(?![\w/-])", re.IGNORECASE) for each in known}
        found = []
        for text in reply.fields or (reply.text,):
            named = tuple(each for each in known if whole[each].search(text))
            several = len({symbol for _, symbol in named}) > 1
            if named and not (several and self._open.issubset(named)):
                found.append(named)
        return min(found, key=len, default=())
