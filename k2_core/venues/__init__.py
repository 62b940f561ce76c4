"""Venues' wire formats, one pure module each, with the same functions in the same order."""

from types import ModuleType

from k2_core.venues import binance

VENUES: dict[str, ModuleType] = {binance.VENUE: binance}
