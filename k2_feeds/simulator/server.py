"""The venues' server: one port with the WebSocket and the list of instruments of each venue at its own path."""

import asyncio
import contextlib
import json
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from k2_core import clock
from k2_core.errors import PartError
from k2_feeds.simulator import control
from k2_feeds.simulator.attribution import OF_VENUE, symbols_of
from k2_feeds.simulator.clients import POLICY_VIOLATION, Client, VenueConnection
from k2_feeds.simulator.dialects import venue_of_rest, venue_of_socket
from k2_feeds.simulator.faults import Fault
from k2_feeds.simulator.injection import GOING_AWAY, inject
from k2_feeds.simulator.market import Event
from k2_feeds.simulator.requests import Refused, Subscriptions
from k2_feeds.simulator.simulated_listings import VENUES, Listing
from k2_feeds.simulator.truth_log import Truth
from k2_feeds.simulator.venue import Venue

PING_EVERY_S: Final = 20.0
PONG_WITHIN_S: Final = 60.0
_BEAT_S: Final = 1.0
_NOT_FOUND: Final = b"there is /stream, /ws, /v2, / (WebSockets), and /status; see k2 feed simulate --help\n"


class Hub:
    """All venues and their clients."""

    def __init__(self, cut_after_s: float, listings: Iterable[Listing] = (), truth: Truth | None = None) -> None:
        self.truth = truth or Truth(None)
        found = list(listings)
        self.venues = {name: Venue(name, [each for each in found if each.venue == name], self.truth) for name in VENUES}
        self._cut_after_s = cut_after_s
        self._subscribed = asyncio.Event()
        self._change = asyncio.Event()
        self._injections: set[asyncio.Task[int]] = set()
        self._came = 0

    async def subscribed(self) -> None:
        """Wait until somebody is subscribed to something."""
        await self._subscribed.wait()

    async def change(self) -> None:
        """Wait until a client comes, asks for something or goes."""
        await self._change.wait()

    def publish(self, events: list[Event], now_us: int) -> None:
        """Let events of any venues happen; the truth is written before anybody hears of them."""
        for name, venue in self.venues.items():
            mine = [event for event in events if event.listing.venue == name]
            if mine:
                venue.publish(mine, now_us)

    async def sent(self) -> None:
        """Wait until every client has been sent what it was offered."""
        for venue in self.venues.values():
            for client in list(venue.clients):
                if isinstance(client, Client):
                    await client.sent()

    def inject(self, fault: Fault) -> asyncio.Task[int]:
        """Begin a fault; the task ends with it and tells to how many messages or clients it happened."""
        task = asyncio.get_running_loop().create_task(inject(self.venues[fault.venue], fault))
        self._injections.add(task)
        task.add_done_callback(self._injections.discard)
        return task

    async def beat(self) -> None:
        """Send heartbeats and flush the truth until cancelled."""
        while True:
            await asyncio.sleep(_BEAT_S)
            now = clock.monotonic()
            for venue in self.venues.values():
                now_us = clock.now_us() + venue.skew_us
                for client in list(venue.clients):
                    idle = isinstance(client, Client) and now - client.said_at >= _BEAT_S
                    client.offer(client.session.beat(now_us, idle))
            self.truth.flush()

    async def handle(self, socket: ServerConnection) -> None:
        """Serve one client until it goes, or its time is up."""
        assert socket.request is not None  # noqa: S101  # the handshake is over
        path = urlsplit(socket.request.path).path
        if path == control.PATH:
            with contextlib.suppress(ConnectionClosed):  # the asker need not wait for the answer
                await control.serve(socket, self.inject)
            return
        name = venue_of_socket(path)
        assert name is not None  # noqa: S101  # others were refused
        venue = self.venues[name]
        client = Client(socket, venue.dialect.session(socket.request.path, venue.board))
        await self._serve(venue, client)

    async def _serve(self, venue: Venue, client: Client) -> None:
        number = self._came = self._came + 1
        venue.clients.add(client)
        venue.truth.fault(venue.name, "client_came", client=number)
        client.offer(client.session.greeting(clock.now_us() + venue.skew_us))
        self._changed()
        tasks = [
            asyncio.create_task(each) for each in (client.send_pending(), self._cut(client), _hurry(venue, client))
        ]
        try:
            limit = venue.dialect.REQUESTS_A_SECOND
            asked: deque[float] = deque(maxlen=limit)
            async for message in client.socket:
                now = clock.monotonic()
                if limit is not None and len(asked) == limit and now - asked[0] < 1:
                    await client.socket.close(POLICY_VIOLATION, "Too many requests")
                    return
                asked.append(now)
                client.offer(client.session.answer(message, clock.now_us() + venue.skew_us))
                self._changed()
        except ConnectionClosed:
            return
        finally:
            venue.clients.discard(client)
            self._changed()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # What waited for the client is lost to it. Of a recording, frames of symbols are counted: its status says
            # how many were not sent.
            if venue.board.recorded:
                found = (symbols_of(OF_VENUE[venue.name](frame), frame) for frame in client.unsent)
                venue.unsent += sum(map(bool, found))
            venue.truth.fault(venue.name, "client_left", client=number, unsent=len(client.unsent))

    async def _cut(self, client: Client) -> None:
        await asyncio.sleep(self._cut_after_s)
        client.close(GOING_AWAY, "connections live that long at most")

    def _changed(self) -> None:
        if any(venue.subscribers() for venue in self.venues.values()):
            self._subscribed.set()
        else:
            self._subscribed.clear()
        self._change.set()  # wakes those who wait now, and nobody who waits later
        self._change.clear()


