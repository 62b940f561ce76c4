"""The instrument register over several lists of a venue, in a real catalog."""

import threading
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from k2_assets.maintenance.table_round import TableRound
from k2_core import clock
from k2_core.errors import MalformedFrame
from k2_core.lake.tables import REFERENCE_INSTRUMENTS
from k2_core.settings import Maintenance, Settings
from tests.assets.registers import Registered, binance_list


@pytest.fixture(name="register")
def _register(tmp_path: Path) -> Registered:
    return Registered(tmp_path)


def test_a_first_list_opens_a_version_of_each_symbol(register: Registered) -> None:
    before = clock.now()

    found = register.refresh(binance_list("BTC/USDT", "SHIB/BNB"))

    assert (found.new, found.changed, found.delisted) == (["BTCUSDT", "SHIBBNB"], [], [])
    (version,) = register.versions("SHIBBNB")
    fetched_at, valid_from = version.pop("fetched_at"), version.pop("valid_from")
    assert before <= fetched_at <= valid_from - timedelta(seconds=120)
    assert version == {
        "exchange": "binance", "venue_symbol": "SHIBBNB", "symbol": "SHIBBNB", "base": "SHIB", "quote": "BNB",
        "tick_size": Decimal("0.01"), "lot_size": Decimal("0.00001"), "status": "trading", "venue_status": "TRADING",
        "tier": 2, "asset_class": "crypto", "valid_to": None,
        "source": "https://api.binance.com/api/v3/exchangeInfo",
    }  # fmt: skip
    assert register.asked == [version["source"]]


def test_tier_1_is_what_the_settings_feed_and_3_what_cannot_be_traded(register: Registered) -> None:
    register.refresh(binance_list("BTC/USDT", "FOO/BAR"))
    assert [register.versions(symbol)[-1]["tier"] for symbol in ("BTCUSDT", "FOOBAR")] == [1, 2]

    register.refresh(binance_list("BTC/USDT", "FOO/BAR", status="BREAK"))
    assert [register.versions(symbol)[-1]["tier"] for symbol in ("BTCUSDT", "FOOBAR")] == [1, 3]


def test_a_list_that_changes_nothing_commits_nothing(register: Registered) -> None:
    register.refresh(binance_list("BTC/USDT", "ETH/USDT"))
    snapshots, versions = register.snapshots(), register.versions("BTCUSDT")

    found = register.refresh(binance_list("ETH/USDT", "BTC/USDT"))

    assert found.rows == []
    assert (register.snapshots(), register.versions("BTCUSDT")) == (snapshots, versions)


def test_sizes_that_are_only_written_otherwise_are_no_change(register: Registered) -> None:
    register.refresh(binance_list("BTC/USDT"))
    again = binance_list("BTC/USDT").replace(b"0.01000000", b"1e-2")

    assert register.refresh(again).rows == []


def test_a_change_makes_a_version_and_closes_the_one_before_and_touches_no_other(register: Registered) -> None:
    register.refresh(binance_list("BTC/USDT", "ETH/USDT"))
    (first,), (other,) = register.versions("BTCUSDT"), register.versions("ETHUSDT")
    finer = binance_list("BTC/USDT", "ETH/USDT").replace(b"0.01000000", b"0.00100000", 1)

    found = register.refresh(finer)

    assert (found.new, found.changed, found.delisted) == ([], ["BTCUSDT"], [])
    closed, opened = register.versions("BTCUSDT")
    assert closed == first | {"valid_to": opened["valid_from"]}
    assert opened["valid_from"] > first["valid_from"]
    assert (opened["tick_size"], opened["valid_to"]) == (Decimal("0.001"), None)
    assert register.versions("ETHUSDT") == [other]


def test_a_symbol_that_is_not_listed_any_more_ends_with_a_version_that_says_so_once(register: Registered) -> None:
    register.refresh(binance_list("BTC/USDT", "LUNA/USDT"))

    assert register.refresh(binance_list("BTC/USDT")).delisted == ["LUNAUSDT"]
    closed, gone = register.versions("LUNAUSDT")
    assert closed["valid_to"] == gone["valid_from"]
    assert (gone["status"], gone["venue_status"], gone["tier"], gone["base"]) == ("delisted", "not listed", 3, "LUNA")
    assert register.refresh(binance_list("BTC/USDT")).rows == []

    assert register.refresh(binance_list("BTC/USDT", "LUNA/USDT")).changed == ["LUNAUSDT"]
    assert [row["status"] for row in register.versions("LUNAUSDT")] == ["trading", "delisted", "trading"]


def test_an_answer_that_is_no_list_changes_nothing(register: Registered) -> None:
    register.refresh(binance_list("BTC/USDT"))
    snapshots = register.snapshots()

    for body in (b'{"symbols":[]}', b"<html>", b'{"symbols":[{"symbol":"BTCUSDT"}]}'):
        with pytest.raises(MalformedFrame):
            register.refresh(body)
    assert register.snapshots() == snapshots


def test_a_size_that_its_column_cannot_hold_is_null_and_never_rounded(register: Registered) -> None:
    register.refresh(binance_list("BTC/USDT").replace(b"0.01000000", b"0.0000000000001"))

    assert register.versions("BTCUSDT")[0]["tick_size"] is None


def test_each_venue_has_its_own_versions(tmp_path: Path) -> None:
    binance, coinbase = Registered(tmp_path), Registered(tmp_path, "coinbase")
    binance.refresh(binance_list("BTC/USDT"))
    product = b'[{"id":"BTC-USDT","base_currency":"BTC","quote_currency":"USDT","status":"online"}]'

    coinbase.refresh(product)
    binance.refresh(binance_list("ETH/USDT"))

    assert [row["exchange"] for row in coinbase.versions("BTC-USDT")] == ["coinbase"]
    assert coinbase.versions("BTC-USDT")[0]["valid_to"] is None
    assert binance.versions("BTCUSDT")[0]["valid_to"] is not None


def test_refreshes_at_once_leave_one_open_version_of_each_symbol(tmp_path: Path) -> None:
    first = Registered(tmp_path)
    first.refresh(binance_list("BTC/USDT"))
    failures: list[BaseException] = []

    def refresh(number: int) -> None:
        try:
            Registered(tmp_path).refresh(binance_list("BTC/USDT", "ETH/USDT", status=f"WORD {number}"))
        except BaseException as error:  # noqa: BLE001  # reported by the test
            failures.append(error)

    threads = [threading.Thread(target=refresh, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    for symbol in ("BTCUSDT", "ETHUSDT"):
        versions = register_chain(first, symbol)
        assert {"WORD 0", "WORD 1", "WORD 2"} >= {row["venue_status"] for row in versions[1:]}


def register_chain(register: Registered, symbol: str) -> list[dict[str, object]]:
    """The versions of a symbol; fails unless each ends where the next begins and the last is open."""
    versions = register.versions(symbol)
    ends = [row["valid_to"] for row in versions]
    assert ends == [*(row["valid_from"] for row in versions[1:]), None]
    return versions


def test_maintenance_joins_the_files_and_changes_no_version(register: Registered) -> None:
    for number in range(6):
        register.refresh(binance_list("BTC/USDT", f"A{number}/USDT", status=f"WORD {number}"))
    versions = sorted(map(repr, register.lake.rows(REFERENCE_INSTRUMENTS)))
    lean = Maintenance(compact_files=2, compact_after_s=0, compact_gold_after_s=0, drained_keep_s=1, gold_keep_s=1)

    report = TableRound(register.lake.catalog, register.lake.namespace, REFERENCE_INSTRUMENTS, lean).run()

    assert report.put_off == []
    assert report.files_joined > 1
    assert sorted(map(repr, register.lake.rows(REFERENCE_INSTRUMENTS))) == versions
    assert register.refresh(binance_list("BTC/USDT", "A5/USDT", status="WORD 5")).rows == []
    assert len(register_chain(register, "BTCUSDT")) == 6


def test_the_margin_is_a_setting(tmp_path: Path) -> None:
    register = Registered(tmp_path)
    register.settings = Settings(home=tmp_path, reference={"valid_after_s": 3600})  # type: ignore[arg-type]  # pydantic

    register.refresh(binance_list("BTC/USDT"))

    (version,) = register.versions("BTCUSDT")
    assert version["valid_from"] - version["fetched_at"] >= timedelta(hours=1)
