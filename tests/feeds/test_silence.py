"""Silence of a venue that acknowledges everything: a real feed and its connections, but no Kafka."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from k2_core import clock
from k2_core.settings import Feeds
from k2_core.venues import VENUES
from k2_feeds.health.feed_metrics import FeedMetrics
from k2_feeds.health.health_report import Running, VenueHealth
from k2_feeds.health.watch import Watch
from k2_feeds.kafka.publisher import Publisher
from k2_feeds.socket.connection import Connection
from k2_feeds.socket.fleet import Fleet, source_of
from k2_feeds.socket.listed_symbols import Listed
from k2_feeds.socket.silence import Silence
from tests.feeds.feed_fixtures import WITHIN_S, RecordingFeed, a_fed_venue, free_port, until
from tests.feeds.scripted_venue import ScriptedVenue, scripted

PAIRS = {"kraken": ("BTC/USD", "ETH/USD"), "coinbase": ("BTC-USD", "ETH-USD")}
SILENCE_S = 1.0


class Fed(NamedTuple):
    feed: RecordingFeed
    connection: Connection
    watch: Watch
    health: VenueHealth

    def of_kind(self, kind: str, channel: str) -> list[str]:
        """The connections' events of a kind and a channel, but for those of single symbols."""
        events = [event for event in self.feed.events if event.kind == kind and not event.symbol]
        return [event.connection_id for event in events if event.details.get("channel") == channel]


@asynccontextmanager
async def feeding(venue: ScriptedVenue) -> AsyncIterator[Fed]:
    section = {"url": venue.url, "rest_url": venue.rest_url, "symbols": tuple(venue.ids)}
    quick = {"backoff_first_s": 0.05, "backoff_last_s": 0.2, "silence_s": SILENCE_S}
    feeds = Feeds.model_validate({**quick, venue.name: section})
    source, feed = (
        source_of(feeds, venue.name),
        RecordingFeed(VENUES[venue.name], Publisher(f"127.0.0.1:{free_port()}")),
    )
    fleet, health = Fleet(source, feeds, feed), VenueHealth(source)
    watch = Watch(feed, fleet, Listed(source, feeds), feeds)
    health.running = Running(feed, fleet, watch, Counter())
    fleet.start()
    try:
        yield Fed(feed, fleet.connections[0], watch, health)
    finally:
        assert await fleet.stop(WITHIN_S)


@pytest.mark.parametrize("name", list(PAIRS))
async def test_a_channel_that_brings_nothing_but_its_snapshots_is_silent(name: str) -> None:
    with scripted(name, PAIRS[name]) as venue:
        venue.snapshots, venue.mute = True, {("quotes", symbol) for symbol in venue.ids}
        async with feeding(venue) as fed:
            await until(lambda: fed.connection.rotations["silence"] >= 2)
            fed.watch.look()
            assert [text.split(" and ")[0] for text in fed.watch.states.texts["silence"]] == [
                "the venue acknowledged quotes"
            ]
            (connection,) = fed.health.snapshot()["connections"]
            assert list(connection["silent"]) == ["quotes"]
            assert fed.of_kind("recovered", "quotes") == []
            venue.mute = set()
            await until(lambda: fed.of_kind("recovered", "quotes"))

    assert len(fed.of_kind("silence", "quotes")) == len(fed.of_kind("recovered", "quotes")) == 1


async def test_a_reconnect_ends_no_silence() -> None:
    with scripted("kraken", PAIRS["kraken"]) as venue:
        venue.mute = {("quotes", symbol) for symbol in venue.ids}
        async with feeding(venue) as fed:
            await until(lambda: fed.connection.rotations["silence"] >= 1)
            venue.unanswered = {("quotes", "BTC/USD"), ("quotes", "ETH/USD")}
            venue.do(venue.cut())
            await until(lambda: fed.connection.reconnects["closed"])
            await until(lambda: fed.connection.message.endswith("not yet subscribed"))
            fed.watch.look()
            assert "silence" in fed.watch.states
            venue.unanswered, venue.mute = set(), set()
            venue.do(venue.cut())
            await until(lambda: fed.of_kind("recovered", "quotes"))

    assert len(fed.of_kind("silence", "quotes")) == len(fed.of_kind("recovered", "quotes")) == 1


