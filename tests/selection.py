"""Which tests a run takes, in which order, and what its workers share out."""

import random
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
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
SLOW: Final = tuple(
    f"tests/{name}.py"
    for name in (
        *("api/test_ohlcv_route", "api/test_rejected_page", "api/test_trades_route", "assets/test_any_bytes"),
        *("assets/test_compaction", "assets/test_drain_ending", "assets/test_earlier_home", "assets/test_epochs"),
        *("assets/test_epochs_in_batches", "assets/test_event_log", "assets/test_refresh_quotes"),
        *("assets/test_table_history", "assets/test_maintain_job", "assets/test_interruptions"),
        *("assets/test_topic_lane", "assets/test_moved_gold", "assets/test_nasty_content", "assets/test_rebuild_day"),
        *("assets/test_rebuilt_days", "assets/test_reconcile", "assets/test_refine_loop", "assets/test_retention"),
        "assets/test_named_tags",
        *("core/test_instruments", "core/test_venues", "feeds/test_feed_process", "feeds/test_kafka_away"),
        *("feeds/test_simulator_faults", "feeds/test_simulator_process", "stack/test_accept_loss"),
        "stack/test_supervisor",
    )
)
"""Files whose tests take seconds each: every run takes a quarter, drawn, so that it is run before every commit."""
_LONGEST: Final = (_WHOLE_PLATFORMS, _FAULTS, "tests/feeds/", "tests/stack/", "tests/assets/test_reconcile.py")


def part_of(item: pytest.Item) -> str | None:
    """Return the part to which a test belongs by its marker ``reliability``; None for those that inject no faults."""
    marker = item.get_closest_marker("reliability")
    return str(marker.args[0]) if marker else None


def chosen(items: Iterable[pytest.Item], soak: str | None, seed: int, *, undrawn: bool = False) -> list[pytest.Item]:
    """Return the tests of a run, those that take longest first.

    Args:
        items: all that were collected.
        soak: the part whose long forms are wanted, or ``all``. With None the short forms run: of each group of suites
            that are marked ``drawn`` one, and of the slow files a quarter; all where a person chose a single file.
        seed: draws them.
        undrawn: whether to run all short forms.
    """
    if soak:
        return [item for item in items if part_of(item) is not None and soak in {part_of(item), "all"}]
    short = [item for item in items if not item.get_closest_marker("soak")]
    if len({_file(item.nodeid) for item in short}) > 1 and not undrawn:
        drawn, left = _drawn(short, seed), _left_out(short, seed)
        short = [item for item in short if (group := _group(item)) is None or _suite(item.nodeid) == drawn[group]]
        short = [item for item in short if item.nodeid not in left]
    return sorted(short, key=_shortness)


def _drawn(items: Iterable[pytest.Item], seed: int) -> dict[str, str]:
    """Draw a suite of each group."""
    suites: dict[str, set[str]] = {}
    for item in items:
        if group := _group(item):
            suites.setdefault(group, set()).add(_suite(item.nodeid))
    return {group: random.Random(f"{seed} {group}").choice(sorted(found)) for group, found in suites.items()}


def _left_out(items: Iterable[pytest.Item], seed: int) -> set[str]:
    """Draw three quarters of the tests of each slow file, which this run does without."""
    slow: dict[str, list[str]] = {}
    for item in items:
        if (file := _file(item.nodeid)) in SLOW:
            slow.setdefault(file, []).append(item.nodeid)
    return {
        each
        for file, found in slow.items()
        for each in random.Random(f"{seed} {file}").sample(found, 3 * len(found) // 4)
    }


def _group(item: pytest.Item) -> str | None:
    marker = item.get_closest_marker("drawn")
    return str(marker.args[0]) if marker else None


def _suite(nodeid: str) -> str:
    """Return what is drawn as one: the tests of a whole platform's file, which share it, elsewhere a single test."""
    return _file(nodeid) if nodeid.startswith(_WHOLE_PLATFORMS) else nodeid


def unit(nodeid: str) -> str:
    """Return what a worker takes at once: all whole platforms, one test that injects faults, or a file of tests."""
    if nodeid.startswith(_WHOLE_PLATFORMS):  # one at a time: each takes most of a core even when nothing is asked of it
        return _WHOLE_PLATFORMS
    return nodeid if nodeid.startswith(_FAULTS) else _file(nodeid)


@cache
def needs_broker(unit: str) -> bool:
    """Return whether tests of a unit start the session's broker: their file names the fixture."""
    file = Path(_file(unit))
    return file.is_file() and re.search(r"\bbroker: str", file.read_text()) is not None


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _shortness(item: pytest.Item) -> int:
    """Order whole platforms before other suites of faults, these before others that wait much, and the rest last."""
    return next((rank for rank, folder in enumerate(_LONGEST) if item.nodeid.startswith(folder)), len(_LONGEST))
