"""None but k2 up makes a home: what is asked of a mistyped one is refused, and changes nothing."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from k2_api.query_cli import main as k2_query
from k2_core.errors import PartError, SettingsError
from k2_core.lake.catalog import open_catalog, require_lake
from k2_core.settings import Catalog, Kafka, Settings
from k2_stack import stack_state
from k2_stack.cli import main as k2
from tests.stack.homes import running_home

NO_LAKE = "there is no lake in {home}: set K2_HOME to the home of one"
NO_PLATFORM = "no platform runs from {home}: start it with `k2 up`, or set K2_HOME to the home of one."
DAYS = "--from 2024-08-09 --to 2024-08-09"


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (k2, "maintain", NO_LAKE),
        (k2, "api", NO_LAKE),
        (k2_query, "rejected", NO_LAKE),
        (k2_query, "rejected --summary -e kraken", NO_LAKE),
        (k2, f"backfill gold_crypto_trades {DAYS}", NO_PLATFORM),
        (k2, "drain accept-loss market.crypto.trades.binance.raw 0 --yes", NO_PLATFORM),
        (k2, "feed handover binance", "nothing feeds binance under {home}"),
        (k2, "feed run binance", "there is no home of K2 at {home}: set K2_HOME to one that k2 up has made"),
        (k2, "logs feed", "{home}/logs/feed.log does not exist"),
    ],
)
def test_a_command_refuses_a_home_that_is_not_there(
    command: click.Command, arguments: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "mistyped"
    monkeypatch.setenv("K2_HOME", str(home))

    done = CliRunner().invoke(command, arguments.split())

    assert done.exit_code == 1
    assert said.format(home=home) in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", ["down", "status --json"])
def test_a_command_that_only_looks_makes_no_home(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path / "mistyped"))

    done = CliRunner().invoke(k2, arguments.split())

    assert str(tmp_path / "mistyped") in done.output
    assert list(tmp_path.iterdir()) == []


def test_accepting_a_loss_needs_the_lake_also_with_a_kafka_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path / "mistyped"))
    monkeypatch.setenv("K2_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")

    done = CliRunner().invoke(k2, ["drain", "accept-loss", "market.crypto.trades.binance.raw", "0", "--yes"])

    assert "there is no lake in" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_lake_is_there_when_its_catalog_is(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    open_catalog(settings)
    require_lake(settings)
    elsewhere = Settings(home=tmp_path, catalog=Catalog(uri=f"sqlite:///{tmp_path}/catalogue.db?timeout=3"))
    with pytest.raises(SettingsError, match=f"no lake's catalog at {tmp_path}/catalogue.db: set K2_CATALOG__URI"):
        require_lake(elsewhere)
    (tmp_path / "catalogue.db").touch()
    with pytest.raises(SettingsError, match=f"no lake's catalog at {tmp_path}/catalogue.db: set K2_CATALOG__URI"):
        require_lake(elsewhere)
    require_lake(Settings(home=tmp_path / "none", catalog=Catalog(uri=f"sqlite:///{tmp_path}/catalog.db")))


def test_k2_down_leaves_a_folder_that_is_no_home_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path))

    done = CliRunner().invoke(k2, ["down"])

    assert (done.exit_code, done.output) == (0, f"Nothing of {tmp_path} is running.\n")
    assert list(tmp_path.iterdir()) == []


def test_settings_are_bound_to_what_the_homes_own_platform_runs(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with running_home(settings, broker="127.0.0.1:7", registry="http://127.0.0.1:8/apis/ccompat/v7"):
        found = stack_state.bound(settings)
    assert (found.bootstrap_servers, found.registry_url) == ("127.0.0.1:7", "http://127.0.0.1:8/apis/ccompat/v7")
    with pytest.raises(PartError, match="no platform runs from"):
        stack_state.bound(settings)
    own = Settings(home=tmp_path, kafka=Kafka(bootstrap_servers="kafka:9092"))
    assert stack_state.bound(own) is own


def test_a_state_of_an_earlier_platform_is_not_the_one_that_runs(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with running_home(settings, api="http://127.0.0.1:1") as now:
        stack_state.write(settings, type(now)(now.home, now.source, now.pid + 1, now.process_started, []))
        with pytest.raises(PartError, match="no platform runs from"):
            stack_state.running(settings)
