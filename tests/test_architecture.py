"""What import-linter cannot say: names that tell nothing, and venue modules that are not twins."""

import ast
from pathlib import Path

import pytest

from k2_core.venues import VENUES
from k2_core.venues.limits import Limits

ROOT = Path(__file__).parents[1]
ROOMS = ("k2_core", "k2_feeds", "k2_assets", "k2_api", "k2_stack", "tests", "benchmarks")
NAMES_THAT_TELL_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
VENUE_TEMPLATE = [
    *("stream_url", "subscribe_frames", "route", "reply_of", "parse", "parse_quotes"),
    *("instrument_of", "instruments_url", "parse_instruments"),
]


def test_no_file_has_a_name_that_tells_nothing() -> None:
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    assert len(files) > len(ROOMS)
    assert [str(path) for path in files if NAMES_THAT_TELL_NOTHING & set(path.stem.split("_"))] == []


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_venue_is_a_twin_of_the_others(venue: str) -> None:
    tree = ast.parse((ROOT / "k2_core" / "venues" / f"{venue}.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    assert [function.name for function in functions] == VENUE_TEMPLATE
    assert all(ast.get_docstring(function) for function in functions)
    assert {"VENUE", "ASSET_CLASS", "LIMITS"} <= vars(VENUES[venue]).keys()
    assert isinstance(VENUES[venue].LIMITS, Limits)
    assert venue == VENUES[venue].VENUE


@pytest.mark.parametrize("room", [room for room in ROOMS if room.startswith("k2_")])
def test_every_module_says_what_lives_there(room: str) -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in (ROOT / room).rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []
