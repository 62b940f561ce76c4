"""A venue's list of instruments, read strictly: what every venue module needs to read its own. Knows no venue."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from k2_core.errors import MalformedFrame
from k2_core.instruments import Listing, Status, instrument, letters_and_digits
from k2_core.trades import exact
from k2_core.venues.fields import spelled
from k2_core.venues.json_text import check_text

_Shape = TypeVar("_Shape")
_LONGEST_SIZE: Final = 60  # characters; far more than any column holds


def decode_reply(decoder: msgspec.json.Decoder[_Shape], body: bytes) -> _Shape:
    """Read a reply of one shape.

    Raises:
        MalformedFrame: ``malformed_json``, or ``wrong_type`` with the place that is not as the venue documents it.
    """
    check_text(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise MalformedFrame("wrong_type", str(error)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedFrame("malformed_json", str(error)) from None


def listing(
    venue_symbol: str, codes: tuple[str, str], sizes: tuple[str | None, str | None], status: Status, venue_status: str
) -> Listing:
    """Return one instrument of a list.

    Args:
        venue_symbol: as the venue's WebSocket spells it.
        codes: base and quote as the venue spells them.
        sizes: tick and lot size; a text that is no positive number becomes None.
        status: in our words.
        venue_status: in the venue's.

    Raises:
        MalformedFrame: ``wrong_type`` when the symbol, the base or the quote has no letter or digit.
    """
    _, base, quote = instrument(*codes)
    if not all(map(letters_and_digits, (venue_symbol, base, quote))):
        raise MalformedFrame("wrong_type", f"instrument {spelled(venue_symbol)} of {spelled(codes)}")
    tick_size, lot_size = (_size(text) for text in sizes)
    symbol = letters_and_digits(base + quote)
    return Listing(venue_symbol, symbol, base, quote, tick_size, lot_size, status, venue_status)


def power_of_ten(decimals: int) -> str | None:
    """Return the smallest step that a number of decimals allows, ``0.001`` for 3."""
    return f"{Decimal(1).scaleb(-decimals):f}" if 0 <= decimals < _LONGEST_SIZE else None


def unique(listings: Iterable[Listing]) -> list[Listing]:
    """Return the listings, each once.

    Raises:
        MalformedFrame: there is none, as if the venue had closed, or one symbol is listed in two ways.
    """
    found: dict[str, Listing] = {}
    for each in listings:
        if found.setdefault(each.venue_symbol, each) != each:
            raise MalformedFrame("wrong_type", f"instrument {spelled(each.venue_symbol)} is listed in two ways")
    if not found:
        raise MalformedFrame("missing_field", "no instrument is listed")
    return list(found.values())


def _size(text: str | None) -> str | None:
    if text is None or len(text) > _LONGEST_SIZE:
        return None
    number = exact(text)
    return text if number is not None and number > 0 else None
