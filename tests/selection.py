"""Which tests a run takes, and in which order: all but the long forms, or the long forms of one part. Pure."""

import random
from collections.abc import Iterable
from typing import Final

import pytest

PARTS: Final = (
    "drain",
    "races",
    "gold",
    "history",
    "surroundings",
    "poison",
    "venues",
    "parts",
    "supervision",
    "disk",
)
"""What ``make soak PART=…`` takes; each of at most 40 minutes on two cores."""


def part_of(item: pytest.Item) -> str | None:
    """Return the part to which a test belongs by its marker ``reliability``; None for those that inject no faults."""
    marker = item.get_closest_marker("reliability")
    return str(marker.args[0]) if marker else None


def chosen(items: Iterable[pytest.Item], soak: str | None, seed: int) -> list[pytest.Item]:
    """Return the tests of a run, those that take longest first.

    Args:
        items: all that were collected.
        soak: the part whose long forms are wanted, or ``all``; None for the short forms, of which one suite of those
            that are marked ``drawn`` runs.
        seed: draws that suite.
    """
    if soak:
        return [item for item in items if part_of(item) is not None and soak in {part_of(item), "all"}]
    short = [item for item in items if not item.get_closest_marker("soak")]
    suites = sorted({_suite(item) for item in short if item.get_closest_marker("drawn")})
    drawn = random.Random(seed).choice(suites) if len(suites) > 1 else None
    kept = [item for item in short if drawn is None or _suite(item) == drawn or not item.get_closest_marker("drawn")]
    return sorted(kept, key=_shortness)


def _suite(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _shortness(item: pytest.Item) -> int:
    """Order whole platforms before other suites of faults, and these before all others."""
    marks = ("xdist_group", "reliability", "integration")
    return next((rank for rank, mark in enumerate(marks) if item.get_closest_marker(mark)), len(marks))
