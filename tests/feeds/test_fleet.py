import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from k2_core.errors import SettingsError
from k2_core.settings import Feeds
from k2_core.venues import VENUES, binance
from k2_core.venues.venue_protocol import Venue
from k2_feeds.kafka.feed_events import Kind
from k2_feeds.simulator.frame_sources import MarketSource
from k2_feeds.socket.fleet import Fleet, most_symbols, source_of, spread
from k2_feeds.socket.listed_symbols import fetch
from k2_feeds.socket.pacing import Pace
from k2_feeds.socket.websockets import trusted
from tests.feeds.feed_fixtures import WITHIN_S, simulating, until
from tests.feeds.scripted_venue import _DATA, ScriptedVenue, scripted

PAIRS = {"binance": ("BTCUSDT", "ETHUSDT"), "kraken": ("BTC/USD", "ETH/USD"), "coinbase": ("BTC-USD", "ETH-USD")}
EVERY_VENUE = pytest.mark.parametrize("name", list(PAIRS))


class Lines:
    """A sink: every connection's stream, what each brought, and all events."""

    full = False

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.streams: list[Line] = []
        self.events: list[tuple[str, str, dict[str, str]]] = []

    async def wait_until_accepted(self) -> None:
        """Never waited for."""

    def open(self, connection_id: str) -> "Line":
        self.streams.append(Line(self, connection_id))
        return self.streams[-1]

    def of_kind(self, kind: str) -> list[tuple[str, dict[str, str]]]:
        return [(symbol, details) for found, symbol, details in self.events if found == kind]

    def ids(self, symbol: str) -> list[int]:
        return sorted({each for stream in self.streams for each in stream.ids.get(symbol, ())})


class Line:
    def __init__(self, lines: Lines, connection_id: str) -> None:
        self.heard: dict[tuple[str, str], int] = {}
        self.ids: dict[str, list[int]] = {}
        self.lines, self.connection_id, self.open = lines, connection_id, True

    def take(self, received_ns: int, payload: bytes) -> None:
        assert self.open
        route = self.lines.venue.route(payload)
        if route.symbol:
            self.heard[route.channel, route.symbol] = received_ns
        for symbol, first, last in route.runs:
            self.ids.setdefault(symbol, []).extend(range(first, last + 1))

    def note(self, kind: Kind, symbol: str = "", **details: str) -> None:
        self.lines.events.append((kind, symbol, details))

    def close(self) -> None:
        self.open = False


def feeds_of(venue: ScriptedVenue, **more: object) -> Feeds:
    section = {"url": venue.url, "rest_url": venue.rest_url, "symbols": tuple(venue.ids)}
    quick = {"backoff_first_s": 0.05, "backoff_last_s": 0.2}
    return Feeds.model_validate({**quick, venue.name: section, **more})


@asynccontextmanager
async def running(venue: ScriptedVenue, **more: object) -> AsyncIterator[tuple[Fleet, Lines]]:
    feeds, lines = feeds_of(venue, **more), Lines(VENUES[venue.name])
    fleet = Fleet(source_of(feeds, venue.name), feeds, lines)
    fleet.start()
    try:
        yield fleet, lines
    finally:
        assert await fleet.stop(WITHIN_S)


async def served(venue: ScriptedVenue, lines: Lines, trades: int) -> None:
    """Wait until so many more trades of each symbol have come."""
    before = {symbol: len(lines.ids(symbol)) for symbol in venue.ids}
    await until(lambda: all(len(lines.ids(symbol)) >= before[symbol] + trades for symbol in venue.ids))


def hold_whole(lines: Lines, symbol: str) -> None:
    ids = lines.ids(symbol)
    assert ids == list(range(ids[0], ids[-1] + 1))


@EVERY_VENUE
async def test_a_planned_renewal_overlaps_and_misses_no_trade(name: str) -> None:
    with scripted(name, PAIRS[name]) as venue:
        async with running(venue, rotate_after_s=1.0) as (fleet, lines):
            await until(lambda: fleet.connections[0].rotations["rotation"] >= 2)
            await served(venue, lines, 10)

        assert venue.busiest == 2
    assert fleet.reconnects == {}
    for symbol in venue.ids:
        hold_whole(lines, symbol)
    rotations = lines.of_kind("rotation")
    assert [details["successor"] for _, details in rotations] == [each.connection_id for each in lines.streams[1:]][
        : len(rotations)
    ]
    subscribed = [(symbol, details["channel"]) for symbol, details in lines.of_kind("subscribe")]
    assert set(subscribed) == {(symbol, data) for symbol in venue.ids for data in ("trades", "quotes")}


