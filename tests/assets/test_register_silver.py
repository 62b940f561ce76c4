"""Silver by the register: what was unknown when it was received stays rejected, and a rebuilt day is the same."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from k2_assets.reference.register_refresh import VenueRefresh
from k2_core import clock
from k2_core.lake import tables
from k2_core.lake.tables import BRONZE_FEED_EVENTS
from k2_core.venues import binance
from tests.assets.drained import REJECTED, SILVER, DrainedLake, at, received
from tests.assets.frames import NOON_MS, a_quote_frame
from tests.assets.lakes import NOON
from tests.assets.registers import binance_list

MINUTE_MS = 60_000


@pytest.fixture(name="lake")
def a_drained_lake(tmp_path: Path) -> Iterator[DrainedLake]:
    made = DrainedLake(tmp_path / "home")
    yield made
    made.catalog.close()


@pytest.fixture(name="clock_at")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_to(minutes: float) -> None:
        moment: datetime = NOON + timedelta(minutes=minutes)
        monkeypatch.setattr(clock, "now", lambda: moment)

    return set_to


def register(lake: DrainedLake, *symbols: str) -> None:
    VenueRefresh(lake.catalog, lake.settings, binance, lambda _: binance_list(*symbols)).run()


def subscribe(lake: DrainedLake, symbol: str, minutes: float, venue: str = "binance", kind: str = "subscribe") -> None:
    at_ns = (NOON_MS + int(minutes * MINUTE_MS)) * 1_000_000
    event = {"at_ns": at_ns, "venue": venue, "kind": kind, "symbol": symbol, "connection_id": "c", "details": {}}
    origin = {"topic": "t", "topic_id": "i", "kafka_partition": 0, "kafka_offset": 0, "schema_id": 1, "key": None}
    times = {"kafka_timestamp": NOON, "ingestion_timestamp": NOON}
    lake.append(BRONZE_FEED_EVENTS, [event | origin | times | {"payload": b""}])


def trade(symbol: str, minutes: float, trade_id: int) -> bytes:
    return at(NOON_MS + int(minutes * MINUTE_MS), trade_id, s=symbol)


def symbols_and_quotes(lake: DrainedLake) -> dict[int, tuple[str, str]]:
    """Symbol and currency of each trade in silver."""
    return {row["source_sequence"]: (row["symbol"], row["currency"]) for row in lake.rows(SILVER)}


def rejected(lake: DrainedLake) -> list[int]:
    rows = lake.rows(REJECTED)
    assert {row["reason"] for row in rows} <= {"unknown_symbol"}
    return sorted(int(row["payload"].split(b'"t": ')[1].split(b",")[0]) for row in rows)


def assert_a_rebuild_changes_nothing(lake: DrainedLake) -> None:
    before = lake.picture(SILVER), lake.picture(REJECTED)
    assert lake.rebuild().days_changed == ()
    for spec in (SILVER, REJECTED):
        if lake.rows(spec):
            lake.table(spec).delete()
    lake.rebuild()
    assert (lake.picture(SILVER), lake.picture(REJECTED)) == before


def test_a_symbol_is_rejected_until_its_version_holds_and_a_rebuild_says_the_same(
    lake: DrainedLake, clock_at: Any
) -> None:
    clock_at(-60)
    register(lake, "BTC/USDT")
    lake.drain(trade("BTCUSDT", 0, 1), trade("NEWCOIN", 0, 2), trade("ETHBTC", 0, 3))

    clock_at(10)
    register(lake, "BTC/USDT", "NEW/COIN")
    lake.drain(trade("NEWCOIN", 11.99, 4), trade("NEWCOIN", 12, 5), trade("BTCUSDT", 12, 6))

    assert symbols_and_quotes(lake) == {1: ("BTCUSDT", "USDT"), 5: ("NEWCOIN", "COIN"), 6: ("BTCUSDT", "USDT")}
    assert rejected(lake) == [2, 3, 4]
    assert_a_rebuild_changes_nothing(lake)


def test_frames_from_before_the_register_are_judged_by_their_spelling(lake: DrainedLake, clock_at: Any) -> None:
    lake.drain(trade("ETHBTC", 0, 1), trade("NEWCOIN", 0, 2))
    clock_at(5)
    register(lake, "NEW/COIN")
    lake.drain(trade("ETHBTC", 6.99, 3), trade("ETHBTC", 7, 4), trade("NEWCOIN", 7, 5))

    assert symbols_and_quotes(lake) == {1: ("ETHBTC", "BTC"), 3: ("ETHBTC", "BTC"), 5: ("NEWCOIN", "COIN")}
    assert rejected(lake) == [2, 4]
    assert_a_rebuild_changes_nothing(lake)


def test_a_symbol_that_is_gone_from_the_list_stays_known(lake: DrainedLake, clock_at: Any) -> None:
    clock_at(-60)
    register(lake, "BTC/USDT", "OLD/COIN")
    clock_at(-30)
    register(lake, "BTC/USDT")
    lake.drain(trade("OLDCOIN", -40, 1), trade("OLDCOIN", 0, 2))

    assert symbols_and_quotes(lake) == dict.fromkeys((1, 2), ("OLDCOIN", "COIN"))
    assert_a_rebuild_changes_nothing(lake)


def test_a_subscribed_symbol_is_never_rejected_as_unknown(lake: DrainedLake, clock_at: Any) -> None:
    clock_at(-60)
    register(lake, "BTC/USDT")
    subscribe(lake, "oddcoin", 1)
    subscribe(lake, "ETHBTC", 1)
    subscribe(lake, "ELSECOIN", 0, venue="kraken")
    subscribe(lake, "REFCOIN", 0, kind="refused")
    frames = [trade("ODDCOIN", 0.99, 1), trade("ODDCOIN", 1, 2), trade("ETHBTC", 1, 3), trade("ELSECOIN", 1, 4)]
    lake.drain(*frames, trade("REFCOIN", 1, 5))

    assert symbols_and_quotes(lake) == {2: ("ODDCOIN", "UNKNOWN"), 3: ("ETHBTC", "BTC")}
    assert rejected(lake) == [1, 4, 5]
    assert_a_rebuild_changes_nothing(lake)


def test_quotes_are_judged_by_the_same_register(lake: DrainedLake, clock_at: Any) -> None:
    clock_at(-60)
    register(lake, "BTC/USDT", "NEW/COIN")
    subscribe(lake, "ODDCOIN", 0)
    symbols = ("BTCUSDT", "NEWCOIN", "ODDCOIN", "ELSECOIN")
    lake.drain(*(received(a_quote_frame(place, s=symbol)) for place, symbol in enumerate(symbols)), data="quotes")
    quotes = tables.silver("binance", "quotes")

    def stands() -> tuple[dict[str, str], list[str]]:
        reasons = [row["reason"] for row in lake.rows(REJECTED)]
        return {row["symbol"]: row["currency"] for row in lake.rows(quotes)}, reasons

    assert stands() == ({"BTCUSDT": "USDT", "NEWCOIN": "COIN", "ODDCOIN": "UNKNOWN"}, ["unknown_symbol"])
    before = lake.picture(quotes), lake.picture(REJECTED)
    lake.table(quotes).delete()
    lake.rebuild(data="quotes")
    assert (lake.picture(quotes), lake.picture(REJECTED)) == before


def test_a_subscription_that_comes_late_is_seen_by_the_next_batch_and_by_a_rebuild(
    lake: DrainedLake, clock_at: Any
) -> None:
    clock_at(-60)
    register(lake, "BTC/USDT")
    lake.drain(trade("ODDCOIN", 1, 1))
    assert rejected(lake) == [1]

    subscribe(lake, "ODDCOIN", 0)
    lake.drain(trade("ODDCOIN", 2, 2))
    assert sorted(symbols_and_quotes(lake)) == [2]

    lake.rebuild()
    assert (sorted(symbols_and_quotes(lake)), rejected(lake)) == ([1, 2], [])
    assert_a_rebuild_changes_nothing(lake)
