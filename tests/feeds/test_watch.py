import json
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from k2_core import clock
from k2_core.clock import NS_PER_SECOND
from k2_core.settings import Feeds
from k2_core.venues import binance, coinbase, kraken
from k2_feeds.health.fault_states import States
from k2_feeds.health.lateness import Lateness, Sample
from k2_feeds.health.watch import SEQUENCE_S, Watch
from k2_feeds.socket.fleet import source_of
from k2_feeds.socket.listed_symbols import Listed, fetch
from k2_feeds.socket.pacing import LONGEST_HOLD_S
from k2_feeds.socket.websockets import RateLimited
from tests.feeds.scripted_venue import _DATA, ScriptedVenue, scripted

T = 1_700_000_000 * NS_PER_SECOND


class Noted:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, str]]] = []

    def note(self, kind: str, symbol: str = "", **details: str) -> None:
        self.events.append((kind, symbol, details))


def seen(*delays_s: float, event_age_s: float | None = None, symbol: str = "BTCUSDT", every_s: float = 1.0) -> Lateness:
    """Samples one after the other; their events are as old as their publishing, or ``event_age_s``."""
    lateness = Lateness(30.0, 2.0)
    for number, delay_s in enumerate(delays_s):
        received_ns = T + int(number * every_s * NS_PER_SECOND)
        age_s = delay_s if event_age_s is None else event_age_s
        event_us, published_us = ((received_ns - int(s * NS_PER_SECOND)) // 1000 for s in (age_s, delay_s))
        lateness.see(Sample(symbol, received_ns, event_us, published_us))
    return lateness


def at(seconds: float) -> int:
    return T + int(seconds * NS_PER_SECOND)


def test_a_clock_that_is_right_shows_only_transport() -> None:
    lateness = seen(*[0.05, 0.2, 3.0] * 5)
    assert lateness.skew_s(at(15)) == pytest.approx(-0.05, abs=1e-5)
    assert lateness.skewed(at(15)) == {}


def test_some_frames_from_the_future_prove_a_clock_that_is_ahead() -> None:
    for ahead_s in (5.0, 3600.0):
        lateness = seen(0.1, *[-ahead_s] * 3)
        assert lateness.skewed(at(4)) == {("", ""): f"the venue's clock is {ahead_s:.1f} s ahead of ours"}
        assert lateness.skewed(at(70)) == {}


def test_one_frame_from_the_future_is_its_own_mistake_however_many_events_it_has() -> None:
    assert seen(0.1, -5.0, -5.0).skewed(at(3)) == {}
    lateness = seen(*[-5.0] * 4, every_s=0)
    assert (lateness.skew_s(at(1)), lateness.skewed(at(1))) == (None, {})
    assert seen(*[4.0] * 12, -9e6).skewed(at(13)) == {("", ""): "the venue's clock is 4.0 s behind ours"}


def test_an_event_whose_time_nobody_believes_hides_no_lag() -> None:
    lateness = seen(0.1, -9e6, *[45.0] * 61)
    assert lateness.newest is not None
    assert lateness.newest.lag_s == pytest.approx(45.0, abs=1e-3)
    assert lateness.lagging(at(63)) == {("", ""): "events come, but the newest of all is 46 s old"}


def test_a_symbol_that_is_not_fed_any_more_is_not_stale() -> None:
    lateness = seen(*[31.0] * 3)
    lateness.keep({"BTCUSDT"})
    assert len(lateness.stale()) == 1
    lateness.keep({"ETHUSDT"})
    assert lateness.stale() == {}


def test_a_clock_counts_as_behind_only_when_every_delay_of_some_time_is_long() -> None:
    assert seen(4.0, 4.1, 4.2).skewed(at(3)) == {}
    assert seen(*[4.5] * 12, 4.0).skewed(at(13)) == {("", ""): "the venue's clock is 4.0 s behind ours"}
    assert seen(*[4.5] * 12, 0.1).skewed(at(13)) == {}


def test_events_are_stale_when_several_in_a_row_are_old_at_receipt() -> None:
    assert seen(31.0, 31.0).stale() == {}
    assert seen(31.0, 31.0, 31.0).stale() == {("BTCUSDT", ""): "events of BTCUSDT are 31 s old when they come"}
    assert seen(31.0, 31.0, 31.0, 0.1).stale() == {}


def test_lag_is_said_while_events_come_and_all_are_old() -> None:
    lateness = seen(*[0.1] * 3, event_age_s=45.0)
    assert lateness.lagging(at(3)) == {("", ""): "events come, but the newest of all is 46 s old"}
    assert lateness.lagging(at(60)) == {}  # nothing comes: that is silence
    assert seen(*[0.1] * 3).lagging(at(3)) == {}


def test_a_state_is_noted_once_when_it_begins_and_once_when_it_is_over() -> None:
    noted = Noted()
    states = States(noted)  # type: ignore[arg-type]  # any kind
    wrong = {("BTCUSDT", "trades"): "no"}

    for now in ({}, wrong, wrong, {}, {}):
        states.hold("stale", now)
        assert ("stale" in states) == bool(now)

    about = {"channel": "trades"}
    assert noted.events == [
        ("stale", "BTCUSDT", {**about, "text": "no"}),
        ("recovered", "BTCUSDT", {"state": "stale", **about}),
    ]


def a_session(**accepted_at: float) -> Any:
    accepted = {("trades", symbol): at for symbol, at in accepted_at.items()}
    return SimpleNamespace(sample=[], refused={}, aliases={}, accepted=accepted, stream=SimpleNamespace(heard={}))


def a_watch(venue: Any, *wanted: tuple[str, str]) -> tuple[Watch, Any, Any]:
    """A watch over a feed that the test makes up: its counts, and one connection's newest frames."""
    session = a_session()
    connection = SimpleNamespace(session=session, silence=SimpleNamespace(silent={}), wanted=wanted)
    noted = Noted()
    feed = SimpleNamespace(venue=venue, gaps_found=Counter(), sequence_breaks=0, note=noted.note, noted=noted)
    settings = Feeds()
    listed = Listed(source_of(settings, venue.VENUE), settings)
    watch = Watch(feed, SimpleNamespace(connections=[connection]), listed, settings)  # type: ignore[arg-type]
    return watch, feed, session


@pytest.mark.parametrize("venue", [binance, kraken, coinbase])
def test_frames_of_every_venue_are_judged_and_snapshots_are_not(venue: Any) -> None:
    watch, _, session = a_watch(venue, ("trades", "BTC-USD"))
    now_ns = clock.now_ns()
    message = _DATA[venue.VENUE]("trades", "BTC-USD", 7, (now_ns - 60 * NS_PER_SECOND) // 1000)
    snapshot = json.dumps(message).replace('"update"', '"snapshot"').encode()
    old = json.dumps(message).encode()

    if venue is not binance:
        session.sample = [(now_ns, snapshot)] * 5
        watch.look()
        assert "stale" not in watch.states
    session.sample = [(now_ns, old)] * 3
    watch.look()

    assert watch.states.texts["stale"] == ["events of BTC-USD are 60 s old when they come"]
    assert watch.states.texts["lag"] == ["events come, but the newest of all is 60 s old"]
    assert session.sample == []


def test_a_symbol_that_was_acknowledged_and_brings_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ("trades", "BTCUSDT"), ("trades", "ETHUSDT"), ("quotes", "BTCUSDT")
    watch, feed, session = a_watch(binance, *wanted)
    began, at_ns = clock.monotonic(), clock.now_ns()
    session.accepted = dict.fromkeys(wanted, began)
    session.stream = SimpleNamespace(heard={("trade", "BTCUSDT"): at_ns + 390 * NS_PER_SECOND})
    session.stream.heard["quote", "BTCUSDT"] = at_ns + 10 * NS_PER_SECOND
    monkeypatch.setattr(clock, "monotonic", lambda: began + 400)
    monkeypatch.setattr(clock, "now_ns", lambda: at_ns + 400 * NS_PER_SECOND)

    watch.look()

    assert watch.states.texts["silence"] == [
        "trades of ETHUSDT were acknowledged and none has come for 400 s",
        "quotes of BTCUSDT were acknowledged and none has come for 390 s",
    ]
    session.stream.heard = dict.fromkeys((("trade", "BTCUSDT"), ("trade", "ETHUSDT"), ("quote", "BTCUSDT")), at_ns * 2)
    watch.look()
    assert [(kind, symbol) for kind, symbol, _ in feed.noted.events] == [
        ("silence", "ETHUSDT"),
        ("silence", "BTCUSDT"),
        *[("recovered", symbol) for _, symbol, _ in feed.noted.events[2:]],
    ]
    assert len(feed.noted.events) == 4


def test_a_reconnect_ends_no_symbols_silence_but_a_trade_or_a_refusal_does(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, feed, session = a_watch(binance, ("trades", "BTCUSDT"), ("trades", "ETHUSDT"))
    (connection,) = watch._fleet.connections
    began, at_ns = clock.monotonic(), clock.now_ns()
    session.accepted = a_session(BTCUSDT=began, ETHUSDT=began).accepted
    monkeypatch.setattr(clock, "monotonic", lambda: began + 400)
    monkeypatch.setattr(clock, "now_ns", lambda: at_ns + 400 * NS_PER_SECOND)
    watch.look()
    for each in (None, a_session(), a_session(BTCUSDT=began + 399, ETHUSDT=began + 399)):
        connection.session = each
        watch.look()
        assert len(watch.states.texts["silence"]) == 2
    assert [kind for kind, _, _ in feed.noted.events] == ["silence", "silence"]

    connection.session.stream.heard["trade", "BTCUSDT"] = at_ns + 399 * NS_PER_SECOND
    watch.look()
    assert watch.states.texts["silence"] == ["trades of ETHUSDT were acknowledged and none has come for 400 s"]
    connection.session.refused["trades", "ETHUSDT"] = connection.session.accepted.pop(("trades", "ETHUSDT"))
    watch.look()
    assert "silence" not in watch.states
    assert [(kind, symbol) for kind, symbol, _ in feed.noted.events[2:4]] == [
        ("recovered", "BTCUSDT"),
        ("recovered", "ETHUSDT"),
    ]


def test_events_of_a_symbol_that_is_refused_are_not_stale_any_more() -> None:
    watch, _, session = a_watch(kraken, ("trades", "BTC/USD"))
    now_ns = clock.now_ns()
    old = json.dumps(_DATA["kraken"]("trades", "BTC/USD", 7, (now_ns - 60 * NS_PER_SECOND) // 1000)).encode()
    session.sample = [(now_ns, old)] * 3
    watch.look()
    assert "stale" in watch.states
    session.refused = {("trades", "BTC/USD"): "Currency pair not supported BTC/USD"}
    watch.look()
    assert "stale" not in watch.states


def test_jumps_are_said_for_some_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, feed, _ = a_watch(binance)
    began = clock.monotonic()
    feed.gaps_found["BTCUSDT", "warning"] += 2
    feed.sequence_breaks = 1
    watch.look()
    assert watch.states.texts["sequence"] == ["ids or counters have jumped 3 times within 5 minutes"]

    monkeypatch.setattr(clock, "monotonic", lambda: began + SEQUENCE_S + 60)
    watch.look()
    assert "sequence" not in watch.states


def test_a_refusal_stays_until_the_venue_accepts() -> None:
    watch, _, session = a_watch(kraken)
    session.refused = {("trades", "FOO/BAR"): "Currency pair not supported FOO/BAR"}
    watch.look()
    session.refused = {}  # the next connection has not been answered yet
    watch.look()
    said = "kraken refuses trades of FOO/BAR: Currency pair not supported FOO/BAR; the other symbols are fed"
    assert watch.states.texts["refused"] == [said]
    session.accepted = {("trades", "FOO/BAR"): 1.0}
    watch.look()
    assert "refused" not in watch.states


@pytest.fixture(params=["binance", "kraken", "coinbase"])
def venue(request: pytest.FixtureRequest) -> Iterator[ScriptedVenue]:
    pairs = {"binance": ("BTCUSDT", "ETHUSDT"), "kraken": ("BTC/USD", "ETH/USD"), "coinbase": ("BTC-USD", "ETH-USD")}
    with scripted(request.param, pairs[request.param]) as venue:
        yield venue


async def test_the_list_of_symbols_is_asked_for_again_when_it_cannot_be_had(venue: ScriptedVenue) -> None:
    symbols = (*venue.ids, "NEWUSD")
    feeds = Feeds.model_validate({venue.name: {"rest_url": venue.rest_url, "symbols": symbols}})
    source = source_of(feeds, venue.name)
    listed = Listed(source, feeds)

    venue.rest_status, venue.retry_after = 429, "100"
    with pytest.raises(RateLimited, match="HTTP 429 and wants 100 s of rest"):
        await fetch(source, None)
    assert await listed._ask() >= 100
    venue.retry_after = "86400"
    assert await listed._ask() == LONGEST_HOLD_S
    venue.rest_status = 500
    assert 15 <= await listed._ask() <= 200
    assert listed.unlisted == frozenset()
    assert f"which symbols {venue.name} lists is not known" in listed.trouble

    venue.rest_status = 200
    assert await listed._ask() >= 3000
    assert listed.unlisted == {"NEWUSD"}
    assert listed.trouble == ""
    assert venue.rest_url in listed.sentence_of("NEWUSD")


@pytest.mark.parametrize(
    "url",
    ["http://[bad", "http://127.0.0.1:99999", "http://127.0.0.1:port", f"http://{'a' * 64}.com", "http://\x01", "x"],
)
async def test_a_url_that_cannot_be_one_is_trouble_of_the_list_alone(url: str) -> None:
    feeds = Feeds.model_validate({"binance": {"rest_url": url}})
    listed = Listed(source_of(feeds, "binance"), feeds)

    assert await listed._ask() > 0
    assert f"K2_FEEDS__BINANCE__REST_URL={url!r} cannot be used: " in listed.trouble
    assert listed.answered.is_set()
    assert listed.unlisted == frozenset()
