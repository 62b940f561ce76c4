"""Open a venue's WebSocket: sizes, TLS, proxies, and when the venue was last heard. Subscribes to nothing."""

import ssl
from pathlib import Path
from typing import Final

import certifi
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.frames import PONG, Frame
from websockets.protocol import Event

from k2_core import clock
from k2_core.errors import SettingsError
from k2_core.proxies import proxy_for
from k2_core.retry_after import seconds_of
from k2_core.urls import split_url

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
_OPEN_S: Final = 10.0
_CLOSE_S: Final = 2.0
_QUEUED_FRAMES: Final = 4096
PING_EVERY_S: Final = 20.0
PONG_WITHIN_S: Final = 20.0


_TOO_MANY: Final = {418, 429, 503}  # Binance answers 418 to whoever did not listen to its 429
_RETRY_AFTER_S: Final = 5.0  # where the venue does not say


class RateLimited(Exception):  # not an error: the venue says when to come again
    """The venue refuses an attempt because there were too many."""

    def __init__(self, status: int, retry_after: str | None) -> None:
        wanted_s = seconds_of(retry_after)
        self.retry_after_s = _RETRY_AFTER_S if wanted_s is None else wanted_s
        super().__init__(f"it answers HTTP {status} and wants {self.retry_after_s:.0f} s of rest")


class VenueSocket(ClientConnection):
    """A client connection that remembers when the venue last said anything of its own accord, pings included."""

    heard_at = 0.0

    def process_event(self, event: Event) -> None:
        """Take one event of the library's protocol."""
        if not isinstance(event, Frame) or event.opcode is not PONG:
            self.heard_at = clock.monotonic()
        super().process_event(event)


def trusted(ca_file: Path | None) -> ssl.SSLContext:
    """Return whom to trust: the authorities in ``ca_file``, or certifi's.

    Raises:
        SettingsError: the file cannot be read as certificates.
    """
    try:
        return ssl.create_default_context(cafile=str(ca_file or certifi.where()))
    except OSError as error:  # ssl.SSLError is one
        msg = f"K2_FEEDS__CA_FILE={ca_file} cannot be used: {error.strerror or error}."
        raise SettingsError(msg) from None


async def dial(url: str, ca_file: Path | None = None) -> VenueSocket:
    """Open the WebSocket at ``url``, through the proxy of the environment that is for it.

    Raises:
        SettingsError: ``url`` is not one of a WebSocket, or ``ca_file`` or the proxy cannot be used.
        RateLimited: the venue wants to be left alone for a while.
    """
    try:
        secure, proxy = split_url(url).scheme == "wss", proxy_for(url)
    except ValueError as error:
        raise _unusable(url, error) from None
    context = trusted(ca_file) if secure else None
    try:
        socket = await connect(
            url,
            compression=None,
            open_timeout=_OPEN_S,
            close_timeout=_CLOSE_S,
            ping_interval=PING_EVERY_S,
            ping_timeout=PONG_WITHIN_S,
            max_size=MAX_MESSAGE_BYTES,
            max_queue=_QUEUED_FRAMES,
            proxy=proxy,
            create_connection=VenueSocket,
            ssl=context,
        )
    except InvalidURI as error:
        raise _unusable(url, error) from None
    except InvalidStatus as error:
        if error.response.status_code not in _TOO_MANY:
            raise
        raise RateLimited(error.response.status_code, error.response.headers.get("Retry-After")) from None
    assert isinstance(socket, VenueSocket)  # noqa: S101  # create_connection made it
    socket.heard_at = clock.monotonic()
    return socket


def _unusable(url: str, error: Exception) -> SettingsError:
    return SettingsError(f"{url} is not a WebSocket URL, such as wss://stream.binance.com:9443: {error}.")
