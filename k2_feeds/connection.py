"""One WebSocket to one venue, for ever: connect, subscribe, read, and begin again. Knows neither Kafka nor files."""

import asyncio
import uuid
from collections import Counter
from types import ModuleType
from typing import Final

from websockets.exceptions import ConnectionClosed, WebSocketException

from k2_core import clock
from k2_core.logs import logger
from k2_core.settings import Feeds
from k2_feeds.backoff import Backoff
from k2_feeds.sink import Sink, Stream
from k2_feeds.sockets import VenueSocket, dial

ACKNOWLEDGE_S: Final = 10.0
_WATCH_S: Final = 0.2
_PONG_TIMEOUT: Final = "keepalive ping timeout"
_log = logger(__name__)


class Connection:
    """Keep one venue connected until :meth:`stop`.

    Args:
        venue: the venue's module of ``k2_core.venues``.
        base_url: ``wss://host:port``; the venue module knows the path.
        symbols: the venue's own symbols.
        settings: back-off, silence and rotation.
        sink: where frames and events go.
    """

    def __init__(self, venue: ModuleType, base_url: str, symbols: tuple[str, ...], settings: Feeds, sink: Sink) -> None:
        self.url: str = venue.stream_url(base_url)
        self.symbols = symbols
        self.connected_since_ns: int | None = None
        self.reconnects: Counter[str] = Counter()
        self.pong_timeouts = 0
        self.message = f"not connected yet to {self.url}"
        self._venue, self._settings, self._sink = venue, settings, sink
        self._backoff = Backoff(settings.backoff_first_s, settings.backoff_last_s)
        self._stop = asyncio.Event()
        self._closing = ""
        self._stream: Stream

    def stop(self) -> None:
        """Close the connection; :meth:`run` returns when all that had arrived was taken."""
        self._stop.set()

    async def run(self) -> None:
        """Connect, read and reconnect until :meth:`stop`."""
        while not self._stop.is_set():
            socket = await self._open()
            if socket is not None:
                await self._use(socket)
            if not self._stop.is_set():
                await self._pause()
        self.message = "stopped"

    async def _open(self) -> VenueSocket | None:
        """Open the WebSocket; None when it cannot be, or the feed is stopped meanwhile."""
        attempt = asyncio.ensure_future(dial(self.url))
        stopped = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({attempt, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        attempt.cancel()  # does nothing to an attempt that is done
        try:
            return await attempt
        except asyncio.CancelledError:
            return None
        except (OSError, TimeoutError, WebSocketException) as error:
            self._end("unreachable", f"{self.url} cannot be reached: {_spell(error)}")
            return None

    async def _use(self, socket: VenueSocket) -> None:
        self._closing = ""
        self._stream = stream = self._sink.open(str(uuid.uuid4()))
        self.connected_since_ns = clock.now_ns()
        self.message = f"connected to {self.url}, not yet subscribed"
        self._stream.note("connect", url=self.url)
        watch = asyncio.create_task(self._watch(socket))
        try:
            await self._subscribe(socket)
            await self._read(socket)
        except ConnectionClosed as error:
            self._lost(error)
        finally:
            watch.cancel()
            stream.close()
            self.connected_since_ns = None

    async def _subscribe(self, socket: VenueSocket) -> None:
        """Send the subscriptions and take frames until the venue has acknowledged all of them."""
        frames = self._venue.subscribe_frames(self.symbols)
        for frame in frames:
            await socket.send(frame, text=True)
        self._stream.note("subscribe", symbols=",".join(self.symbols), frames=str(len(frames)))
        deadline = asyncio.get_running_loop().call_later(ACKNOWLEDGE_S, self._unacknowledged, socket)
        missing = len(frames)
        try:
            while missing:
                payload = await self._take_one(socket)
                reply = self._venue.reply_of(payload)
                missing -= reply is not None and reply.accepted
        finally:
            deadline.cancel()
        self._backoff.reset()
        self.message = f"connected to {self.url}"
        self._stream.note("ack", symbols=",".join(self.symbols))

    async def _read(self, socket: VenueSocket) -> None:
        """Take frames until the connection is closed. ``recv`` does not yield while frames are at hand."""
        recv, take, now_ns, sink = socket.recv, self._stream.take, clock.now_ns, self._sink
        while True:
            payload = await recv(decode=False)
            take(now_ns(), payload)
            if sink.full:
                await sink.room()

    async def _take_one(self, socket: VenueSocket) -> bytes:
        payload = await socket.recv(decode=False)
        self._stream.take(clock.now_ns(), payload)
        if self._sink.full:
            await self._sink.room()
        return payload

    async def _watch(self, socket: VenueSocket) -> None:
        """Close the connection when the feed stops, the venue is silent, or its time is up."""
        opened = clock.monotonic()
        while not await self._stopped_within(_WATCH_S):
            now = clock.monotonic()
            if not self._sink.full and now - socket.heard_at > self._settings.silence_s:
                self._close(socket, "silence")
                return
            if now - opened > self._settings.rotate_after_s:
                self._close(socket, "rotation")
                return
        self._close(socket, "stop")

    def _unacknowledged(self, socket: VenueSocket) -> None:
        self._close(socket, "not_acknowledged")

    def _close(self, socket: VenueSocket, reason: str) -> None:
        """Ask for the end of the connection; the reader goes on until everything sent before has been read."""
        self._closing = self._closing or reason
        self._closer = asyncio.ensure_future(socket.close())

    def _lost(self, error: ConnectionClosed) -> None:
        said = _spell(error)
        if _PONG_TIMEOUT in said:
            self.pong_timeouts += 1
        reason = self._closing or "closed"
        texts = {
            "silence": f"nothing was heard for {self._settings.silence_s:g} s",
            "rotation": f"planned renewal after {self._settings.rotate_after_s:g} s",
            "not_acknowledged": f"the subscription was not acknowledged within {ACKNOWLEDGE_S:g} s",
            "stop": "the feed stops",
        }
        self._end(reason, texts.get(reason, f"the connection to {self.url} ended: {said}"))
        self._stream.note("disconnect", reason=reason, text=self.message)

    def _end(self, reason: str, text: str) -> None:
        self.message = text
        if not self._stop.is_set():
            self.reconnects[reason] += 1
            _log.warning("reconnecting", reason=reason, text=text, url=self.url)

    async def _pause(self) -> None:
        """Wait before the next attempt; a planned renewal waits for nothing."""
        if self._closing == "rotation":
            self._closing = ""
            return
        delay_s = self._backoff.delay_s()
        self.message = f"{self.message}; next attempt in {delay_s:.1f} s"
        await self._stopped_within(delay_s)

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True


def _spell(error: BaseException) -> str:
    return str(error) or type(error).__name__
