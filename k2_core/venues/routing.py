"""Where a frame belongs and which trade ids it carries, as every venue module reports it. Knows no venue."""

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

from k2_core.errors import MalformedFrame
from k2_core.quotes import BadQuote, VenueQuote
from k2_core.raw_frame import CONTROL, UNREADABLE
from k2_core.trades import BadTrade, VenueTrade

TRADE: Final = "trade"
QUOTE: Final = "quote"
OTHER: Final = "other"

Data = Literal["trades", "quotes"]
"""What can be subscribed to."""
CHANNELS: Final[dict[Data, str]] = {"trades": TRADE, "quotes": QUOTE}
"""The channel of a route that brings what is subscribed to."""
_SNAPSHOT: Final = b'"snapshot"'
_HEAD_BYTES: Final = 256  # of a frame, in which its type is named
IdRun = tuple[str, int, int]
"""Trade ids without a hole between them: the venue's symbol, the first id, the last."""
Trades = list[VenueTrade | BadTrade]
Quotes = list[VenueQuote | BadQuote]


class Route(NamedTuple):
    """What a feed needs to know of a frame.

    ``symbol`` is the venue's own; empty if the frame carries none or several. ``runs`` are the trade ids of each symbol
    in rising order, whatever their order in the frame, so that a hole between two runs is a gap.
    ``connection_sequence`` is the venue's own count of the connection's messages, which rises by one.
    """

    channel: str
    symbol: str = ""
    runs: tuple[IdRun, ...] = ()
    connection_sequence: int | None = None


def is_snapshot(payload: bytes) -> bool:
    """Tell whether a frame repeats data from before the subscription; every venue marks that in the same word."""
    return _SNAPSHOT in payload[:_HEAD_BYTES]


def route_of_trades(trades: Sequence[VenueTrade], connection_sequence: int | None = None) -> Route:
    """Return the route of a frame with these trades; without any it is unreadable."""
    if trades and (run := _one_run(trades)):
        return Route(TRADE, run[0], (run,), connection_sequence)
    ids: dict[str, list[int]] = {}
    for trade in trades:
        ids.setdefault(trade.venue_symbol, []).append(trade.sequence)
    runs: list[IdRun] = []
    for symbol, found in ids.items():
        # Sorted first, since venues send snapshots in any order; a run ends where the next id is larger by over one.
        found.sort()
        first = last = found[0]
        for each in found:
            if each > last + 1:
                runs.append((symbol, first, last))
                first = each
            last = each
        runs.append((symbol, first, last))
    return Route(TRADE if runs else UNREADABLE, _only(ids), tuple(runs), connection_sequence)


def route_of_quotes(quotes: Sequence[VenueQuote], connection_sequence: int | None = None) -> Route:
    """Return the route of a frame with these quotes; without any it is unreadable."""
    symbols = {quote.venue_symbol: None for quote in quotes}
    return Route(QUOTE if symbols else UNREADABLE, _only(symbols), (), connection_sequence)


def route_of_any(
    payload: bytes,
    parse: Callable[[bytes], Trades | None],
    parse_quotes: Callable[[bytes], Quotes | None],
    connection_sequence: int | None = None,
) -> Route:
    """Return the route of any frame by what its venue's parsers find in it; slow."""
    try:
        trades = parse(payload)
        if trades is not None:
            return route_of_trades([t for t in trades if isinstance(t, VenueTrade)], connection_sequence)
        return Route(CONTROL, connection_sequence=connection_sequence)
    except MalformedFrame as error:
        if error.reason != "unknown_event":
            return Route(UNREADABLE, connection_sequence=connection_sequence)
    try:
        quotes = parse_quotes(payload)
    except MalformedFrame as error:
        channel = OTHER if error.reason == "unknown_event" else UNREADABLE
        return Route(channel, connection_sequence=connection_sequence)
    if quotes is None:
        return Route(QUOTE, connection_sequence=connection_sequence)
    return route_of_quotes([q for q in quotes if isinstance(q, VenueQuote)], connection_sequence)


def _only(symbols: dict[str, object] | dict[str, list[int]] | dict[str, None]) -> str:
    return next(iter(symbols)) if len(symbols) == 1 else ""


def _one_run(trades: Sequence[VenueTrade]) -> IdRun | None:
    """Return the ids of trades if they are of one symbol and rise by one, as they nearly always do."""
    symbol = trades[0].venue_symbol
    first = expected = trades[0].sequence
    for trade in trades:
        if trade.sequence != expected or trade.venue_symbol != symbol:
            return None
        expected += 1
    return symbol, first, expected - 1
