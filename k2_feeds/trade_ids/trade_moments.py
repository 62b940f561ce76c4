"""When the trades of a frame happened, for the few frames of which one must know it. Pure."""

from collections.abc import Callable

from k2_core.errors import MalformedFrame
from k2_core.trades import VenueTrade
from k2_core.venues.routing import is_snapshot
from k2_core.venues.venue_protocol import Venue


def moment_of(venue: Venue) -> Callable[[bytes, str], int | None]:
    """Return the function that tells the newest event time, in µs, of a symbol's trades in a frame of ``venue``.

    It is None for a snapshot, which repeats what was before, and where it cannot be read.
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
