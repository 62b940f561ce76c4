"""Which instrument a frame's symbol means, as the parsers' judge asks it. Pure."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from k2_core.instruments import Instrument
from k2_core.venues.venue_protocol import Venue

Instruments = Callable[[Sequence[str], npt.NDArray[np.int64]], list[Instrument | None]]
"""From the venue's symbols of many rows, and when each was received, to what they mean; None is unknown."""


def by_spelling(venue: Venue) -> Instruments:
    """Return a venue's instruments as its symbols spell them, at any time: what holds where nothing is registered."""

    def of(symbols: Sequence[str], _: npt.NDArray[np.int64]) -> list[Instrument | None]:
        known = {symbol: venue.instrument_of(symbol) for symbol in set(symbols)}
        return [known[symbol] for symbol in symbols]

    return of
