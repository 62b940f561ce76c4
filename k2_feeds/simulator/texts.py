"""How venues write numbers and times, and read requests. Pure."""

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

_US: Final = 1_000_000


def decimal_text(units: int, digits: int) -> str:
    """Return ``units`` × 10^-digits with all its digits: (6183763, 2) is ``61837.63``."""
    if digits == 0:
        return str(units)
    whole, rest = divmod(units, 10**digits)
    return f"{whole}.{rest:0{digits}d}"


def rfc3339(at_us: int, more_digits: str = "") -> str:
    """Return a time in UTC: ``2023-10-06T17:35:55.440295Z``, with digits beyond microseconds if there are any."""
    second, rest = divmod(at_us, _US)
    return f"{_second(second)}.{rest:06d}{more_digits}Z"


def parsed_request(request: str | bytes) -> dict[str, Any] | None:
    """Return the JSON object that a client sent; None for anything else."""
    try:
        found = json.loads(request)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
