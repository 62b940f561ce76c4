"""Venues' wire formats: one pure module each, which implements :class:`k2_core.venues.venue_protocol.Venue`."""

from collections.abc import Mapping
from typing import Final

from k2_core.venues import binance, coinbase, kraken
from k2_core.venues.venue_protocol import Venue

_ALL: Final[tuple[Venue, ...]] = (binance, kraken, coinbase)
VENUES: Final[Mapping[str, Venue]] = {venue.VENUE: venue for venue in _ALL}
"""Every venue that K2 can feed, drain and keep tables for, by its name."""
