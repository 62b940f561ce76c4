"""Venues' times as text. Microseconds are what K2 keeps; what is finer is cut off, never rounded.

Cutting moves no event into the next microsecond, minute or day. The venue's own text stays in bronze, and in a quote's
id, which keeps every digit.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from k2_core.clock import to_us

_SECONDS: Final = "YYYY-MM-DDTHH:MM:SS"
_END: Final = len(_SECONDS)
_FRACTION: Final = _END + 1
_DATE_END: Final = len("YYYY-MM-DD")
_UTC: Final = "+00:00"
_US_DIGITS: Final = 6


def microseconds(text: str) -> int | None:
    """Return µs since 1970 of an RFC 3339 time in UTC, ``2026-04-07T14:30:02.789012Z``; None when it is none.

    A fraction may have any number of digits; those beyond the sixth are cut off. A time before 1970 is none. RFC 3339
    also allows ``+00:00`` for ``Z``, and small letters.
    """
    found = _read(text)
    return _read(_usual_form(text)) if found is None else found


def canonical_time(text: str) -> str:
    """Return a time that :func:`microseconds` can read with ``T`` and ``Z``, all its digits but no trailing zeros."""
    if text[-1] != "Z" or text[_DATE_END] != "T":
        text = _usual_form(text)
    return f"{text[:-1].rstrip('0').rstrip('.')}Z" if text[_END] == "." else text


def _usual_form(text: str) -> str:
    text = text.upper() if text.isascii() else text
    return f"{text.removesuffix(_UTC)}Z" if text.endswith(_UTC) else text


def _read(text: str) -> int | None:
    # Whole seconds are remembered, since many events share one; only the fraction is converted each time.
    second_us = _second_us(text[:_END])
    if second_us is None or text[-1] != "Z":
        return None
    fraction = text[_FRACTION:-1]
    if text[_END] == "." and fraction.isdecimal() and fraction.isascii():
        if len(fraction) != _US_DIGITS:
            fraction = fraction[:_US_DIGITS].ljust(_US_DIGITS, "0")
        return second_us + int(fraction)
    return second_us if len(text) == _FRACTION else None


@lru_cache(maxsize=4096)
def _second_us(text: str) -> int | None:
    """Return µs since 1970 of a whole second."""
    try:
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    # strptime also takes one digit where two belong, and digits of other scripts.
    if moment.strftime("%Y-%m-%dT%H:%M:%S") != text:
        return None
    second_us = to_us(moment)
    return second_us if second_us >= 0 else None
