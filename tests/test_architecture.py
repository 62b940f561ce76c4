"""What import-linter and mypy cannot say: names that tell nothing, and what a venue is beyond its types."""

import ast
import inspect
import json
import re
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from k2_core.instruments import Listing
from k2_core.quotes import VenueQuote
from k2_core.settings import Feeds
from k2_core.trades import VenueTrade
from k2_core.venues import VENUES
from k2_core.venues.venue_protocol import Venue
from k2_feeds.simulator.dialects import DIALECTS, venue_of_rest, venue_of_socket
from tests import selection

ROOT = Path(__file__).parents[1]
PACKAGES = ("k2_core", "k2_feeds", "k2_assets", "k2_api", "k2_stack", "tests", "benchmarks")
NAMES_THAT_TELL_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
PARSERS = ("reply_of", "parse", "parse_quotes", "parse_instruments")


def test_no_file_has_a_name_that_tells_nothing() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(files) > len(PACKAGES)
    assert [str(path) for path in files if NAMES_THAT_TELL_NOTHING & set(path.stem.split("_"))] == []


def test_files_of_which_a_run_takes_a_quarter_are_there() -> None:
    assert [name for name in selection.SLOW if not (ROOT / name).is_file()] == []


def documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/**/*.md")]


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    paths = {
        found.rstrip("./")
        for found in re.findall(r"(?<![\w/.-])((?:k2_\w+|tests|docs|benchmarks)/[\w./-]+)(?![\w./<*-])", text)
    }
    assert {path for path in paths if not (ROOT / path).exists()} == set()
    files = {path.name for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert set(re.findall(r"`(\w+\.py)`", text)) - files == set()
    modules = re.findall(r"(?:from|import|-m) ((?:k2_\w+)(?:\.\w+)*)", text)
    assert {name for name in modules if find_spec(name) is None} == set()


def test_every_module_has_a_name_of_its_own() -> None:
    """Layers have the same few shells, and a venue's wire format, its simulated twin and its route share its noun."""
    shared = {"__init__", "__main__", "assets", "checks", "binance", "coinbase", "kraken", "trades", "instruments"}
    stems = Counter(
        path.stem for package in PACKAGES if package.startswith("k2_") for path in (ROOT / package).rglob("*.py")
    )
    assert {stem for stem, count in stems.items() if count > 1} <= shared


EVERY_VENUE = pytest.mark.parametrize("venue", sorted(VENUES))


def functions_of(members: Mapping[str, Any], module: str) -> list[str]:
    found = {name: each for name, each in members.items() if inspect.isfunction(each) and each.__module__ == module}
    return [name for name in found if not name.startswith("_")]


@EVERY_VENUE
def test_venue_has_the_functions_of_the_protocol_in_its_order_and_no_others(venue: str) -> None:
    module = VENUES[venue]
    names = functions_of(vars(module), f"k2_core.venues.{venue}")
    assert names == functions_of(vars(Venue), Venue.__module__)
    assert all(getattr(module, name).__doc__ for name in names)


@EVERY_VENUE
def test_venue_names_itself_and_its_source(venue: str) -> None:
    module = VENUES[venue]
    assert venue == module.VENUE
    assert module.ASSET_CLASS in {"equities", "crypto", "futures", "options"}
    assert "Source: " in (module.__doc__ or "")


def test_each_venue_has_limits_of_its_own() -> None:
    assert len({id(venue.LIMITS) for venue in VENUES.values()}) == len(VENUES)


@EVERY_VENUE
def test_each_parser_of_a_venue_shows_one_real_message_and_reads_it(venue: str) -> None:
    module = VENUES[venue]
    read = {name: getattr(module, name)(message_in(getattr(module, name))) for name in PARSERS}
    assert [type(trade) for trade in read["parse"]] == [VenueTrade]
    assert [type(quote) for quote in read["parse_quotes"]] == [VenueQuote]
    assert [type(listing) for listing in read["parse_instruments"]] == [Listing]
    assert read["reply_of"].accepted
    assert module.route(message_in(module.parse)).channel == "trade"
    assert module.route(message_in(module.parse_quotes)).channel == "quote"


def message_in(parser: Any) -> bytes:
    """The first JSON text in a docstring, put together from its lines."""
    found = re.search(r"``([{\[].*?)``", inspect.cleandoc(parser.__doc__), re.DOTALL)
    assert found is not None, parser
    message = found[1].replace("\n", "")
    json.loads(message)
    return message.encode()


@EVERY_VENUE
def test_venue_has_a_section_of_settings(venue: str) -> None:
    fed = Feeds().of(venue)
    assert fed.url.startswith("wss://")
    assert fed.rest_url.startswith("https://")
    assert len(fed.symbols) >= 12
    assert all(VENUES[venue].instrument_of(symbol) for symbol in fed.symbols)
    assert VENUES[venue].subscribe_frames(fed.symbols, ("trades", "quotes"))


@EVERY_VENUE
def test_the_simulator_speaks_for_every_venue(venue: str) -> None:
    assert venue in DIALECTS
    assert venue_of_socket(urlsplit(VENUES[venue].stream_url("ws://simulator")).path) == venue
    assert venue_of_rest(urlsplit(VENUES[venue].instruments_url("http://simulator")).path) == venue


@pytest.mark.parametrize("package", [package for package in PACKAGES if package.startswith("k2_")])
def test_every_module_says_what_lives_there(package: str) -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in (ROOT / package).rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []
