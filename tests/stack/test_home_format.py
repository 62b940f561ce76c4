"""A home says which format it has; one that a newer K2 made is refused, and nothing in it changes."""

import importlib
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from k2_api import query_cli
from k2_api.api_errors import LakeUnavailable
from k2_api.lake.catalog_pointer import CatalogPointer
from k2_core.errors import NewerHome
from k2_core.home_format import FORMAT
from k2_core.lake.catalog import ensure_tables, format_of, open_catalog
from k2_core.lake.tables import GOLD_TRADES
from k2_core.settings import Settings
from k2_stack import cli

NAMESPACE = "market_data"
EVERY_COMMAND = [
    ["up", "--source", "simulator"],
    ["up", "--source", "simulator", "--detach"],
    ["status"],
    ["status", "--json"],
    ["maintain"],
    ["tables", "list"],
    ["tables", "migrate"],
    ["backfill", GOLD_TRADES.name, "--from", "2024-08-08", "--to", "2024-08-08"],
    ["drain", "accept-loss", "market.crypto.trades.binance.raw", "0", "--yes"],
    ["api"],
]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("K2_HOME", str(tmp_path / "home"))
    made = Settings(home=tmp_path / "home")
    with closing(open_catalog(made)) as catalog:
        ensure_tables(catalog, NAMESPACE, [GOLD_TRADES])
    return made


@pytest.fixture
def newer(settings: Settings) -> Settings:
    with closing(sqlite3.connect(settings.home / "catalog.db")) as database, database:
        database.execute("UPDATE k2_format SET format = ?", (FORMAT + 1,))
    return settings


def files_of(settings: Settings) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(settings.home.rglob("*")) if path.is_file()}


def sentence(settings: Settings) -> str:
    return (
        f"{settings.home} has format {FORMAT + 1}, and this version of K2 knows formats up to {FORMAT}: "
        "use the newer version of K2 that made it, or set K2_HOME to another home."
    )


def test_a_new_home_carries_this_format(settings: Settings) -> None:
    assert format_of(open_catalog(settings)) == FORMAT


def test_a_home_made_before_there_were_numbers_is_opened_and_gets_one(settings: Settings) -> None:
    with closing(sqlite3.connect(settings.home / "catalog.db")) as database, database:
        database.execute("DROP TABLE k2_format")
    catalog = open_catalog(settings)
    assert format_of(catalog) == 0

    ensure_tables(catalog, NAMESPACE, [GOLD_TRADES])

    assert format_of(open_catalog(settings)) == FORMAT


@pytest.mark.parametrize("arguments", EVERY_COMMAND, ids=" ".join)
def test_a_command_refuses_a_newer_home_and_changes_nothing(newer: Settings, arguments: list[str]) -> None:
    before = files_of(newer)

    done = CliRunner().invoke(cli.main, arguments)

    assert (done.exit_code, done.stderr) == (1, f"k2: {sentence(newer)}\n")
    assert files_of(newer) == before


def test_k2_query_refuses_a_newer_home(newer: Settings) -> None:
    done = CliRunner().invoke(query_cli.main, ["rejected"])

    assert (done.exit_code, done.stderr) == (1, f"k2-query: {sentence(newer)}\n")


def test_an_api_that_runs_already_says_so_of_a_newer_home(newer: Settings) -> None:
    with pytest.raises(LakeUnavailable, match=f"has format {FORMAT + 1}"):
        CatalogPointer(newer).table(GOLD_TRADES.name)


@pytest.mark.usefixtures("newer")
def test_a_code_server_does_not_start_on_a_newer_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "k2_assets.definitions", raising=False)

    with pytest.raises(NewerHome):
        importlib.import_module("k2_assets.definitions")
