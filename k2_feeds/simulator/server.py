"""The venue's sockets: who is connected, what each subscribed to, and sending without waiting for the slow."""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from k2_core import clock
from k2_core.errors import PartError
from k2_core.logs import logger
from k2_feeds.simulator.requests import Refused, Subscriptions

PING_EVERY_S: Final = 20.0
PONG_WITHIN_S: Final = 60.0
REQUESTS_A_SECOND: Final = 5
MAX_PENDING: Final = 200_000
_POLICY_VIOLATION: Final = 1008
_GOING_AWAY: Final = 1001
_SEND_FRAMES: Final = 2_000
_log = logger(__name__)


class _Socket(ServerConnection):
    """A server connection that hands all waiting frames to the kernel at once."""

    def send_data(self) -> None:
        writes = self.protocol.data_to_send()
        if len(writes) > 1 and all(writes):
            self.transport.write(b"".join(writes))
            return
        self.protocol.writes = writes
        super().send_data()


class Client:
    """One connected client. What is offered to it waits here, up to a bound; then it is cut off as too slow."""

    def __init__(self, socket: ServerConnection, subscriptions: Subscriptions) -> None:
        self.socket = socket
        self.subscriptions = subscriptions
        self._pending: deque[bytes] = deque()
        self._offered = asyncio.Event()
        self._sent = asyncio.Event()
        self._sent.set()

    def offer(self, frames: Iterable[bytes]) -> None:
        """Queue frames for sending, in order."""
        self._pending.extend(frames)
        if self._pending:
            self._sent.clear()
            self._offered.set()

    async def sent(self) -> None:
        """Wait until all that was offered has gone to the kernel, or the connection has ended."""
        await self._sent.wait()

    async def send_pending(self) -> None:
        """Send what is offered until the connection ends."""
        try:
            while True:
                await self._offered.wait()
                if len(self._pending) > MAX_PENDING:
                    await self.socket.close(_POLICY_VIOLATION, "too slow")
                    return
                await self._send_some()
        except ConnectionClosed:
            return
        finally:
            self._pending.clear()
            self._sent.set()

    async def _send_some(self) -> None:
        async with self.socket.send_context():
            for _ in range(min(_SEND_FRAMES, len(self._pending))):
                self.socket.protocol.send_text(self._pending.popleft())
        if not self._pending:
            self._offered.clear()
            self._sent.set()


class Hub:
    """All clients of the venue."""

    def __init__(self, cut_after_s: float) -> None:
        self.clients: set[Client] = set()
        self._cut_after_s = cut_after_s
        self._subscribed = asyncio.Event()

    async def subscribed(self) -> None:
        """Wait until somebody is subscribed to something."""
        await self._subscribed.wait()

    def subscribers(self) -> list[Client]:
        """Return the clients that are subscribed to something."""
        return [client for client in self.clients if client.subscriptions.streams]

    async def sent(self) -> None:
        """Wait until every client has been sent what it was offered."""
        for client in list(self.clients):
            await client.sent()

    async def handle(self, socket: ServerConnection) -> None:
        """Serve one client until it goes, or its time is up."""
        assert socket.request is not None  # noqa: S101  # the handshake is over
        client = Client(socket, Subscriptions(socket.request.path))
        self.clients.add(client)
        self._changed()
        sender = asyncio.create_task(client.send_pending())
        cut = asyncio.create_task(self._cut(socket))
        try:
            await self._answer(client)
        except ConnectionClosed:
            return
        finally:
            self.clients.discard(client)
            self._changed()
            sender.cancel()
            cut.cancel()
            await asyncio.gather(sender, cut, return_exceptions=True)

    async def _answer(self, client: Client) -> None:
        asked: deque[float] = deque(maxlen=REQUESTS_A_SECOND)
        async for message in client.socket:
            now = clock.monotonic()
            if len(asked) == REQUESTS_A_SECOND and now - asked[0] < 1:
                await client.socket.close(_POLICY_VIOLATION, "Too many requests")
                return
            asked.append(now)
            client.offer([client.subscriptions.answer(message)])
            self._changed()

    async def _cut(self, socket: ServerConnection) -> None:
        await asyncio.sleep(self._cut_after_s)
        await socket.close(_GOING_AWAY, "connections live that long at most")

    def _changed(self) -> None:
        if self.subscribers():
            self._subscribed.set()
        else:
            self._subscribed.clear()


async def serve_venue(hub: Hub, port: int, status: Callable[[], dict[str, Any]]) -> Server:
    """Serve WebSockets at /stream and /ws, and ``status()`` as JSON at /status, on 127.0.0.1.

    Raises:
        PartError: the port is taken.
    """

    def page(_socket: ServerConnection, request: Request) -> Response | None:
        path = urlsplit(request.path).path
        if path == "/status":
            return _page(200, "OK", "application/json", json.dumps(status()).encode())
        if path in {"/stream", "/ws"} or path.startswith("/ws/"):
            return _refuse_bad_streams(request.path)
        return _page(404, "Not Found", "text/plain", b"there is /stream, /ws and /status\n")

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
            create_connection=_Socket,
        )
    except OSError as error:
        msg = f"port {port} cannot be used ({error.strerror}): end what uses it, or choose another with --port."
        raise PartError(msg) from None


def _refuse_bad_streams(path: str) -> Response | None:
    try:
        Subscriptions(path)
    except Refused as refused:
        return _page(400, "Bad Request", "text/plain", refused.message.encode())
    return None


def _page(status: int, reason: str, content_type: str, body: bytes) -> Response:
    headers = Headers({"Content-Type": content_type, "Content-Length": str(len(body)), "Connection": "close"})
    return Response(status, reason, headers, body)


def deliver(hub: Hub, frames: Sequence[tuple[str | None, bytes]]) -> None:
    """Offer frames byte for byte to whoever subscribed to their stream; those without a stream to every subscriber."""
    for client in hub.subscribers():
        streams = client.subscriptions.streams
        client.offer(frame for stream, frame in frames if stream is None or stream in streams)
