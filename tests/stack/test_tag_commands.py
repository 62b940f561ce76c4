"""``k2 tag``: what it prints for people and for programs, and how it ends."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from starlette.testclient import TestClient

from k2_api.app import create_app
from k2_core.settings import Settings
from k2_stack.cli import main
from tests.api.lakes import KEY, Lake, a_candle, a_trade


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    made = Lake(tmp_path)
    yield made
    made.catalog.close()


def k2_tag(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["tag", *arguments])


def cells(done: Result) -> list[list[str]]:
    return [line.split() for line in done.stdout.splitlines()]


def test_a_tag_is_created_shown_by_the_api_listed_and_deleted(lake: Lake) -> None:
    trades, candles = lake.add([a_trade(1)]), lake.add_candles([a_candle()])

    created = k2_tag("create", "paper-1")
    lake.add([a_trade(2), a_trade(3)])

    assert created.exit_code == 0, created.stderr
    assert cells(created)[0] == ["tag", "table", "snapshot", "committed", "at", "rows"]
    assert [row[:3] + row[4:] for row in cells(created)[1:3]] == [
        ["paper-1", "gold_crypto_trades", str(trades), "1"],
        ["paper-1", "gold_ohlcv_1m", str(candles), "1"],
    ]
    assert created.stdout.splitlines()[3].startswith(
        "without rows at that moment, and so without the tag: gold_ohlcv_5m, "
    )
    assert cells(k2_tag("list")) == cells(created)[:3]
    with TestClient(create_app(Settings.model_validate({"home": lake.home, "api": {"key": KEY}}))) as client:
        shown = client.get("/v1/trades?as_of=paper-1", headers={"X-API-Key": KEY}).json()
    assert ([row["trade_id"] for row in shown["data"]], shown["meta"]["snapshot_id"]) == (["1"], str(trades))

    only = k2_tag("delete", "paper-1", "--table", "gold_ohlcv_1m")
    assert only.stdout.splitlines()[-1] == "deleted: paper-1 of 1 table"
    assert [row[1] for row in cells(k2_tag("list"))[1:]] == ["gold_crypto_trades"]
    assert k2_tag("delete", "paper-1").exit_code == 0
    assert k2_tag("list").stdout == "There are no tags; `k2 tag create NAME` names the newest state of the data.\n"


def test_list_gives_programs_ids_as_text_and_the_tables_of_each_tag(lake: Lake) -> None:
    first = lake.add([a_trade(1)])
    lake.add([a_trade(2)])
    lake.add_candles([a_candle()])
    assert k2_tag("create", "a", "--table", "gold_crypto_trades", "--as-of", str(first)).exit_code == 0
    assert k2_tag("create", "b").exit_code == 0

    found = json.loads(k2_tag("list", "-o", "json").stdout)

    assert [(each["tag"], [table["table"] for table in each["tables"]]) for each in found] == [
        ("a", ["gold_crypto_trades"]),
        ("b", ["gold_crypto_trades", "gold_ohlcv_1m"]),
    ]
    [of_a] = found[0]["tables"]
    assert (of_a["snapshot_id"], of_a["rows"], of_a["committed_at"][-1]) == (str(first), 1, "Z")
    assert json.loads(k2_tag("list", "--table", "gold_ohlcv_5m", "-o", "json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["create"], 2, "Missing argument 'NAME'"),
        (["create", "2026-11-21"], 2, "looks like a time"),
        (["create", "auto-day-2026-11-21"], 2, "maintenance"),
        (["create", "a b"], 2, "use up to 128 letters"),
        (["list", "-o", "csv"], 2, "'csv' is not one of"),
        (["create", "paper"], 1, "k2: gold_crypto_trades has no rows yet, so there is nothing to tag; `k2 status`"),
        (["create", "paper", "--table", "trades"], 1, "there is no table trades in this lake: `k2 tables list` shows"),
        (["list", "--table", "trades"], 1, "there is no table trades"),
        (["create", "paper", "--as-of", "x"], 1, "'x' is neither a tag nor a snapshot id"),
        (["delete", "paper"], 1, "no tag is called paper: `k2 tag list` shows those that there are"),
        (["delete", "auto-day-2026-11-21"], 1, "is an automatic tag"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(lake: Lake, arguments: list[str], code: int, said: str) -> None:
    done = k2_tag(*arguments)
    assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
    assert done.stdout == ""
    assert code == 2 or len(done.stderr.splitlines()) == 1


def test_a_time_before_everything_names_the_earliest_state(lake: Lake) -> None:
    lake.add([a_trade(1)])
    done = k2_tag("create", "paper", "--as-of", "2020-01-01")
    assert (done.exit_code, "the earliest that can be had is of " in done.stderr) == (1, True)


@pytest.mark.parametrize("arguments", [["create", "paper"], ["list"], ["delete", "paper"]])
def test_a_home_without_a_lake_is_refused_and_none_is_made(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path / "home"))
    done = k2_tag(*arguments)
    assert (done.exit_code, "there is no lake in" in done.stderr) == (1, True)
    assert not (tmp_path / "home").exists()
