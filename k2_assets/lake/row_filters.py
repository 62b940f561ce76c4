"""Iceberg row filters in the lake's terms."""

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from pyiceberg.expressions import And, BooleanExpression, EqualTo, GreaterThanOrEqual, LessThan, LessThanOrEqual

from k2_core import clock

# pyiceberg's predicates take (column, value); their type stubs, made by pydantic, know keywords only.
_equal: Final[Any] = EqualTo
_at_least: Final[Any] = GreaterThanOrEqual
_at_most: Final[Any] = LessThanOrEqual
_below: Final[Any] = LessThan


def time_between(column: str, first_us: int, end_us: int) -> BooleanExpression:
    """Return first ≤ column < end, both µs since the epoch."""
    first, end = (clock.from_us(moment).isoformat() for moment in (first_us, end_us))
    return And(_at_least(column, first), _below(column, end))


def at_least(column: str, moment_us: int) -> BooleanExpression:
    """Return column ≥ moment, µs since the epoch."""
    expression: BooleanExpression = _at_least(column, clock.from_us(moment_us).isoformat())
    return expression


def below(column: str, moment_us: int) -> BooleanExpression:
    """Return column < moment, µs since the epoch."""
    expression: BooleanExpression = _below(column, clock.from_us(moment_us).isoformat())
    return expression


def instrument_ids(exchange: str, symbol: str, lowest: int, highest: int) -> BooleanExpression:
    """Return the rows of one instrument with lowest ≤ id ≤ highest."""
    ids = And(_at_least("source_sequence", lowest), _at_most("source_sequence", highest))
    return And(_equal("exchange", exchange), _equal("symbol", symbol), ids)


def instrument_times(
    exchange: str, symbol: str, first_us: int, last_us: int, column: str = "timestamp"
) -> BooleanExpression:
    """Return the rows of one instrument with first ≤ column ≤ last, both µs since the epoch."""
    return And(_equal("exchange", exchange), _equal("symbol", symbol), time_between(column, first_us, last_us + 1))


def day_bounds_us(day: date) -> tuple[int, int]:
    """Return the start of a UTC day and of the next, µs since the epoch."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return clock.to_us(start), clock.to_us(start + timedelta(days=1))
