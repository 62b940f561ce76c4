"""One connected client of a simulated venue: sending without waiting for the slow, and ending badly on demand."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from k2_core import clock
from k2_feeds.simulator.board import Session

MAX_PENDING: Final = 200_000
POLICY_VIOLATION: Final = 1008
_SEND_FRAMES: Final = 2_000
_ABORT_AFTER_S: Final = 2.0


class VenueConnection(ServerConnection):
    """A server connection that hands all waiting frames to the kernel at once."""

    def send_data(self) -> None:
        """Write what the protocol has to send."""
        writes = self.protocol.data_to_send()
        if len(writes) > 1 and all(writes):
            self.transport.write(b"".join(writes))
            return
        self.protocol.writes = writes
        super().send_data()


class Client:
    """What is offered to a client waits here, up to a bound; then it is cut off as too slow."""

    def __init__(self, socket: ServerConnection, session: Session) -> None:
        self.socket = socket
        self.session = session
        self.said_at = clock.monotonic()
        self.unsent: list[bytes] = []
        self._pending: deque[bytes] = deque()
        self._offered = asyncio.Event()
        self._sent = asyncio.Event()
        self._sent.set()
        self._breaks, self._stalls_s = False, 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def offer(self, frames: Iterable[bytes]) -> None:
        """Queue frames for sending, in order."""
        before = len(self._pending)
        self._pending.extend(frames)
        if len(self._pending) > before:
            self.said_at = clock.monotonic()
            self._sent.clear()
            self._offered.set()

    def break_mid_frame(self) -> None:
        """End the TCP connection after half of the next frame's bytes."""
        self._breaks = True

    def stall(self, seconds: float) -> None:
        """Send nothing for so long, then cut the client off as too slow."""
        self._stalls_s = seconds
        self._offered.set()

    def close(self, code: int, reason: str) -> None:
        """Close the connection, without waiting for it."""
        task = asyncio.get_running_loop().create_task(self.socket.close(code, reason))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def sent(self) -> None:
        """Wait until all that was offered has gone to the kernel, or the connection has ended."""
        await self._sent.wait()

    async def send_pending(self) -> None:
        """Send what is offered until the connection ends."""
        try:
            while True:
                await self._offered.wait()
                if self._stalls_s:
                    await asyncio.sleep(self._stalls_s)
                if self._stalls_s or len(self._pending) > MAX_PENDING:
                    await self.socket.close(POLICY_VIOLATION, "too slow")
                    return
                if self._breaks and self._pending:
                    # Half a frame, and the end of the stream; if the client does not read it, a reset soon after.
                    frame = Frame(Opcode.TEXT, self._pending.popleft()).serialize(mask=False)
                    self.socket.transport.write(frame[: len(frame) // 2])
                    self.socket.transport.close()
                    asyncio.get_running_loop().call_later(_ABORT_AFTER_S, self.socket.transport.abort)
                    return
                # In portions: at the end of each, the context waits until the client's buffer takes more.
                async with self.socket.send_context():
                    for _ in range(min(_SEND_FRAMES, len(self._pending))):
                        self.socket.protocol.send_text(self._pending.popleft())
                if not self._pending:
                    self._offered.clear()
                    self._sent.set()
        except ConnectionClosed:
            return
        finally:
            self.unsent = list(self._pending)
            self._pending.clear()
            self._sent.set()
