"""The trade: its identity, its bounds, and why something cannot become one."""

import re
import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from k2_core import clock
from k2_core import message_ids as identity
from k2_core.errors import MalformedFrame
from k2_core.instruments import Instrument

PRICE_PRECISION, PRICE_SCALE = 28, 12
QUANTITY_PRECISION, QUANTITY_SCALE = 28, 8
MAX_FUTURE_NS: Final = 5 * 60 * 1_000_000_000
FIRST_DAY: Final = date(2010, 1, 1)
"""The first day that the lake keeps, UTC; no crypto venue is as old."""
FIRST_DAY_US: Final = clock.to_us(datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=UTC))

Side = Literal["BUY", "SELL", "SELL_SHORT", "UNKNOWN"]

REASONS: Final = {
    "not_confluent_avro": "the Kafka value does not begin with Confluent's magic byte and a schema id",
    "unknown_schema": "the registry does not know the schema id",
    "malformed_envelope": "the Avro envelope is cut off, followed by other bytes, or not a RawFrame",
    "malformed_json": "the frame is not JSON, is cut off, or nests over 200 levels deep",
    "unknown_event": "the frame is of a kind that this parser does not know",
    "missing_field": "a field that a trade or quote needs is missing or null",
    "wrong_type": "a field has another type or form than the venue documents",
    "price_not_positive": "the price is zero or negative",
    "quantity_not_positive": "the quantity is zero or negative",
    "number_out_of_range": "a number has more digits than the column holds (it is never rounded), or a time is "
    "before 2010-01-01, the first day that is kept",
    "timestamp_in_future": "the time of the trade or quote is over 5 minutes after its receipt",
    "unknown_symbol": "when the frame was received, no version in reference_instruments had the symbol and no feed had "
    "subscribed to it; where the register holds nothing of the venue yet: base and quote cannot be separated",
    "parser_failed": "the parser broke on the frame: a fault of K2, whose log says where",
    "not_storable": "what the frame says cannot be written into a table, so that bronze holds its bytes alone: a "
    "fault of K2, whose log says where",
}

_NUMBER: Final = re.compile(r"(?P<sign>[+-]?)(?P<digits>\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_LONGEST_NUMBER: Final = 1000  # characters; exact arithmetic on a million digits would hold everything up
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "k2:trade")


class VenueTrade(msgspec.Struct, frozen=True, gc=False):
    """One trade as a venue module read it from a frame; numbers still in the venue's own text."""

    venue_symbol: str
    trade_id: str
    sequence: int
    price: str
    quantity: str
    event_us: int
    published_us: int | None
    side: Side


class BadTrade(msgspec.Struct, frozen=True, gc=False):
    """One trade of a frame that cannot become a row, beside others that can."""

    reason: str
    detail: str
    event_us: int | None = None


def message_id(exchange: str, symbol: str, trade_id: str) -> str:
    """Return the UUIDv5 of a trade's natural key, the same wherever and whenever it is read.

    In a later epoch of the instrument, ``symbol`` is what :class:`k2_core.epochs.Epochs` names it there.
    """
    return identity.message_id(_NAMESPACE, exchange, symbol, trade_id)


def message_ids(exchange: str, symbols: Sequence[str], trade_ids: Sequence[str]) -> npt.NDArray[np.bytes_]:
    """Return :func:`message_id` of many trades, made side by side: an array of 36 ASCII bytes each."""
    return identity.message_ids(_NAMESPACE, exchange, symbols, trade_ids)


def check(trade: VenueTrade, instrument: Instrument | None, received_ns: int) -> None:
    """Check one trade against every rule of a silver row.

    Raises:
        MalformedFrame: with the first rule it breaks.
    """
    if instrument is None:
        raise MalformedFrame("unknown_symbol", f"nobody listed or subscribed to {trade.venue_symbol!r} by then")
    check_number("price", trade.price, PRICE_PRECISION, PRICE_SCALE)
    check_number("quantity", trade.quantity, QUANTITY_PRECISION, QUANTITY_SCALE)
    check_time("trade", trade.event_us, received_ns)


def check_time(kind: Literal["trade", "quote"], event_us: int, received_ns: int) -> None:
    """Check that a time is of a day that is kept, and not too far ahead of its receipt.

    Raises:
        MalformedFrame: ``number_out_of_range`` or ``timestamp_in_future``.
    """
    if event_us < FIRST_DAY_US:
        msg = f"the {kind}'s time, {event_us} µs since 1970, is before {FIRST_DAY}, the first day that is kept"
        raise MalformedFrame("number_out_of_range", msg)
    if event_us * 1_000 > received_ns + MAX_FUTURE_NS:
        late_s = (event_us * 1_000 - received_ns) / 1e9
        raise MalformedFrame("timestamp_in_future", f"the {kind}'s time is {late_s:.3f} s after its receipt")


def check_number(field: Literal["price", "quantity"], text: str, precision: int, scale: int) -> None:
    """Check that ``text`` is a positive number that fits decimal(precision, scale) without rounding.

    Raises:
        MalformedFrame: ``wrong_type``, ``<field>_not_positive`` or ``number_out_of_range``.
    """
    number = exact(text) if len(text) <= _LONGEST_NUMBER else None
    if number is None:  # no number, or one beyond what can be computed with
        found = _NUMBER.fullmatch(text)
        if found is None:
            raise MalformedFrame("wrong_type", f"{field} {text!r} is not a decimal number")
        if found["sign"] == "-" or not re.search("[1-9]", found["digits"]):
            raise MalformedFrame(f"{field}_not_positive", f"{field} is {text}")
        beyond = f"{field} {text} has a length or an exponent beyond any column"
        raise MalformedFrame("number_out_of_range", beyond)
    if number <= 0:
        raise MalformedFrame(f"{field}_not_positive", f"{field} is {text}")
    if plain(number, precision, scale) is None:
        raise MalformedFrame("number_out_of_range", f"{field} {text} does not fit decimal({precision},{scale})")


def exact(text: str) -> Decimal | None:
    """Return the finite number that ``text`` spells, exactly; None if it spells none."""
    if not text.isascii() or "_" in text or text != text.strip():
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def plain(number: Decimal, precision: int, scale: int) -> str | None:
    """Return ``number`` without exponent if it fits decimal(precision, scale) unrounded, else None."""
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)  # noqa: S101  # finite, so never 'n' or 'F'
    # Zeros at the end are no digits that a column must hold: 1.500 is 15 × 10^-1, and 2E+3 is 2 × 10^3. What is left
    # has -exponent digits after the point, and at most its length plus exponent before it.
    significant = "".join(map(str, digits)).rstrip("0")
    exponent += len(digits) - len(significant)
    if not significant:
        return "0"
    if -exponent > scale or len(significant) + exponent > precision - scale:
        return None
    return f"{'-' if sign else ''}{Decimal((0, tuple(map(int, significant)), exponent)):f}"
