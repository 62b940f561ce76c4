"""Read times as callers write them. Answers write theirs with :func:`k2_core.clock.iso`."""

import re
from datetime import UTC, datetime, time, timedelta
from typing import Final

from k2_core.clock import from_us

_MILLISECONDS: Final = re.compile(r"\d{12,16}", re.ASCII)
_MOMENT: Final = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?P<time>\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(?P<zone>[Zz]|[+\- ]\d\d:\d\d)?)?",
    re.ASCII,
)


def parse_moment(text: str) -> datetime:
    """Return the aware UTC datetime of an RFC 3339 time; without a zone it is UTC, a date alone means its midnight.

    Rows have microseconds: a bound between two of them is the later one, whether it begins or ends a range. A number
    is milliseconds since 1970. A ``+`` that was not escaped in a URL arrives as a space, and is read as the ``+`` that
    it was.

    >>> parse_moment("2024-08-09T01:55:00 02:00").isoformat()
    '2024-08-08T23:55:00+00:00'

    Raises:
        ValueError: the text is not such a time.
    """
    text = text.strip()
    if _MILLISECONDS.fullmatch(text):
        try:
            return from_us(int(text) * 1000)
        except (OverflowError, ValueError):
            raise ValueError(f"{text} milliseconds since 1970 is not a time that exists") from None
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a time such as 2024-08-08T23:55:00Z, nor milliseconds since 1970")
    try:
        clock, _, fraction = (found["time"] or "00:00").partition(".")
        moment = datetime.fromisoformat(f"{found['day']}T{clock}").replace(tzinfo=UTC)
        moment += timedelta(microseconds=-(-int(fraction.ljust(9, "0")) // 1000))
        zone = found["zone"] or "Z"
        if zone in "Zz":
            return moment
        # fromisoformat would take the offset too, but accepts more forms than RFC 3339 has. time checks its bounds.
        ahead = time(int(zone[1:3]), int(zone[4:6]))
        offset = timedelta(hours=ahead.hour, minutes=ahead.minute)
        return moment + offset if zone[0] == "-" else moment - offset
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time that exists") from None
