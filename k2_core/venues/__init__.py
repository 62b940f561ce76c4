"""Venues' wire formats, one pure module each, with the same functions in the same order."""

from types import ModuleType
from typing import Final

from k2_core.venues import binance, coinbase, kraken

VENUES: Final[dict[str, ModuleType]] = {venue.VENUE: venue for venue in (binance, kraken, coinbase)}
"""Every venue that K2 can feed, drain and keep tables for."""
