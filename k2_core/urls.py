"""URLs that people give us: which can be one at all. Pure; nothing is dialled."""

from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL.

    Raises:
        ValueError: it names no host, or the host or the port can be none.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("it names no host")
    parts.hostname.encode("idna")
    _ = parts.port
    return parts


def _checked(url: str) -> str:
    try:
        parts = split_url(url)
    except ValueError as error:
        msg = f"{url} is not a WebSocket URL ({error})"
        raise ValueError(msg) from None
    if parts.scheme not in {"ws", "wss"} or parts.fragment:
        msg = f"{url} is not a WebSocket URL, such as wss://host:443"
        raise ValueError(msg)
    return url


WebSocketUrl = Annotated[str, AfterValidator(_checked)]
"""The text of a URL that begins with ws:// or wss:// and that can be dialled."""
