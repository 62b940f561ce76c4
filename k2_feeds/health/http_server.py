"""The smallest HTTP server that answers GET for a few paths; for health and metrics on loopback, nothing else."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from k2_core.errors import PartError

Page = Callable[[], tuple[str, bytes]]
_TIMEOUT_S: Final = 5.0
_HEAD: Final = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"


async def serve_pages(pages: Mapping[str, Page], port: int, setting: str) -> asyncio.Server:
    """Serve ``pages`` (path → function that returns content type and body) on 127.0.0.1.

    Raises:
        PartError: the port is taken; it names the ``setting`` that chooses another.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                method, _, rest = (await reader.readuntil(b"\r\n\r\n")).partition(b" ")
                page = pages.get(rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1"))
                if method not in {b"GET", b"HEAD"}:
                    status, kind, body = b"405 Method Not Allowed", "text/plain", b"only GET is answered here\n"
                elif page is None:
                    status, kind, body = b"404 Not Found", "text/plain", f"there is {', '.join(pages)}\n".encode()
                else:
                    status, (kind, body) = b"200 OK", page()
                start = _HEAD % (status, kind.encode(), len(body))
                writer.write(start if page is not None and method == b"HEAD" else start + body)
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return  # the client has gone, or does not speak HTTP
        finally:
            writer.close()

    try:
        return await asyncio.start_server(answer, "127.0.0.1", port)
    except OSError as error:
        msg = f"port {port} cannot be used ({error.strerror}): end what uses it, or choose another with {setting}."
        raise PartError(msg) from None
