"""The one partition scheme of every asset: UTC days, the open one included."""

from datetime import date
from typing import Final

import dagster as dg

from k2_core import clock
from k2_core.trades import FIRST_DAY

DAILY: Final = dg.DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat(), end_offset=1)


def is_partition(day: date) -> bool:
    """Tell whether a day is a partition now: Dagster takes any key in a report and does not ask."""
    return FIRST_DAY <= day <= clock.now().date()