async def test_a_connection_whose_end_binance_announces_is_renewed_before_it() -> None:
    with scripted("binance", PAIRS["binance"]) as venue:
        async with running(venue) as (fleet, lines):
            await served(venue, lines, 5)
            venue.do(venue.say(b'{"e":"serverShutdown","E":1770123456789}'))
            await until(lambda: fleet.connections[0].rotations["shutdown"] == 1)
            await served(venue, lines, 5)

    assert fleet.reconnects == {}
    for symbol in venue.ids:
        hold_whole(lines, symbol)


async def test_the_present_connection_goes_on_while_there_can_be_no_next_one() -> None:
    with scripted("kraken", PAIRS["kraken"]) as venue:
        async with running(venue, rotate_after_s=2.0) as (fleet, lines):
            await until(lambda: fleet.ready)
            venue.refuse_with = 500
            await until(lambda: fleet.reconnects["unreachable"] >= 2)
            assert fleet.connected
            await served(venue, lines, 5)
            venue.refuse_with = None
            await until(lambda: fleet.connections[0].rotations["rotation"] >= 1)
            await served(venue, lines, 5)

    for symbol in venue.ids:
        hold_whole(lines, symbol)


@EVERY_VENUE
async def test_a_channel_that_is_acknowledged_and_silent_is_renewed_and_said(name: str) -> None:
    with scripted(name, PAIRS[name]) as venue:
        venue.mute = {("quotes", symbol) for symbol in venue.ids}
        async with running(venue, silence_s=1.0) as (fleet, lines):
            await until(lambda: fleet.connections[0].rotations["silence"] >= 1)
            silent = fleet.connections[0].silence.silent
            assert set(silent) == {"quotes"}
            venue.mute = set()
            await until(lambda: not silent)
            await served(venue, lines, 5)

    assert [details["channel"] for _, details in lines.of_kind("silence")] == ["quotes"]
    assert lines.of_kind("recovered") == [("", {"state": "silence", "channel": "quotes"})]
    for symbol in venue.ids:
        hold_whole(lines, symbol)


@EVERY_VENUE
async def test_symbols_are_spread_over_connections_that_each_bring_their_own(name: str) -> None:
    symbols = tuple(f"{letter}{PAIRS[name][0]}" for letter in "ABCDE")
    with scripted(name, symbols) as venue:
        async with running(venue, symbols_per_connection=2) as (fleet, lines):
            await until(lambda: fleet.ready)
            await served(venue, lines, 3)

        assert venue.busiest == 3
    assert [connection.symbols for connection in fleet.connections] == [symbols[0::3], symbols[1::3], symbols[2::3]]
    for stream, connection in zip(lines.streams, fleet.connections, strict=True):
        assert set(stream.ids) == set(connection.symbols)


async def test_symbols_that_are_left_out_and_taken_in_again_cost_the_others_nothing() -> None:
    with scripted("binance", PAIRS["binance"]) as venue:
        async with running(venue) as (fleet, lines):
            await served(venue, lines, 5)
            fleet.leave_out(frozenset({"ETHUSDT"}))
            await until(lambda: fleet.connections[0].rotations["symbols"] == 1)
            count = len(lines.streams)
            await until(lambda: len(lines.streams[count - 1].ids.get("BTCUSDT", ())) > 5)
            assert set(lines.streams[count - 1].ids) == {"BTCUSDT"}
            fleet.leave_out(frozenset())
            await until(lambda: fleet.connections[0].rotations["symbols"] == 2)
            await until(lambda: set(lines.streams[-1].ids) == {"BTCUSDT", "ETHUSDT"})

    hold_whole(lines, "BTCUSDT")
    assert fleet.reconnects == {}


