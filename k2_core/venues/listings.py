"""A venue's list of instruments, read strictly: what every venue module needs to read its own. Knows no venue."""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from k2_core.errors import MalformedFrame
from k2_core.instruments import Listing, Status, instrument, letters_and_digits
from k2_core.trades import exact
from k2_core.venues.fields import spelled
from k2_core.venues.json_text import check_text, decode_as

_Shape = TypeVar("_Shape")
_LONGEST_SIZE: Final = 60  # characters; far more than any column holds
_SHOWN: Final = 5  # entries that could not be read, with their reasons
_object: Final[msgspec.json.Decoder[Mapping[str, object]]] = msgspec.json.Decoder(dict[str, object])


class Listings(list[Listing]):
    """A venue's instruments, each once. ``skipped`` maps symbols whose entry could not be read to the reason.

    An entry without a symbol is in ``skipped`` under the empty symbol.
    """

    def __init__(self, found: Iterable[Listing] = (), skipped: Mapping[str, str] | None = None) -> None:
        super().__init__(found)
        self.skipped = dict(skipped or {})

    def may_lack(self, symbol: str) -> bool:
        """Tell whether a symbol that is not in the list may be in an entry that could not be read."""
        return symbol in self.skipped or "" in self.skipped

    @property
    def trouble(self) -> str:
        """What could not be read, in one sentence; empty when all could."""
        if not self.skipped:
            return ""
        shown = [f"{symbol or 'one without a symbol'} ({reason})" for symbol, reason in self.skipped.items()]
        more = [f"and {len(shown) - _SHOWN} more"] if len(shown) > _SHOWN else []
        return f"entries of the list that cannot be read are left out: {', '.join([*shown[:_SHOWN], *more])}"


def decode_reply(decoder: msgspec.json.Decoder[_Shape], body: bytes) -> _Shape:
    """Read a reply of one shape.

    Raises:
        MalformedFrame: ``malformed_json``, or ``wrong_type`` with the place that is not as the venue documents it.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise MalformedFrame("wrong_type", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
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
    numbers = [exact(text) if text is not None and len(text) <= _LONGEST_SIZE else None for text in sizes]
    tick_size, lot_size = (text if number and number > 0 else None for text, number in zip(sizes, numbers, strict=True))
    symbol = letters_and_digits(base + quote)
    return Listing(venue_symbol, symbol, base, quote, tick_size, lot_size, status, venue_status)


def power_of_ten(decimals: int) -> str | None:
    """Return the smallest step that a number of decimals allows, ``0.001`` for 3."""
    return f"{Decimal(1).scaleb(-decimals):f}" if 0 <= decimals < _LONGEST_SIZE else None


def read_listings(
    entries: Iterable[msgspec.Raw],
    decoder: msgspec.json.Decoder[_Shape],
    listing_of: Callable[[_Shape], Listing | None],
    symbol_of: Callable[[Mapping[str, object]], object],
) -> Listings:
    """Return the instruments of a list's entries, each once; an entry that cannot be read costs no other.

    Args:
        entries: as they were written.
        decoder: of one entry.
        listing_of: makes an instrument of it; None for one that is not wanted.
        symbol_of: finds the symbol of an entry that is not of that shape, where it has one.

    Raises:
        MalformedFrame: there is none, as if the venue had closed.
    """
    found, skipped = dict[str, Listing](), dict[str, str]()
    for entry in entries:
        try:
            check_text(bytes(entry))
            each = listing_of(decode_reply(decoder, bytes(entry)))
        except MalformedFrame as error:
            symbol = symbol_of(decode_as(_object, bytes(entry)) or {})
            skipped[symbol if isinstance(symbol, str) else ""] = error.detail
            continue
        if each is not None and found.setdefault(each.venue_symbol, each) != each:
            skipped[each.venue_symbol] = "it is listed in two ways, of which the first is taken"
    if not found:
        reason = "wrong_type" if skipped else "missing_field"
        raise MalformedFrame(reason, next(iter(skipped.values()), "no instrument is listed"))
    return Listings(found.values(), skipped)