async def test_a_silent_connection_is_replaced_though_a_symbol_was_delisted_meanwhile() -> None:
    with scripted("kraken", PAIRS["kraken"]) as venue:
        venue.mute = {("quotes", "BTC/USD"), ("quotes", "ETH/USD"), ("trades", "ETH/USD")}
        async with feeding(venue) as fed:
            await until(lambda: fed.connection.acknowledged)
            session = fed.connection.session
            venue.refuses = {"ETH/USD"}
            await until(lambda: fed.connection.rotations["silence"] >= 1)
            successor = fed.connection.session
            assert successor is not None
            assert successor is not session
            assert {symbol for _, symbol in successor.refused} == {"ETH/USD"}


async def test_what_still_comes_is_not_given_up_for_the_sake_of_a_silent_channel() -> None:
    with scripted("kraken", PAIRS["kraken"]) as venue:
        async with feeding(venue) as fed:
            await until(lambda: fed.connection.acknowledged)
            session = fed.connection.session
            venue.busy, venue.mute = {("trades", "ETH/USD")}, {("quotes", symbol) for symbol in venue.ids}
            await until(lambda: [event for event in fed.feed.events if event.kind == "disconnect"])
            assert fed.connection.session is session
            assert fed.connection.rotations == {}
            venue.busy = set()
            await until(lambda: fed.connection.rotations["silence"] >= 1)


def test_a_renewal_stays_due_while_the_channel_is_silent_on_the_same_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began, settled, noted = clock.monotonic(), asyncio.Event(), list[str]()
    settled.set()

    def a_session(accepted_at: float) -> Any:
        stream = SimpleNamespace(heard={}, note=lambda kind, **_: noted.append(kind))
        accepted = {("trades", "BTCUSDT"): accepted_at}
        return SimpleNamespace(accepted=accepted, stream=stream, settled=settled, opened_ns=0)

    monkeypatch.setattr(clock, "monotonic", lambda: began + 1.5)
    silence, session, successor = Silence(1.0), a_session(began), a_session(began + 1.5)
    assert silence.broken(session)
    assert silence.broken(session)  # what was to take its place may have failed
    assert not silence.broken(successor)
    assert set(silence.silent) == {"trades"}
    session.stream.heard["trade", "BTCUSDT"] = clock.now_ns()
    assert not silence.broken(session)
    assert noted == ["silence", "recovered"]

    silence.broken(successor)
    successor.accepted[("trades", "BTCUSDT")] = began - 10
    assert silence.broken(successor)
    successor.accepted.clear()
    silence.broken(successor)
    assert silence.silent == {}
    assert noted == ["silence", "recovered"] * 2


async def test_a_feed_that_has_ended_is_counted_to_its_end_and_has_no_state() -> None:
    module, feeds = a_fed_venue(), Feeds()
    source = source_of(feeds, "binance")._replace(venue=module)
    feed = RecordingFeed(module, Publisher(f"127.0.0.1:{free_port()}"))
    fleet, listed, health = Fleet(source, feeds, feed), Listed(source, feeds), VenueHealth(source)
    watch, metrics = Watch(feed, fleet, listed, feeds), FeedMetrics([health])
    listed.unlisted = frozenset({"BTCUSDT"})
    watch.look()
    health.running = Running(feed, fleet, watch, Counter())
    state, breaks = (
        f'k2_feed_state{{exchange="{module.VENUE}",state="refused"}}',
        f'k2_feed_sequence_breaks_total{{exchange="{module.VENUE}"}}',
    )

    feed.sequence_breaks = 3
    said = metrics.exposition().decode()
    assert f"{state} 1.0" in said
    assert f"{breaks} 3.0" in said
    feed.sequence_breaks = 10
    health.waits("it broke")
    for _ in range(2):
        said = metrics.exposition().decode()
        assert f"{state} 0.0" in said
        assert f"{breaks} 10.0" in said
