"""A venue that refuses a whole request for the sake of some symbols, or serves a symbol under another name."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from k2_core.settings import Feeds
from k2_core.venues import VENUES
from k2_feeds.health.watch import Watch
from k2_feeds.socket.aliases import served_as
from k2_feeds.socket.fleet import Fleet, source_of
from k2_feeds.socket.listed_symbols import Listed
from k2_feeds.socket.session import Session
from tests.feeds.feed_fixtures import WITHIN_S, until
from tests.feeds.scripted_venue import ScriptedVenue, scripted
from tests.feeds.test_fleet import Lines

Refusal = Callable[[list[str], list[str]], dict[str, Any]]
COINBASE = ("BTC-USD", "ETH-USD", "ADA-USD", "SOL-USD", "XYZ-USD", "BAD-USD")
BINANCE = ("BTCUSDT", "ETHUSDT", "ADAUSDT", "SOLUSDT", "XYZUSDT", "BADUSDT")
KRAKEN = ("BTC/USD", "ETH/USD", "ADA/USD", "SOL/USD", "XYZ/USD", "BAD/USD")
FAILED = {"type": "error", "message": "Failed to subscribe"}
NOT_ONE = "is not a valid product"


def a_refusal(**fields: object) -> Refusal:
    return lambda _asked, _unknown: fields


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_feeds.socket.session.SETTLE_S", 0.05)
    monkeypatch.setattr("k2_feeds.socket.session.ACKNOWLEDGE_S", 0.5)


def a_fleet(venue: ScriptedVenue, symbols: tuple[str, ...]) -> tuple[Fleet, Lines]:
    section = {"url": venue.url, "rest_url": venue.rest_url, "symbols": symbols}
    quick = {"backoff_first_s": 0.05, "backoff_last_s": 0.2}
    feeds, lines = Feeds.model_validate({**quick, venue.name: section}), Lines(VENUES[venue.name])
    return Fleet(source_of(feeds, venue.name), feeds, lines), lines


def session_of(fleet: Fleet) -> Session:
    session = fleet.connections[0].session
    assert session is not None
    return session


@pytest.mark.parametrize(
    ("name", "symbols", "refusal"),
    [
        ("coinbase", COINBASE, lambda _, bad: {**FAILED, "reason": f"{bad[0]} {NOT_ONE}"}),
        ("coinbase", COINBASE, lambda _, bad: {"type": "error", "reason": f"{bad[0]} {NOT_ONE}"}),
        ("coinbase", COINBASE, lambda _, bad: {**FAILED, "details": {"products": bad}}),
        ("coinbase", COINBASE, lambda all_, bad: {**FAILED, "message": f"Failed: {', '.join(all_)}", "reason": bad[0]}),
        ("coinbase", COINBASE, lambda all_, _: {**FAILED, "message": f"Failed: {', '.join(all_)}"}),
        ("coinbase", COINBASE, a_refusal(**FAILED)),
        ("coinbase", COINBASE, a_refusal(type="error")),
        ("binance", BINANCE, a_refusal(error={"code": 2, "msg": "Invalid request"}, id=1)),
        ("binance", BINANCE, lambda _, bad: {"error": {"code": 2, "msg": "no", "data": {"symbol": bad[0]}}, "id": 1}),
        ("kraken", KRAKEN, a_refusal(method="subscribe", success=False, error="Currency pair not supported")),
        ("kraken", KRAKEN, lambda _, bad: {"method": "subscribe", "success": False, "symbol": None, "reason": bad[0]}),
    ],
)
async def test_what_a_refusal_is_about_is_found_and_the_others_are_fed(
    name: str, symbols: tuple[str, ...], refusal: Refusal
) -> None:
    bad, good = set(symbols[4:]), symbols[:4]
    with scripted(name, symbols) as venue:
        venue.refuses, venue.refusal = bad, refusal
        fleet, lines = a_fleet(venue, symbols)
        fleet.start()
        await until(lambda: fleet.ready and all(lines.ids(symbol) for symbol in good))
        assert {symbol for _, symbol in session_of(fleet).refused} == bad
        assert {symbol for _, symbol in session_of(fleet).accepted} == set(good)
        assert await fleet.stop(WITHIN_S)
    assert fleet.reconnects == {}
    assert len(lines.streams) == 1


async def test_many_bad_symbols_named_one_at_a_time_cost_no_good_one() -> None:
    bad = tuple(f"BAD{number}-USD" for number in range(9))
    with scripted("coinbase", (*bad, "BTC-USD")) as venue:
        venue.refuses, venue.refusal = set(bad), lambda _, found: {**FAILED, "reason": f"{found[0]} {NOT_ONE}."}
        fleet, lines = a_fleet(venue, (*bad, "BTC-USD"))
        fleet.start()
        await until(lambda: fleet.ready and lines.ids("BTC-USD"))
        assert {symbol for _, symbol in session_of(fleet).refused} == set(bad)
        assert await fleet.stop(WITHIN_S)


async def test_a_venue_that_refuses_all_without_a_name_is_asked_again_by_another_connection() -> None:
    with scripted("coinbase", COINBASE[:2]) as venue:
        venue.refuses, venue.refusal = set(COINBASE), a_refusal(**FAILED)
        fleet, _ = a_fleet(venue, COINBASE[:2])
        fleet.start()
        await until(lambda: fleet.reconnects["refused"] >= 1)
        await until(lambda: "the venue refuses the subscription: Failed to subscribe" in fleet.message)
        assert await fleet.stop(WITHIN_S)


async def test_each_refused_symbol_is_asked_for_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_feeds.socket.session.ASK_AGAIN_S", (0.1, 0.2))
    with scripted("coinbase", COINBASE) as venue:
        venue.refuses, venue.refusal = set(COINBASE[3:]), a_refusal(**FAILED)
        fleet, lines = a_fleet(venue, COINBASE)
        fleet.start()
        await until(lambda: fleet.ready)
        venue.refuses = {"XYZ-USD"}
        await until(lambda: {symbol for _, symbol in session_of(fleet).refused} == {"XYZ-USD"} and lines.ids("BAD-USD"))
        assert await fleet.stop(WITHIN_S)


@pytest.mark.parametrize("acknowledges", [True, False], ids=["acknowledged so", "served so"])
@pytest.mark.parametrize(
    ("name", "symbols", "symbol", "other"),
    [
        ("coinbase", ("BTC-USDC",), "BTC-USDC", "BTC-USD"),
        ("coinbase", ("BTC-USDC", "ETH-USD"), "BTC-USDC", "BTC-USD"),
        ("kraken", ("XBT/USD", "ETH/USD"), "XBT/USD", "BTC/USD"),
        ("binance", ("MATICUSDT",), "MATICUSDT", "POLUSDT"),
    ],
)
async def test_a_symbol_that_comes_under_another_name_is_reported_once_and_the_connection_stays(
    name: str, symbols: tuple[str, ...], symbol: str, other: str, *, acknowledges: bool
) -> None:
    with scripted(name, (*symbols, other)) as venue:
        venue.aliases, venue.acknowledges_aliases = {symbol: other}, acknowledges
        fleet, lines = a_fleet(venue, symbols)
        fleet.start()
        await until(lambda: fleet.ready and len(lines.ids(other)) > 5)
        await until(lambda: session_of(fleet).aliases == {(data, symbol): other for data in ("trades", "quotes")})
        watch = Watch(a_feed(name), fleet, Listed(fleet.source, Feeds()), Feeds())
        watch.look()
        sentence = f"{name} serves {symbol} as {other}: it is stored under the symbol of {other}"
        assert watch.states.texts == {"alias": [sentence]}
        assert await fleet.stop(WITHIN_S)
    assert fleet.reconnects == {}
    assert len(lines.streams) == 1


@pytest.mark.parametrize(("name", "symbols"), [("binance", BINANCE), ("kraken", KRAKEN), ("coinbase", COINBASE)])
async def test_data_that_comes_without_an_acknowledgement_is_one(name: str, symbols: tuple[str, ...]) -> None:
    with scripted(name, symbols) as venue:
        venue.acknowledges = False
        fleet, lines = a_fleet(venue, symbols)
        fleet.start()
        await until(lambda: fleet.ready)
        assert session_of(fleet).accepted.keys() == set(fleet.connections[0].wanted)
        session_of(fleet).renew_at = 0.0
        await until(lambda: fleet.connections[0].rotations == {"rotation": 1})
        assert await fleet.stop(WITHIN_S)
    assert fleet.reconnects == {}
    assert len(lines.streams) == 2


@pytest.mark.parametrize(
    ("source", "unlisted"),
    [
        ("recording a.txt.gz", set()),
        ("recording", set()),
        ("simulator", {"XBT/USD", "XBTUSD"}),
        ("", {"XBT/USD", "XBTUSD"}),
    ],
)
async def test_a_recordings_symbols_are_fed_whatever_is_listed(source: str, unlisted: set[str]) -> None:
    with scripted("kraken", ("BTC/USD",)) as venue:
        symbols = ("BTC/USD", "XBT/USD", "XBTUSD")
        feeds = Feeds.model_validate({"source": source, "kraken": {"rest_url": venue.rest_url, "symbols": symbols}})
        listed = Listed(source_of(feeds, "kraken"), feeds)
        asking = asyncio.create_task(listed.keep_asking(lambda: None))
        async with asyncio.timeout(WITHIN_S):
            await listed.answered.wait()
        asking.cancel()
    assert listed.unlisted == unlisted


def a_feed(name: str) -> Any:
    return SimpleNamespace(
        venue=VENUES[name], gaps_found=SimpleNamespace(total=lambda: 0), sequence_breaks=0, note=lambda *_, **__: None
    )


def test_a_name_stands_for_the_symbol_that_is_documented_of_one_base_or_the_only_one() -> None:
    coinbase = VENUES["coinbase"]
    both = {"BTC-USDC", "BTC-USD"}
    assert served_as(coinbase, {"BTC-USDC"}, {"BTC-USD"}, both) == {"BTC-USDC": "BTC-USD"}
    assert served_as(coinbase, {"BTC-EUR", "ETH-EUR"}, {"BTC-USD"}, {"BTC-EUR", "ETH-EUR"}) == {"BTC-EUR": "BTC-USD"}
    assert served_as(coinbase, {"MATIC-USD"}, {"POL-USD"}, {"MATIC-USD"}) == {"MATIC-USD": "POL-USD"}
    assert served_as(coinbase, {"A-USD", "B-USD"}, {"C-USD"}, {"A-USD", "B-USD"}) == {}
    assert served_as(coinbase, {"ETH-USD"}, {"BTC-USD"}, {"BTC-USD", "ETH-USD"}) == {}
    assert served_as(coinbase, {"ADA-EUR"}, {"BTC-USD"}, {"ADA-EUR", "ETH-USD"}) == {}
    assert served_as(coinbase, {"ADA-USD"}, {"BTC-USD", "BTC-USDC"}, {"ADA-USD", "BTC-USDC"}) == {}
    assert served_as(coinbase, {"BTC-EUR", "BTC-GBP"}, {"BTC-USD"}, {"BTC-EUR", "BTC-GBP"}) == {}
    assert served_as(coinbase, {"MATIC-USD"}, {"POL-USD", "ADA-USD"}, {"MATIC-USD"}) == {}
