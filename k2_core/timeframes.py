"""The candle: its timeframes and windows."""

from typing import Final

MINUTE_US: Final = 60_000_000
TIMEFRAMES: Final = {"1m": MINUTE_US}


def window_start_us(timestamp_us: int, width_us: int) -> int:
    """Return the start of the half-open UTC window of ``width_us`` that holds ``timestamp_us``.

    >>> window_start_us(61_000_000, MINUTE_US)
    60000000
    """
    return timestamp_us - timestamp_us % width_us
