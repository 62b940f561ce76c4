"""What a venue has said so far, for those who subscribe now: the last trades, the last quote. Opens nothing.

Also the message, which is what venues make of events, and the session, which is what a venue is to one client.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Set
from typing import Final, NamedTuple, Protocol

from k2_feeds.simulator.market import Event, Quote, Trade
from k2_feeds.simulator.simulated_listings import Listing

_KEPT_TRADES: Final = 100


class Message(NamedTuple):
    """One message of a venue.

    ``streams``: whoever subscribed to one of them gets it; every subscriber when there are none. ``event`` is what it
    reports; None if it was recorded, and then ``body`` is sent as it is.
    """

    streams: tuple[str, ...]
    body: bytes
    event: Event | None = None


class Board:
    """The listings of one venue, and what was published of each. What a fault kept back is not on it."""

    def __init__(self, listings: Iterable[Listing]) -> None:
        self.listings = {listing.symbol: listing for listing in listings}
        self.trades: dict[str, deque[Trade]] = defaultdict(lambda: deque(maxlen=_KEPT_TRADES))
        self.quotes: dict[str, Quote] = {}
        self.silences: list[str | None] = []
        """Symbols of which the venue sends nothing now; None is all of them."""
        self.recorded = False

    def post(self, event: Event) -> None:
        """Take an event that was published."""
        if isinstance(event, Quote):
            self.quotes[event.listing.symbol] = event
        else:
            self.trades[event.listing.symbol].extend(event.trades)

    def silent(self, symbol: str) -> bool:
        """Return whether the venue sends nothing of a symbol now, though it accepts subscriptions."""
        return None in self.silences or symbol in self.silences

    def last_trades(self, symbol: str, count: int) -> list[Trade]:
        """Return the last trades in their order; none while the venue is silent."""
        return [] if self.silent(symbol) else list(self.trades[symbol])[-count:]

    def last_quote(self, symbol: str) -> Quote | None:
        """Return the last quote, if there was one and the venue is not silent."""
        return None if self.silent(symbol) else self.quotes.get(symbol)


class Session(Protocol):
    """One client's conversation with one venue; pure, the socket is the caller's."""

    @property
    def subscribed(self) -> bool:
        """Whether the client subscribed to anything."""

    @property
    def answered(self) -> Set[str]:
        """The streams of symbols whose subscriptions were answered, whether accepted or refused."""

    def greeting(self, now_us: int) -> list[bytes]:
        """Return what the venue says first."""

    def answer(self, request: str | bytes, now_us: int) -> list[bytes]:
        """Carry a request out; return the replies and snapshots."""

    def beat(self, now_us: int, idle: bool) -> list[bytes]:
        """Return what the venue says every second; ``idle``: nothing else was sent within it."""

    def wants(self, message: Message) -> bool:
        """Whether the client is subscribed to it."""

    def frame(self, message: Message) -> bytes:
        """Return the frame that carries a message to this client."""