async def test_what_a_venue_does_not_answer_is_asked_for_again_while_the_others_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("k2_feeds.socket.session.ACKNOWLEDGE_S", 0.3)
    with scripted("kraken", PAIRS["kraken"]) as venue:
        venue.unanswered = {("trades", "ETH/USD")}
        async with running(venue) as (fleet, lines):
            await until(lambda: len(venue.requests) >= 6)
            assert lines.ids("BTC/USD")
            venue.unanswered = set()
            await until(lambda: fleet.ready and lines.ids("ETH/USD"))

    asked = [request["params"] for _, request in venue.requests]
    assert [(each["channel"], each["symbol"]) for each in asked[4:]] == [("trade", ["ETH/USD"])] * len(asked[4:])
    assert fleet.reconnects == {}
    assert len(lines.streams) == 1


async def test_a_venue_that_never_answers_for_one_symbol_keeps_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_feeds.socket.session.ACKNOWLEDGE_S", 0.05)
    with scripted("coinbase", PAIRS["coinbase"]) as venue:
        venue.unanswered = {("trades", "ETH-USD")}
        async with running(venue) as (fleet, lines):
            await until(lambda: fleet.ready)
            session = fleet.connections[0].session
            assert session is not None
            assert session.refused == {("trades", "ETH-USD"): "no answer to 6 requests"}
            await until(lambda: len(lines.ids("BTC-USD")) > 5)

    assert fleet.reconnects == {}


async def test_a_symbol_that_can_be_none_is_refused_by_name_and_the_others_are_fed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("k2_feeds.socket.session.ACKNOWLEDGE_S", 0.3)
    async with simulating(MarketSource(1, ("BTCUSDT",), 200)) as url:
        feeds, lines = (
            Feeds.model_validate({"binance": {"url": url, "symbols": ("BTCUSDT", "BTC/USDT")}}),
            Lines(binance),
        )
        fleet = Fleet(source_of(feeds, "binance"), feeds, lines)
        fleet.start()
        await until(lambda: len(lines.ids("BTCUSDT")) > 5)
        session = fleet.connections[0].session
        assert session is not None
        assert set(session.refused) == {("trades", "BTC/USDT"), ("quotes", "BTC/USDT")}
        assert set(session.refused.values()) == {"Invalid request: unknown stream btc/usdt@trade"}
        assert await fleet.stop(WITHIN_S)

    assert fleet.reconnects == {}


async def test_a_refusal_is_of_one_channel_and_is_asked_about_again_until_it_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("k2_feeds.socket.session.ASK_AGAIN_S", (0.1, 0.2))
    refused = ("trades", "ETH/USD")
    with scripted("kraken", PAIRS["kraken"]) as venue:
        venue.busy = {refused}
        async with running(venue) as (fleet, lines):
            await until(lambda: fleet.ready and len(venue.requests) > 5)
            session = fleet.connections[0].session
            assert session is not None
            assert session.refused == {refused: "Exceeded msg rate"}
            assert ("quotes", "ETH/USD") in session.accepted
            venue.busy = set()
            await served(venue, lines, 5)
            assert session.refused == {}
            assert refused in session.accepted

    again = [request["params"] for _, request in venue.requests[4:]]
    assert [(each["channel"], each["symbol"]) for each in again] == [("trade", ["ETH/USD"])] * len(again)
    assert fleet.reconnects == {}


async def test_what_brings_data_is_not_refused_whatever_the_venue_said() -> None:
    with scripted("kraken", PAIRS["kraken"]) as venue:
        venue.refuses = {"ETH/USD"}
        async with running(venue) as (fleet, _):
            await until(lambda: fleet.ready)
            session = fleet.connections[0].session
            assert session is not None
            assert set(session.refused) == {("trades", "ETH/USD"), ("quotes", "ETH/USD")}
            venue.do(venue.say(json.dumps(_DATA["kraken"]("quotes", "ETH/USD", 1, 0)).encode()))
            await until(lambda: set(session.refused) == {("trades", "ETH/USD")})
            assert ("quotes", "ETH/USD") in session.accepted


