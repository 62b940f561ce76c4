"""What every venue module offers, and what whoever needs a venue is given. Knows no venue."""

# ruff: noqa: N802  # modules have constants, of which a protocol can only say that they are read

from collections.abc import Mapping
from typing import Protocol

from k2_core.instruments import Instrument
from k2_core.venues.klines import Kline
from k2_core.venues.limits import Limits
from k2_core.venues.listings import Listings
from k2_core.venues.replies import Reply
from k2_core.venues.routing import Data, Quotes, Route, Trades


class Venue(Protocol):
    """A venue's wire format: bytes in, values out, no sockets. The modules of this package implement it.

    mypy compares each of them with it, names of arguments and types included, where :data:`k2_core.venues.VENUES` lists
    them. A module has these functions in this order, and no other public ones.
    """

    @property
    def VENUE(self) -> str:
        """The venue's name in topics, tables, settings and ids."""

    @property
    def ASSET_CLASS(self) -> str:
        """Part of the names of its topics: equities, crypto, futures or options."""

    @property
    def LIMITS(self) -> Limits:
        """What it allows its clients."""

    @property
    def ENDING(self) -> bytes:
        """Part of the frame by which it announces that it closes a connection; empty where it announces nothing."""

    @property
    def PING(self) -> bytes:
        """The frame that asks it for a sign of life; empty where it sends WebSocket pings itself."""

    @property
    def SERVED_AS(self) -> Mapping[str, str]:
        """Suffixes of symbols that it serves under another one, and that other one."""

    def stream_url(self, base: str) -> str:
        """Return the URL to which :meth:`subscribe_frames` are sent."""

    def subscribe_frames(self, symbols: tuple[str, ...], data: tuple[Data, ...] = ("trades",)) -> list[bytes]:
        """Return the frames that subscribe to the trades, the quotes or both of ``symbols``."""

    def route(self, payload: bytes) -> Route:
        """Tell where a frame belongs; never raises: what cannot be read is ``unreadable``."""

    def reply_of(self, payload: bytes) -> Reply | None:
        """Return what a control frame answers a subscription; None when it answers none."""

    def parse(self, payload: bytes) -> Trades | None:
        """Return the trades of a frame in their order within it; None for a control frame.

        Raises:
            MalformedFrame: when nothing of the frame can be read.
        """

    def parse_quotes(self, payload: bytes) -> Quotes | None:
        """Return the quotes of a frame in their order within it; None for a control frame.

        Raises:
            MalformedFrame: when nothing of the frame can be read.
        """

    def instrument_of(self, venue_symbol: str) -> Instrument | None:
        """Return base and quote of a symbol of the venue; None when it cannot be split into them."""

    def instruments_url(self, rest_base: str) -> str:
        """Return the URL of the list of instruments."""

    def parse_instruments(self, body: bytes) -> Listings:
        """Return the instruments that the venue lists.

        Raises:
            MalformedFrame: when the list cannot be read, or is empty.
        """

    def klines_url(self, rest_base: str, venue_symbol: str, first_us: int, end_us: int) -> str:
        """Return the URL of the venue's own candles of the minutes from ``first_us`` until ``end_us``, 240 at most."""

    def parse_klines(self, body: bytes) -> list[Kline]:
        """Return the candles of a reply, of other minutes too where the venue sends them, in any order.

        Raises:
            MalformedFrame: when it cannot be read, or the venue refuses.
        """
