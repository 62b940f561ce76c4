"""Ask a venue's REST interface now and then which symbols it lists, since its WebSocket may accept any."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from k2_core.errors import MalformedFrame, SettingsError
from k2_core.logs import logger
from k2_core.proxies import proxy_for
from k2_core.settings import Feeds
from k2_core.venues.listings import Listings
from k2_feeds.socket.backoff import Backoff
from k2_feeds.socket.fleet import Source
from k2_feeds.socket.pacing import LONGEST_HOLD_S
from k2_feeds.socket.websockets import RateLimited, trusted

ASK_EVERY_S: Final = 3600.0
FIRST_WITHIN_S: Final = 3.0
"""The first answer is waited for so long before connecting; without it all symbols are fed."""
_TIMEOUT_S: Final = 20.0
_RETRY_S: Final = (30.0, ASK_EVERY_S)
_TOO_MANY: Final = {403, 418, 429, 503}
_log = logger(__name__)


class Listed:
    """Which symbols of the settings a venue does not list, as of its last answer.

    A symbol counts as listed until an answer says otherwise; an answer that lists nothing changes nothing. For a
    recording no venue is asked: it holds its symbols in the venue's spelling of then, whatever is listed now.
    """

    def __init__(self, source: Source, feeds: Feeds) -> None:
        self.unlisted: frozenset[str] = frozenset()
        self.trouble = ""
        self.answered = asyncio.Event()
        self._source, self._ca_file = source, feeds.ca_file
        self._recorded = feeds.source.partition(" ")[0] == "recording"
        self._backoff = Backoff(*_RETRY_S)

    def sentence_of(self, symbol: str) -> str:
        """Return a sentence that says that a symbol is not fed, and why."""
        name = self._source.venue.VENUE
        return (
            f"{name} does not list {symbol}: it is not fed until it does; check K2_FEEDS__{name.upper()}__SYMBOLS"
            f" against {self._source.venue.instruments_url(self._source.rest_url)}"
        )

    async def keep_asking(self, changed: Callable[[], None]) -> None:
        """Ask until cancelled, but not for a recording; call ``changed`` after an answer that changes ``unlisted``."""
        if self._recorded:
            self.answered.set()
            return
        while True:
            before = self.unlisted
            delay_s = await self._ask()
            if self.unlisted != before:
                changed()
            await asyncio.sleep(delay_s)

    async def _ask(self) -> float:
        """Ask once; return how long to wait before the next time."""
        try:
            listed = await fetch(self._source, self._ca_file)
        except RateLimited as error:
            return self._failed(str(error), error.retry_after_s)
        except (SettingsError, httpx.HTTPError, httpx.InvalidURL, MalformedFrame, OSError, ValueError) as error:
            return self._failed(str(error) or type(error).__name__, 0.0)
        if listed:
            self.unlisted = frozenset(self._source.symbols) - listed
        self.trouble = ""
        self._backoff.reset()
        self.answered.set()
        return ASK_EVERY_S * random.uniform(0.9, 1.1)  # noqa: S311  # no cryptography

    def _failed(self, said: str, rest_s: float) -> float:
        delay_s = max(self._backoff.delay_s(), min(rest_s, LONGEST_HOLD_S))
        self.trouble = f"which symbols {self._source.venue.VENUE} lists is not known: {said}"
        _log.warning("the venue's list of symbols could not be read", text=self.trouble, next_attempt_s=round(delay_s))
        self.answered.set()
        return delay_s


async def fetch(source: Source, ca_file: Path | None) -> frozenset[str]:
    """Return the symbols that the venue lists, as its WebSocket spells them, and those of ours that it may list.

    Raises:
        SettingsError: its URL, the file of authorities or the proxy cannot be used.
        RateLimited: the venue wants to be left alone for a while.
        httpx.HTTPError: it cannot be reached, or answers an error.
        MalformedFrame: its answer cannot be read.
    """
    url = source.venue.instruments_url(source.rest_url)
    try:
        proxy = proxy_for(url)
        httpx.URL(url)  # it refuses more
    except (ValueError, httpx.InvalidURL) as error:
        setting = f"K2_FEEDS__{source.venue.VENUE.upper()}__REST_URL"
        msg = f"{setting}={source.rest_url!r} cannot be used: {error}."
        raise SettingsError(msg) from None
    verify = trusted(ca_file) if url.startswith("https") else False
    transport = httpx.AsyncHTTPTransport(verify=verify, proxy=proxy)
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, transport=transport) as client:
        answer = await client.get(url)
    if answer.status_code in _TOO_MANY:
        raise RateLimited(answer.status_code, answer.headers.get("Retry-After"))
    answer.raise_for_status()
    listings: Listings = await asyncio.to_thread(source.venue.parse_instruments, answer.content)
    if listings.trouble:
        _log.warning(listings.trouble, venue=source.venue.VENUE)
    unsure = filter(listings.may_lack, source.symbols)
    return frozenset([*(listing.venue_symbol for listing in listings), *unsure])
