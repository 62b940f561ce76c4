"""When the trades of a frame happened. Pure; slow, so only for the few frames that need it."""

from collections.abc import Callable

from k2_core.errors import MalformedFrame
from k2_core.trades import VenueTrade
from k2_core.venues.routing import is_snapshot
from k2_core.venues.venue_protocol import Venue


def moment_of(venue: Venue) -> Callable[[bytes, str], int | None]:
    """Return a function that returns the newest event time, in µs, of a symbol's trades in a frame of ``venue``.

    It returns None for a snapshot, which repeats earlier trades, and for a frame that cannot be read.
    """

    def moment(payload: bytes, symbol: str) -> int | None:
        if is_snapshot(payload):
            return None
        try:
            found = venue.parse(payload) or ()
        except MalformedFrame:
            return None
        times = [each.event_us for each in found if isinstance(each, VenueTrade) and each.venue_symbol == symbol]
        return max(times, default=None)

    return moment
