"""Which tests a run takes, in which order, and what its workers share out. Pure."""

import random
from collections.abc import Iterable
from typing import Final

import pytest

PARTS: Final = (
    "drain",
    "races",
    "gold",
    "rebuilds",
    "history",
    "surroundings",
    "poison",
    "venues",
    "parts",
    "supervision",
    "disk",
)
"""What ``make soak PART=…`` takes; each is meant to end within 40 minutes on two cores."""

_WHOLE_PLATFORMS: Final = "tests/integration/"
_FAULTS: Final = "tests/reliability/"
_LONGEST: Final = (_WHOLE_PLATFORMS, _FAULTS, "tests/feeds/", "tests/stack/", "tests/assets/test_reconcile.py")


def part_of(item: pytest.Item) -> str | None:
    """Return the part to which a test belongs by its marker ``reliability``; None for those that inject no faults."""
    marker = item.get_closest_marker("reliability")
    return str(marker.args[0]) if marker else None


def chosen(items: Iterable[pytest.Item], soak: str | None, seed: int) -> list[pytest.Item]:
    """Return the tests of a run, those that take longest first.

    Args:
        items: all that were collected.
        soak: the part whose long forms are wanted, or ``all``. With None the short forms run: of each group of suites
            that are marked ``drawn`` one, and all of them where a person chose a single file.
        seed: draws these suites.
    """
    if soak:
        return [item for item in items if part_of(item) is not None and soak in {part_of(item), "all"}]
    short = [item for item in items if not item.get_closest_marker("soak")]
    if len({_file(item.nodeid) for item in short}) > 1:
        drawn = _drawn(short, seed)
        short = [item for item in short if (group := _group(item)) is None or _suite(item.nodeid) == drawn[group]]
    return sorted(short, key=_shortness)


def _drawn(items: Iterable[pytest.Item], seed: int) -> dict[str, str]:
    """Draw a suite of each group."""
    suites: dict[str, set[str]] = {}
    for item in items:
        if group := _group(item):
            suites.setdefault(group, set()).add(_suite(item.nodeid))
    return {group: random.Random(f"{seed} {group}").choice(sorted(found)) for group, found in suites.items()}


def _group(item: pytest.Item) -> str | None:
    marker = item.get_closest_marker("drawn")
    return str(marker.args[0]) if marker else None


def _suite(nodeid: str) -> str:
    """Return what is drawn as one: the tests of a whole platform's file, which share it, elsewhere a single test."""
    return _file(nodeid) if nodeid.startswith(_WHOLE_PLATFORMS) else nodeid


def unit(nodeid: str) -> str:
    """Return what a worker takes at once: all whole platforms, one test that injects faults, or the tests of a file."""
    if nodeid.startswith(_WHOLE_PLATFORMS):
        return _WHOLE_PLATFORMS
    return nodeid if nodeid.startswith(_FAULTS) else _file(nodeid)


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _shortness(item: pytest.Item) -> int:
    """Order whole platforms before other suites of faults, these before others that wait much, and the rest last."""
    return next((rank for rank, folder in enumerate(_LONGEST) if item.nodeid.startswith(folder)), len(_LONGEST))
