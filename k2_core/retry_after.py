"""The header with which a server says when to come again. Pure, but for the clock."""

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from k2_core import clock

_MOST_DIGITS: Final = 9  # thirty years; what asks for more asks for nothing that can be meant


def seconds_of(retry_after: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for, in seconds or as a date (RFC 9110, 10.2.3).

    None when there is none, or it cannot be read; a date that is past is 0.
    """
    text = (retry_after or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text) if len(text) <= _MOST_DIGITS else None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # The RFC's dates are GMT; one of "-0000" is read as without a zone.
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - clock.now()).total_seconds())
