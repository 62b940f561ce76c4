"""Symbols: how a venue spells an instrument, and K2's own spelling of it."""

from typing import NamedTuple

MODERN_CODES = {"XBT": "BTC", "XDG": "DOGE"}


class Instrument(NamedTuple):
    """One tradable pair. ``symbol`` is base + quote, upper case, in modern codes: ``BTCUSDT``."""

    symbol: str
    base: str
    quote: str


def instrument(base: str, quote: str) -> Instrument:
    """Return the instrument of two asset codes as a venue spells them.

    >>> instrument("xbt", "usd").symbol
    'BTCUSD'
    """
    base, quote = (MODERN_CODES.get(code.upper(), code.upper()) for code in (base, quote))
    return Instrument(base + quote, base, quote)


def split_by_suffix(symbol: str, quotes: tuple[str, ...]) -> Instrument | None:
    """Split a symbol without separator by the longest quote asset that it ends in; None if none fits.

    >>> split_by_suffix("BTCUSDT", ("USD", "USDT"))
    Instrument(symbol='BTCUSDT', base='BTC', quote='USDT')
    """
    fitting = [quote for quote in quotes if symbol.endswith(quote) and len(symbol) > len(quote)]
    if not fitting:
        return None
    quote = max(fitting, key=len)
    return instrument(symbol[: -len(quote)], quote)
