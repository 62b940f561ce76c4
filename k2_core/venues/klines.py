"""Klines, a venue's own candles of one minute, as every venue module reads them. Knows no venue."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from k2_core.errors import MalformedFrame
from k2_core.trades import exact

MOST_MINUTES: Final = 240
"""So many minutes every venue returns in one reply."""
Row = Sequence[msgspec.Raw]


class Kline(NamedTuple):
    """One minute of one instrument, in the venue's own numbers."""

    start_us: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


def kline_of(row: Row, us_per_unit: int, *, opening: int, high: int, low: int, close: int, volume: int) -> Kline:
    """Read a row that begins with the time of its start.

    Args:
        row: of a reply, each value as it is written, in quotes or without.
        us_per_unit: of the time.
        opening: the place of the opening price in the row.
        high: of the highest.
        low: of the lowest.
        close: of the closing price.
        volume: of the volume.

    Raises:
        MalformedFrame: ``wrong_type``: a value is missing, or no number.
    """
    places = (0, opening, high, low, close, volume)
    if len(row) <= max(places):
        raise MalformedFrame("wrong_type", f"a kline of {len(row)} values")
    texts = [bytes(row[place]).decode().strip('"') for place in places]
    numbers = [number for text in texts if (number := exact(text)) is not None]
    if len(numbers) < len(places) or numbers[0] != int(numbers[0]):
        raise MalformedFrame("wrong_type", f"a kline of {', '.join(texts)}")
    return Kline(int(numbers[0]) * us_per_unit, *numbers[1:])
