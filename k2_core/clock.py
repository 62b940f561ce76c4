"""The only module that reads the clock. Wall time is UTC; durations use the monotonic clock."""

import time
from datetime import UTC, datetime

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_SECOND = 1_000_000_000
US_PER_SECOND = 1_000_000


def now_ns() -> int:
    """Return nanoseconds since 1970-01-01T00:00:00Z."""
    return time.time_ns()


def now_s() -> float:
    """Return seconds since 1970-01-01T00:00:00Z, as Dagster and psutil count them."""
    return time.time()


def now_us() -> int:
    """Return microseconds since 1970-01-01T00:00:00Z."""
    return time.time_ns() // NS_PER_US


def now() -> datetime:
    """Return the current time as an aware UTC datetime."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Return seconds of a clock that never goes back; only differences mean anything."""
    return time.monotonic()


def from_us(microseconds: int) -> datetime:
    """Return the aware UTC datetime of ``microseconds`` since the epoch, exactly."""
    seconds, rest = divmod(microseconds, US_PER_SECOND)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def to_us(moment: datetime) -> int:
    """Return microseconds since the epoch of an aware datetime, exactly."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * US_PER_SECOND + delta.microseconds


def iso(moment: datetime) -> str:
    """Return ``moment`` as RFC 3339 in UTC with microseconds, ``2024-08-09T00:00:00.000000Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
