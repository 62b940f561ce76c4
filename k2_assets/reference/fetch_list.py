"""Ask a venue's REST interface for its list of instruments. Knows no table, and no venue."""

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from k2_core.errors import DownloadError, SettingsError
from k2_core.logs import logger
from k2_core.proxies import proxy_for
from k2_core.retry_after import seconds_of

log = logger(__name__)

_HEADERS: Final = {"User-Agent": "k2-lakehouse"}
_TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
_ATTEMPTS: Final = 3
_PAUSE_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 60.0
_MOST_BYTES: Final = 256_000_000
_TOO_MANY: Final = frozenset({httpx.codes.TOO_MANY_REQUESTS, 418})  # 418: Binance's word for a ban
_SERVER_FAULT: Final = 500


class _Later(Exception):  # no error: a reason to ask again
    def __init__(self, reason: str, pause_s: float) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


def fetch(url: str, ca_file: Path | None, sleep: Callable[[float], None] = time.sleep) -> bytes:
    """Return what ``url`` answers with status 200; asks again after a temporary fault, when the server allows it.

    Args:
        url: of the list.
        ca_file: PEM file of the authorities to trust; None trusts certifi's.
        sleep: waits for some seconds.

    Raises:
        DownloadError: no answer that can be used after three attempts, or the server wants to be left alone for
            longer than a minute.
    """
    reason = ""
    secure = url.startswith("https")  # making a context takes 16 ms
    verify = ssl.create_default_context(cafile=str(ca_file)) if ca_file and secure else secure
    try:
        transport = httpx.HTTPTransport(verify=verify, proxy=proxy_for(url))
    except (SettingsError, ValueError) as error:
        msg = f"{url} could not be fetched: {str(error).removesuffix('.')}."
        raise DownloadError(msg) from None
    with httpx.Client(timeout=_TIMEOUT, transport=transport, headers=_HEADERS) as client:
        for attempt in range(_ATTEMPTS):
            try:
                return _ask(client, url, _PAUSE_S * 2**attempt)
            except _Later as later:
                reason = str(later)
                if later.pause_s > _LONGEST_PAUSE_S:
                    break
                log.info("asking again", url=url, reason=reason, pause_s=later.pause_s)
                if attempt < _ATTEMPTS - 1:
                    sleep(later.pause_s)
    msg = f"{url} could not be fetched: {reason}."
    raise DownloadError(msg)


def _ask(client: httpx.Client, url: str, pause_s: float) -> bytes:
    try:
        with client.stream("GET", url) as answer:
            if answer.status_code == httpx.codes.OK:
                body = bytearray()
                for piece in answer.iter_bytes():
                    body += piece
                    if len(body) > _MOST_BYTES:
                        size = f"more than {_MOST_BYTES // 1_000_000} MB"
                        msg = f"{url} could not be fetched: it answers with {size}."
                        raise DownloadError(msg)
                return bytes(body)
            reason = f"the server answers {answer.status_code}"
            if answer.status_code in _TOO_MANY or answer.headers.get("Retry-After"):
                wanted_s = seconds_of(answer.headers.get("Retry-After"))
                raise _Later(reason, pause_s if wanted_s is None else wanted_s)
            if answer.status_code >= _SERVER_FAULT:
                raise _Later(reason, pause_s)
            msg = f"{url} could not be fetched: {reason}."
            raise DownloadError(msg)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        msg = f"{url} could not be fetched: {error}."
        raise DownloadError(msg) from None
    except httpx.HTTPError as error:
        raise _Later(f"{type(error).__name__}: {error}", pause_s) from None
