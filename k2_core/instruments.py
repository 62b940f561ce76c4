"""Symbols: how a venue spells an instrument, and K2's own spelling of it."""

from typing import Final, Literal, NamedTuple

MODERN_CODES: Final = {"XBT": "BTC", "XDG": "DOGE"}
UNKNOWN: Final = "UNKNOWN"
"""Base, quote and currency of a symbol that cannot be split."""

Status = Literal["trading", "restricted", "halted", "delisted", "unknown"]
"""What can be done: everything, some kinds of orders only, nothing for now, nothing any more; a word we do not know."""


class Instrument(NamedTuple):
    """One tradable pair. ``symbol`` is base + quote, upper case, in modern codes: ``BTCUSDT``."""

    symbol: str
    base: str
    quote: str


class Listing(NamedTuple):
    """One instrument as a venue's REST interface lists it; codes are modern ones, sizes the venue's exact texts."""

    venue_symbol: str
    """As the venue's WebSocket spells it: ``BTC/USD``."""
    symbol: str
    base: str
    quote: str
    tick_size: str | None
    """Smallest step of a price; None when the venue names none."""
    lot_size: str | None
    """Smallest step of a quantity; None when the venue names none."""
    status: Status
    venue_status: str
    """In the venue's own words."""


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


def unsplit(venue_symbol: str) -> Instrument | None:
    """Return the instrument of a symbol whose base and quote nobody can tell; None when it has no letter or digit.

    >>> unsplit("FOO.BAR")
    Instrument(symbol='FOOBAR', base='UNKNOWN', quote='UNKNOWN')
    """
    symbol = letters_and_digits(venue_symbol)
    return Instrument(symbol, UNKNOWN, UNKNOWN) if symbol else None


def letters_and_digits(text: str) -> str:
    """Return a symbol without what could separate its parts, upper case.

    >>> letters_and_digits("btc-usd")
    'BTCUSD'
    """
    return "".join(filter(str.isalnum, text.upper()))
