"""The timeframes of candles."""

from dataclasses import dataclass
from typing import Final

MINUTE_US: Final = 60_000_000


@dataclass(frozen=True)
class Timeframe:
    """The windows of a table of candles: half-open, in UTC, aligned to 1970.

    Args:
        name: as in tables and routes, such as ``1m``.
        width_us: of a window, in microseconds.
        words: the same in a sentence, such as ``one-minute``.
    """

    name: str
    width_us: int
    words: str


ONE_MINUTE: Final = Timeframe("1m", MINUTE_US, "one-minute")
TIMEFRAMES: Final = (ONE_MINUTE,)
"""Those that are stored, finest first."""
