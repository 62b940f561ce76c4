"""``k2 keys``: a key is shown once, its hash never, and what cannot be done is one sentence."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from k2_api.access.key_store import digest
from k2_api.http.cursors import load_cursors
from k2_core.lake.catalog import open_catalog
from k2_core.settings import Settings
from k2_stack.cli import main


@pytest.fixture(name="home")
def a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    open_catalog(Settings(home=tmp_path)).close()
    return tmp_path


def k2_keys(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["keys", *arguments])


def created(*arguments: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(k2_keys("create", *arguments, "-o", "json").stdout)
    return made


def listed() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(k2_keys("list", "-o", "json").stdout)
    return rows


def test_create_prints_the_key_alone_and_what_it_allows_beside_it(home: Path) -> None:
    done = k2_keys("create", "the desk", "--role", "analyst", "-e", "KRAKEN", "-e", "binance", "--row-limit", "500")

    assert done.exit_code == 0
    assert re.fullmatch(r"k2_[\w-]{43}\n", done.stdout)
    [row] = listed()
    assert {name: row[name] for name in ("name", "role", "state", "exchanges", "row_limit", "rate")} == {
        "name": "the desk",
        "role": "analyst",
        "state": "valid",
        "exchanges": ["kraken", "binance"],
        "row_limit": 500,
        "rate": 100,
    }
    assert row["key_id"] in done.stderr
    assert "shown only now" in done.stderr


def test_list_is_empty_before_the_first_key(home: Path) -> None:
    assert listed() == []


def test_list_shows_neither_keys_nor_hashes(home: Path) -> None:
    first = created("first", "--expires", "2999-01-01", "--asset-class", "crypto")
    second = created("second")
    k2_keys("revoke", first["key_id"])

    forms = [k2_keys("list", "-o", form).stdout for form in ("table", "json", "csv")]

    for key in (first["key"], second["key"]):
        for shown in forms:
            assert key not in shown
            assert digest(key) not in shown
    plain = forms[0].splitlines()
    assert plain[0].split("\t")[:4] == ["key_id", "name", "role", "state"]
    assert plain[1].split("\t")[:8] == [first["key_id"], "first", "reader", "revoked", "all", "crypto", "none", "100"]
    assert plain[1].split("\t")[9] == "2999-01-01T00:00Z"
    assert plain[2].split("\t")[9] == "never"
    assert [row["name"] for row in listed()] == ["first", "second"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-e", "nyse"], "'nyse' is no exchange of K2; it has binance, coinbase, kraken"),
        (["-e", "binance,kraken"], "'binance,kraken' is no exchange of K2"),
        (["--asset-class", "equities"], "'equities' is no asset class of K2; it has crypto"),
        (["--role", "owner"], "'owner' is not one of 'reader', 'analyst', 'admin'"),
        (["--expires", "2020-01-01"], "it lies in the past"),
        (["--expires", "soon"], "'soon' is not a time"),
        (["--row-limit", "0"], "0 is not in the range"),
        (["--rate", "0"], "0 is not in the range"),
    ],
)
def test_what_a_key_cannot_allow_is_a_usage_error(home: Path, arguments: list[str], says: str) -> None:
    done = k2_keys("create", "desk", *arguments)

    assert done.exit_code == 2
    assert says in done.stderr
    assert listed() == []


@pytest.mark.parametrize("name", ["", " ", "-", "a\nb", "a" * 65, "\x1b[31mred", "né"])
def test_a_name_that_is_none_is_a_usage_error(home: Path, name: str) -> None:
    done = k2_keys("create", "--", name)

    assert done.exit_code == 2
    assert "is not a name: up to 64 letters" in done.stderr


def test_revoke_says_what_it_did_and_what_there_is_not_to_do(home: Path) -> None:
    key_id = created("desk")["key_id"]

    done = [k2_keys("revoke", each) for each in (key_id, key_id, "unknown")]

    assert [each.exit_code for each in done] == [0, 1, 1]
    assert done[0].stdout == f"The key {key_id} (desk) is revoked.\n"
    assert done[1].stderr == f"k2: the key {key_id} (desk) was revoked before: there is nothing to do.\n"
    assert done[2].stderr == "k2: no key has the id unknown: k2 keys list shows them.\n"
    assert [row["state"] for row in listed()] == ["revoked"]


def test_keys_are_not_looked_for_where_there_is_no_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path / "mistyped"))

    done = [k2_keys(*each) for each in (["list"], ["create", "desk"], ["revoke", "x"], ["rotate-cursors"])]

    assert [each.exit_code for each in done] == [1, 1, 1, 1]
    assert not (tmp_path / "mistyped").exists()


def test_a_database_that_cannot_be_used_is_one_sentence(home: Path) -> None:
    (home / "catalog.db").write_bytes(b"not a database" * 100)

    done = k2_keys("list")

    assert done.exit_code == 1
    assert done.stderr.startswith("k2: the catalog ")
    assert done.stderr.count("\n") == 1


def test_rotate_cursors_writes_a_new_secret(home: Path) -> None:
    before = load_cursors(home).secret

    done = k2_keys("rotate-cursors")

    assert done.exit_code == 0
    assert load_cursors(home).secret != before