async def _hurry(venue: Venue, client: Client) -> None:
    """End a connection that does not subscribe within the venue's time."""
    seconds = venue.dialect.SUBSCRIBE_WITHIN_S
    if seconds is not None:
        await asyncio.sleep(seconds)
        if not client.session.subscribed:
            client.close(POLICY_VIOLATION, "nothing was subscribed to")


async def serve_venue(hub: Hub, port: int, status: Callable[[], dict[str, Any]]) -> Server:
    """Serve all venues, and ``status()`` as JSON at /status, on 127.0.0.1.

    Raises:
        PartError: the port is taken.
    """

    def page(_socket: ServerConnection, request: Request) -> Response | None:
        path = urlsplit(request.path).path
        if path == "/status":
            return _page(200, "OK", "application/json", json.dumps(status()).encode())
        return _venue_page(hub, path, request)

    try:
        return await serve(
            hub.handle,
            "127.0.0.1",
            port,
            process_request=page,
            compression=None,
            ping_interval=PING_EVERY_S,
            ping_timeout=PONG_WITHIN_S,
            close_timeout=2,
            max_size=64 * 1024,
            create_connection=VenueConnection,
        )
    except OSError as error:
        msg = f"port {port} cannot be used ({error.strerror}): end what uses it, or choose another with --port."
        raise PartError(msg) from None


def _venue_page(hub: Hub, path: str, request: Request) -> Response | None:
    """Answer for a venue: its list of instruments, a refusal, or None to go on with the WebSocket's handshake."""
    listed, spoken = venue_of_rest(path), venue_of_socket(path)
    venue = hub.venues.get(listed or spoken or "")
    if venue is None:
        return None if path == control.PATH else _page(404, "Not Found", "text/plain", _NOT_FOUND)
    # While the venue limits requests, it refuses handshakes as well as its list, and says for how long.
    limited_s = venue.limited_until - clock.monotonic()
    if limited_s > 0:
        response = _page(429, "Too Many Requests", "application/json", b'{"code":-1003,"msg":"Too many requests"}')
        response.headers["Retry-After"] = str(math.ceil(limited_s))
        return response
    if listed:
        body = venue.dialect.instruments(venue.board.listings.values(), clock.now_us() + venue.skew_us)
        return _page(200, "OK", "application/json", body)
    if spoken == "binance":  # whose URL may name streams: bad ones are refused before the handshake
        try:
            Subscriptions(request.path)
        except Refused as refused:
            return _page(400, "Bad Request", "text/plain", refused.message.encode())
    return None


def _page(status: int, reason: str, content_type: str, body: bytes) -> Response:
    headers = Headers({"Content-Type": content_type, "Content-Length": str(len(body)), "Connection": "close"})
    return Response(status, reason, headers, body)
