"""The quote: best bid and offer, its identity, its bounds, and what is unusual about it."""

import hashlib
import re
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from k2_core import message_ids as identity
from k2_core.errors import MalformedFrame
from k2_core.instruments import Instrument
from k2_core.trades import (
    PRICE_PRECISION,
    PRICE_SCALE,
    QUANTITY_PRECISION,
    QUANTITY_SCALE,
    check_number,
    check_time,
    exact,
    plain,
)

Condition = Literal["crossed", "locked", "one_sided", "empty"]

CONDITION: Final = "condition"
"""The key of a quote's :data:`Condition` in ``vendor_data``; an ordinary quote has none."""

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "k2:quote")
_PLAIN: Final = re.compile(r"(?:0|[1-9]\d*)(?:\.\d+)?", re.ASCII)
_NOTHING: Final = re.compile(r"(?:[+-]?(?:0+\.?0*|\.0+)(?:[eE][+-]?\d+)?)?", re.ASCII)  # a zero, or an empty text
_WIDEST_PRECISION, _WIDEST_SCALE = 60, 30  # beyond any column


class VenueQuote(msgspec.Struct, frozen=True, gc=False):
    """One best bid and offer as a venue module read it from a frame; numbers still in the venue's own text.

    A side that the venue does not have is None in price and quantity. ``event_us`` is None where the venue gives no
    time: such a quote is stamped at its receipt. ``sequence`` is the venue's own rising number of the quote, if it has
    one; never a connection's counter.
    """

    venue_symbol: str
    quote_id: str
    sequence: int | None
    bid_price: str | None
    bid_quantity: str | None
    ask_price: str | None
    ask_quantity: str | None
    event_us: int | None
    published_us: int | None


class BadQuote(msgspec.Struct, frozen=True, gc=False):
    """One quote of a frame that cannot become a row, beside others that can."""

    reason: str
    detail: str
    event_us: int | None = None


def quote_id(
    venue_time: str, bid_price: str | None, bid_quantity: str | None, ask_price: str | None, ask_quantity: str | None
) -> str:
    """Return the id of a quote to which its venue gives none: the SHA-256 of what it says, in hexadecimal.

    The text that is hashed is ``time|bid|bid quantity|ask|ask quantity``, the numbers as :func:`canonical` spells them,
    a missing side empty: two copies of a quote have one id however the venue pads its zeros.
    """
    numbers = (bid_price, bid_quantity, ask_price, ask_quantity)
    text = "|".join((venue_time, *("" if number is None else canonical(number) for number in numbers)))
    return hashlib.sha256(text.encode()).hexdigest()


def canonical(text: str) -> str:
    """Return a number without exponent or trailing zeros, ``105944.2``; what is no such number stays as it is."""
    # Nearly all numbers are plain texts already, for which cutting zeros is enough. The others are computed exactly.
    if _PLAIN.fullmatch(text):
        return text.rstrip("0").rstrip(".") if "." in text else text
    number = exact(text) if len(text) <= _WIDEST_PRECISION else None
    spelled = plain(number, _WIDEST_PRECISION, _WIDEST_SCALE) if number is not None else None
    return text if spelled is None else spelled


def side_of(price: str | None, quantity: str | None) -> tuple[str | None, str | None]:
    """Return a side of the book, or (None, None) when there is none: venues say so by nulls, empty texts or zeros.

    Only both together mean it: a price without a quantity is no missing side.
    """
    absent = (price is None or _NOTHING.fullmatch(price)) and (quantity is None or _NOTHING.fullmatch(quantity))
    return (None, None) if absent else (price, quantity)


def message_id(exchange: str, symbol: str, quote_id: str) -> str:
    """Return the UUIDv5 of a quote's natural key, the same wherever and whenever it is read."""
    return identity.message_id(_NAMESPACE, exchange, symbol, quote_id)


def message_ids(exchange: str, symbols: Sequence[str], quote_ids: Sequence[str]) -> npt.NDArray[np.bytes_]:
    """Return :func:`message_id` of many quotes, made side by side: an array of 36 ASCII bytes each."""
    return identity.message_ids(_NAMESPACE, exchange, symbols, quote_ids)


def check(quote: VenueQuote, instrument: Instrument | None, received_ns: int) -> None:
    """Check one quote against every rule of a silver row; crossed, locked and one-sided quotes break none.

    Raises:
        MalformedFrame: with the first rule it breaks.
    """
    if instrument is None:
        raise MalformedFrame("unknown_symbol", f"nobody listed or subscribed to {quote.venue_symbol!r} by then")
    # Without a time of the venue, the quote has that of its receipt.
    _check_side("bid", quote.bid_price, quote.bid_quantity)
    _check_side("ask", quote.ask_price, quote.ask_quantity)
    check_time("quote", received_ns // 1_000 if quote.event_us is None else quote.event_us, received_ns)


def condition(quote: VenueQuote) -> Condition | None:
    """Return what is unusual about a checked quote, which is kept all the same; None for an ordinary one.

    Bid above ask is ``crossed``, bid equal to ask ``locked``; a quote with one side is ``one_sided``, with none
    ``empty``.
    """
    if quote.bid_price is None or quote.ask_price is None:
        return "empty" if quote.bid_price is quote.ask_price else "one_sided"
    bid, ask = Decimal(quote.bid_price), Decimal(quote.ask_price)
    if bid < ask:
        return None
    return "locked" if bid == ask else "crossed"


def _check_side(side: str, price: str | None, quantity: str | None) -> None:
    if price is None and quantity is None:
        return
    if price is None or quantity is None:
        raise MalformedFrame("missing_field", f"the {side} has no {'price' if price is None else 'quantity'}")
    try:
        check_number("price", price, PRICE_PRECISION, PRICE_SCALE)
        check_number("quantity", quantity, QUANTITY_PRECISION, QUANTITY_SCALE)
    except MalformedFrame as error:
        raise MalformedFrame(error.reason, f"{side}: {error.detail}") from None
