"""Open a venue's WebSocket: sizes, TLS, proxies, and when the venue was last heard. Subscribes to nothing."""

import ssl
from typing import Final
from urllib.parse import urlsplit

import certifi
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidURI
from websockets.frames import PONG, Frame
from websockets.protocol import Event

from k2_core import clock
from k2_core.errors import SettingsError

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
_OPEN_S: Final = 10.0
_CLOSE_S: Final = 2.0
_QUEUED_FRAMES: Final = 4096


class VenueSocket(ClientConnection):
    """A client connection that remembers when the venue last said anything of its own accord, pings included."""

    heard_at = 0.0

    def process_event(self, event: Event) -> None:
        """Take one event of the library's protocol."""
        if not isinstance(event, Frame) or event.opcode is not PONG:
            self.heard_at = clock.monotonic()
        super().process_event(event)


async def dial(url: str) -> VenueSocket:
    """Open the WebSocket at ``url``; loopback is never asked for through a proxy.

    Raises:
        SettingsError: ``url`` is not one of a WebSocket.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "wss"
    context = ssl.create_default_context(cafile=certifi.where()) if secure else None
    at_home = parts.hostname in {"127.0.0.1", "localhost", "::1"}
    try:
        socket = await connect(
            url,
            compression=None,
            open_timeout=_OPEN_S,
            close_timeout=_CLOSE_S,
            max_size=MAX_MESSAGE_BYTES,
            max_queue=_QUEUED_FRAMES,
            proxy=None if at_home else True,
            create_connection=VenueSocket,
            ssl=context,
        )
    except InvalidURI as error:
        msg = f"{url} is not a WebSocket URL, such as wss://stream.binance.com:9443: {error}."
        raise SettingsError(msg) from None
    assert isinstance(socket, VenueSocket)  # noqa: S101  # create_connection made it
    socket.heard_at = clock.monotonic()
    return socket
