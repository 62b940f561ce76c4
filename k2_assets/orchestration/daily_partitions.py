"""The one partition scheme of every asset: UTC days from the home's first partition, the open day included."""

from datetime import date

import dagster as dg


def daily(first: date) -> dg.DailyPartitionsDefinition:
    """Return the days from ``first`` to the open one."""
    return dg.DailyPartitionsDefinition(start_date=first.isoformat(), end_offset=1)
