"""The timeframes of candles."""

from dataclasses import dataclass
from typing import Final

MINUTE_US: Final = 60_000_000
DAY_US: Final = 24 * 60 * MINUTE_US


@dataclass(frozen=True)
class Timeframe:
    """The windows of a table of candles: half-open, in UTC, aligned to 1970.

    Args:
        name: as in tables and routes, such as ``1m``.
        width_us: of a window, in microseconds.
        words: the same in a sentence, such as ``one-minute``.
        rolling_days: for so long a home with the ``rolling`` retention keeps its candles.
    """

    name: str
    width_us: int
    words: str
    rolling_days: int


ONE_MINUTE: Final = Timeframe("1m", MINUTE_US, "one-minute", 90)
TIMEFRAMES: Final = (
    ONE_MINUTE,
    Timeframe("5m", 5 * MINUTE_US, "five-minute", 180),
    Timeframe("15m", 15 * MINUTE_US, "fifteen-minute", 365),
    Timeframe("30m", 30 * MINUTE_US, "thirty-minute", 365),
    Timeframe("1h", 60 * MINUTE_US, "one-hour", 1095),
    Timeframe("1d", DAY_US, "one-day", 1825),
)
"""Those that are stored, finest first. The width of each is a multiple of a minute and divides a day."""
