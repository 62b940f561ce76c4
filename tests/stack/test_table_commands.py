"""``k2 tables``: what differs is shown, a dry run changes nothing, and what cannot be changed is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pyiceberg.types import IntegerType, LongType, StringType, TimestamptzType

from k2_core.lake import tables
from k2_core.lake.catalog import ensure_tables, open_catalog
from k2_core.lake.table_spec import DRAINED, Column, TableSpec
from k2_core.settings import Settings
from k2_stack import prepare
from k2_stack.cli import main

NAMESPACE = "market_data"
COUNT = Column("count", IntegerType(), "how many")
EARLIER = TableSpec(
    "sums",
    "Sums.",
    (COUNT, Column("at", TimestamptzType(), "when"), Column("name", StringType(), "whose")),
    "at",
    DRAINED,
)
LATER = replace(
    EARLIER,
    columns=(
        replace(COUNT, kind=LongType()),
        Column("note", StringType(), "why", required=False),
        *EARLIER.columns[1:],
    ),
)
NEVER = replace(EARLIER, columns=(replace(COUNT, kind=StringType()), *EARLIER.columns[1:]))


@pytest.fixture(name="home")
def a_home_of_an_earlier_k2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    monkeypatch.setattr(tables, "all_tables", lambda _: [LATER, replace(EARLIER, name="other")])
    ensure_tables(open_catalog(Settings(home=tmp_path)), NAMESPACE, [EARLIER])
    return tmp_path


def k2_tables(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["tables", *arguments])


def lines(done: Result) -> list[str]:
    return [" ".join(line.split()) for line in done.stdout.splitlines()]


def location(home: Path) -> str:
    return open_catalog(Settings(home=home)).load_table((NAMESPACE, EARLIER.name)).metadata_location


def test_list_shows_what_differs_and_what_changes_it(home: Path) -> None:
    done = k2_tables("list")

    assert done.exit_code == 0
    assert lines(done) == [
        f"{home}: format 1; this version of K2 makes format 1",
        "table rows iceberg differs",
        "sums 0 2 widen count from int to long; add column note (string) (`k2 up`)",
        "other it does not exist yet: `k2 up` creates it",
    ]


def test_migrate_says_what_it_would_do_and_then_does_it(home: Path) -> None:
    before = location(home)

    dry, real = k2_tables("migrate", "--dry-run"), k2_tables("migrate")

    wanted = ["sums: widen count from int to long", "sums: add column note (string)"]
    assert lines(dry) == [*wanted, "2 changes would be made."]
    assert lines(real) == [*wanted, "2 changes made."]
    assert location(home) != before
    assert lines(k2_tables("migrate")) == ["There is nothing to do: all tables are what this K2 makes."]


def test_dry_run_changes_nothing(home: Path) -> None:
    before = location(home)

    k2_tables("migrate", "--dry-run")

    assert location(home) == before


def test_migrate_refuses_what_iceberg_cannot_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "all_tables", lambda _: [NEVER])

    done = k2_tables("migrate")

    assert done.exit_code == 1
    assert lines(done) == [
        "sums: cannot be done: column count is int and should be string: Iceberg cannot turn the one into the other"
    ]
    assert done.stderr.startswith("k2: sums cannot be changed in place: go on with the version of K2 that made")
    assert home.exists()


def test_start_does_the_small_changes_and_names_the_others(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_assets.lake.first_partition._COUNTED", ())  # of tables that this lake does not have
    said = prepare.tables(Settings(home=home))

    assert said.startswith("run `k2 tables migrate --dry-run`")
    assert said.endswith(": sums: widen count from int to long")
    assert lines(k2_tables("list"))[2:] == ["sums 0 2 widen count from int to long", "other 0 2"]


def test_tables_are_not_looked_for_where_there_is_no_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path / "mistyped"))

    done = k2_tables("list")

    assert (done.exit_code, "there is no lake in" in done.stderr) == (1, True)
    assert not (tmp_path / "mistyped").exists()
