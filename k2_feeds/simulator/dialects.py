"""The venues' protocols side by side, so that the server need not know which is which."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol

from k2_feeds.simulator import binance, coinbase, kraken
from k2_feeds.simulator.board import Board, Message, Session
from k2_feeds.simulator.market import Event, Side
from k2_feeds.simulator.simulated_listings import Listing

Texts = tuple[str, str]


class Dialect(Protocol):
    """How one venue speaks, and what it expects of its clients; its module of this package implements it."""

    @property
    def REQUESTS_A_SECOND(self) -> int | None:  # noqa: N802  # modules have constants
        """The most requests that a client may send, if there is a limit."""

    @property
    def SUBSCRIBE_WITHIN_S(self) -> float | None:  # noqa: N802
        """A client that has not subscribed by then is disconnected."""

    def session(self, path: str, board: Board) -> Session:
        """Return the conversation with a client that connected at ``path``."""

    def streams(self, symbol: str) -> tuple[tuple[str], tuple[str]]:
        """Return the streams of a symbol's trades and of its quotes."""

    def messages(self, events: Iterable[Event], published_us: int) -> Iterator[Message]:
        """Yield what the venue sends of events."""

    def instruments(self, listings: Iterable[Listing], now_us: int) -> bytes:
        """Return the venue's list of instruments."""

    def side_texts(self, listing: Listing, side: Side | None) -> Texts:
        """Return price and quantity of a side of the book, or of a trade, as the venue writes them."""


DIALECTS: Final[Mapping[str, Dialect]] = {"binance": binance, "kraken": kraken, "coinbase": coinbase}
_INSTRUMENT_PATHS: Final = {
    "/api/v3/exchangeInfo": "binance",
    "/0/public/AssetPairs": "kraken",
    "/products": "coinbase",
}


def venue_of_rest(path: str) -> str | None:
    """Return the venue whose list of instruments is at a path."""
    return _INSTRUMENT_PATHS.get(path)


def venue_of_socket(path: str) -> str | None:
    """Return the venue whose WebSocket is at a path; all are on one port."""
    if path in {"/stream", "/ws"} or path.startswith("/ws/"):
        return "binance"
    return {"/v2": "kraken", "/": "coinbase", "": "coinbase"}.get(path)