async def test_an_error_that_answers_nothing_ends_no_connection_that_lacks_a_symbol() -> None:
    with scripted("coinbase", PAIRS["coinbase"]) as venue:
        venue.refuses = {"ETH-USD"}
        async with running(venue) as (fleet, lines):
            await until(lambda: fleet.ready)
            venue.do(venue.say(b'{"type":"error","message":"rate limit exceeded"}'))
            before = len(lines.ids("BTC-USD"))
            await until(lambda: len(lines.ids("BTC-USD")) > before + 20)

    assert fleet.reconnects == {}
    assert len(lines.streams) == 1


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of our own for 127.0.0.1, and its key."""
    certificate, key = tmp_path / "venue.pem", tmp_path / "key.pem"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]
    subprocess.run([*request, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


async def test_a_certificate_is_trusted_only_from_an_authority_that_is_named(tls: tuple[Path, Path]) -> None:
    certificate = tls[0]
    with scripted("kraken", PAIRS["kraken"], tls=tls) as venue:
        async with running(venue) as (fleet, _):
            await until(lambda: fleet.reconnects["unreachable"] >= 1)
            assert "certificate verify failed" in fleet.message
        async with running(venue, ca_file=certificate) as (_, lines):
            await served(venue, lines, 3)
        feeds = feeds_of(venue, ca_file=certificate)
        assert await fetch(source_of(feeds, "kraken"), feeds.ca_file) == set(PAIRS["kraken"])
        with pytest.raises(SettingsError, match="K2_FEEDS__CA_FILE"):
            trusted(Path("none.pem"))


async def test_a_venue_that_wants_rest_is_left_alone_for_as_long_as_it_says() -> None:
    with scripted("binance", PAIRS["binance"]) as venue:
        venue.refuse_with, venue.retry_after = 429, "2"
        async with running(venue) as (fleet, lines):
            await until(lambda: fleet.reconnects["rate_limited"] == 1)
            assert "it answers HTTP 429 and wants 2 s of rest" in fleet.message
            venue.refuse_with = None
            await until(lambda: fleet.ready)
            await served(venue, lines, 3)

    first, second = venue.handshakes[:2]
    assert second - first >= 2.0


async def test_kraken_is_pinged_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_feeds.socket.session.PING_S", 0.1)
    with scripted("kraken", PAIRS["kraken"]) as venue:
        async with running(venue) as (fleet, _):
            await until(lambda: [r for _, r in venue.requests if r == {"method": "ping"}])
            assert fleet.connected


async def test_a_pong_that_does_not_come_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_feeds.socket.websockets.PING_EVERY_S", 0.1)
    monkeypatch.setattr("k2_feeds.socket.websockets.PONG_WITHIN_S", 0.1)
    with scripted("binance", PAIRS["binance"]) as venue:
        async with running(venue) as (fleet, _):
            await until(lambda: fleet.ready)
            venue.deaf.set()
            try:
                await until(lambda: fleet.connections[0].pong_timeouts >= 1)
            finally:
                venue.deaf.clear()
            await until(lambda: fleet.ready)


async def test_a_pace_lets_so_many_go_within_a_period_in_their_order() -> None:
    pace, went = Pace(3, 0.4), []
    loop = asyncio.get_running_loop()

    async def go(number: int) -> None:
        await pace.wait()
        went.append((number, loop.time()))

    await asyncio.gather(*(go(number) for number in range(7)))

    assert [number for number, _ in went] == list(range(7))
    times = [time for _, time in went]
    assert times[3] - times[0] >= 0.4
    assert times[6] - times[3] >= 0.4


def test_spread_deals_symbols_out_evenly_within_a_venues_limit() -> None:
    assert spread(("a", "b", "c", "d", "e"), 2) == [("a", "d"), ("b", "e"), ("c",)]
    assert spread(("a",), 200) == [("a",)]
    source = source_of(Feeds(), "binance")
    assert most_symbols(source, 2_000) == 512  # two streams for each symbol, 1,024 for a connection
    assert most_symbols(source, 200) == 200
    assert most_symbols(source_of(Feeds(), "kraken"), 2_000) == 2_000


@pytest.mark.parametrize(
    ("name", "section", "said"),
    [
        ("nasdaq", {}, "does not know a venue 'nasdaq'; it knows binance, coinbase, kraken"),
        ("kraken", {"symbols": ()}, "K2_FEEDS__KRAKEN__SYMBOLS must name"),
        ("kraken", {"trades": False, "quotes": False}, "nothing of kraken would be fed"),
    ],
)
def test_settings_that_leave_nothing_to_feed_are_refused(name: str, section: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        source_of(Feeds.model_validate({"kraken": section}), name)
