"""Venues' wire formats, one pure module each, with the same functions in the same order."""

from types import ModuleType
from typing import Final

from k2_core.venues import binance, coinbase, kraken

PARSERS: Final[dict[str, ModuleType]] = {venue.VENUE: venue for venue in (binance, kraken, coinbase)}
"""Every venue whose frames K2 can read."""
VENUES: Final[dict[str, ModuleType]] = {binance.VENUE: binance}
"""The venues that the platform feeds, drains and keeps tables for."""
