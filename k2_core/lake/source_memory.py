"""What a derived table remembers of its sources: the property of ``{source table's UUID: {day: sequence number}}``."""

import json
from collections.abc import Mapping
from typing import Final

SEEN: Final = "k2.seen"
REPLACING: Final = "k2.replacing"
"""In the summary of a snapshot that puts new rows in the place of others: those that only move rows carry none."""
DAYS_REMEMBERED = 400


def seen_days(properties: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Read the memory from a derived table's properties; empty when there is none yet."""
    stored: dict[str, dict[str, int]] = json.loads(properties.get(SEEN, "{}"))
    return stored


def newest_days(days: Mapping[str, int]) -> dict[str, int]:
    """Return the memory of one source as it is kept: its newest 400 days."""
    return dict(sorted(days.items())[-DAYS_REMEMBERED:])


def oldest_remembered(days: Mapping[str, int]) -> str:
    """Return the first day that a full memory of one source covers; empty while it covers all days."""
    return min(days) if len(days) >= DAYS_REMEMBERED else ""
