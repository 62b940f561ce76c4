import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from k2_core import topics
from k2_core.raw_frame import decode
from k2_core.settings import Settings, child_environment
from k2_core.venues import VENUES
from k2_feeds.handover import await_successor, feeder_of
from k2_feeds.simulator.recording import read, recording_of
from tests.feeds.feed_fixtures import Stored, events_of, free_port, stored
from tests.feeds.scripted_venue import ScriptedVenue, scripted
from tests.loopback import http
from tests.reliability.waiting import wait_until

pytestmark = pytest.mark.integration
COMMAND = (sys.executable, "-c", "from k2_feeds.feed_commands import feed; feed()")
WITHIN_S = 240
TOPIC = topics.raw_topic("crypto", "trades", "binance")
KINDS = ("trades", "quotes")
GAPS = "k2_sequence_gaps_detected_total"
PAIRS = {
    "binance": ("BTCUSDT", "ETHUSDT"),
    "kraken": ("BTC/USD", "ETH/USD"),
    "coinbase": ("BTC-USD", "ETH-USD"),
}
RECORDING = "binance_spot_btcusdt_2024-08-08_2355.jsonl.gz"


class Started(subprocess.Popen[bytes]):
    """A process, and a file of what it says: a pipe that nobody reads would hold it up."""

    log: IO[bytes]

    def said(self) -> list[str]:
        """Wait for its end, and return the lines that it said."""
        self.wait(WITHIN_S)
        self.log.seek(0)
        return self.log.read().decode().splitlines()


@contextmanager
def a_process(*arguments: str, **variables: str) -> Iterator[Started]:
    environment = child_environment(**variables)
    with (
        tempfile.TemporaryFile() as log,
        Started([*COMMAND, *arguments], env=environment, stderr=log) as process,
    ):
        process.log = log
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def a_feed(
    settings: Settings, venues: tuple[ScriptedVenue, ...], health: int, *arguments: str, **more: str
) -> Iterator[Started]:
    variables = {
        "K2_HOME": str(settings.home),
        "K2_KAFKA__BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "K2_REGISTRY__URL": settings.registry_url,
        "K2_PORTS__FEED_HEALTH": str(health),
        "K2_FEEDS__BACKOFF_FIRST_S": "0.1",
        "K2_FEEDS__VENUES": json.dumps([venue.name for venue in venues]),
    }
    for venue in venues:
        prefix = f"K2_FEEDS__{venue.name.upper()}__"
        variables[f"{prefix}URL"], variables[f"{prefix}REST_URL"] = venue.url, venue.rest_url
        variables[f"{prefix}SYMBOLS"] = json.dumps(list(venue.ids))
    with a_process("run", *arguments, **{**variables, **more}) as process:
        yield process


def page(port: int, path: str) -> httpx.Response | None:
    try:
        return http.get(f"http://127.0.0.1:{port}{path}", timeout=5)
    except httpx.HTTPError:
        return None


def until(port: int, path: str, **expected: object) -> dict[str, Any]:
    """Ask for JSON until it says what is expected."""
    deadline = time.monotonic() + WITHIN_S  # noqa: TID251
    while time.monotonic() < deadline:  # noqa: TID251
        answer = page(port, path)
        found: dict[str, Any] = answer.json() if answer is not None else {}
        if found and found | expected == found:
            return found
        time.sleep(0.05)
    pytest.fail(f"{path} never said {expected}; at last {found}")


def until_at_least(port: int, name: str, least: int) -> None:
    until_true(port, lambda state: state[name] >= least)


def until_true(port: int, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + WITHIN_S  # noqa: TID251
    while not true(state := until(port, "/health")):
        assert time.monotonic() < deadline, state  # noqa: TID251
        time.sleep(0.05)
    return state


@pytest.fixture
def settings(broker: str, registry: str, parts_settings: Settings, tmp_path: Path) -> Settings:
    """The session's parts, and a home of its own."""
    return parts_settings.model_copy(
        update={
            "home": tmp_path,
            "kafka": parts_settings.kafka.model_copy(update={"bootstrap_servers": broker}),
            "registry": parts_settings.registry.model_copy(update={"url": registry}),
        }
    )


@pytest.fixture
def already_there(settings: Settings) -> Callable[[str], list[Stored]]:
    """Return what a topic holds beyond what it held when the test began."""
    before: dict[str, set[tuple[int, int]]] = {}
    for topic in (TOPIC, *(topics.raw_topic("crypto", kind, venue) for kind in KINDS for venue in VENUES)):
        before[topic] = {(each.partition, each.offset) for each in _stored(settings, topic)}
    return lambda topic: [
        each for each in _stored(settings, topic) if (each.partition, each.offset) not in before[topic]
    ]


def _stored(settings: Settings, topic: str) -> list[Stored]:
    try:
        return stored(settings.bootstrap_servers, topic)
    except KeyError:
        return []


def all_events(settings: Settings) -> list[dict[str, Any]]:
    return [event for name in PAIRS for event in events_of(settings.bootstrap_servers, name)]


def states_of(health: int, venue: str) -> dict[str, Any]:
    """Return what the feed says is wrong with a venue."""
    found: dict[str, Any] = until(health, "/health")["venues"][venue]["states"]
    return found


def trade_ids(found: list[Stored], venue: str, symbol: str) -> list[int]:
    """Return the ids of a symbol's trades as Kafka holds them."""
    frames = [decode(each.value) for each in found if each.key == symbol.encode()]
    trades = [trade for frame in frames for trade in VENUES[venue].parse(frame.payload) or ()]
    return [trade.sequence for trade in trades]


def test_a_real_recording_stands_byte_for_byte_in_kafka(
    settings: Settings, recordings: Path, already_there: Callable[[str], list[Stored]]
) -> None:
    path = recordings / RECORDING
    trades = [line.frame for line in read(recording_of(str(path))) if b'"btcusdt@trade"' in line.frame]
    simulator, health = free_port(), free_port()
    variables = {
        "K2_FEEDS__BINANCE__URL": f"ws://127.0.0.1:{simulator}",
        "K2_FEEDS__BINANCE__REST_URL": f"http://127.0.0.1:{simulator}",
        "K2_FEEDS__BINANCE__SYMBOLS": '["BTCUSDT"]',
        "K2_FEEDS__BINANCE__QUOTES": "false",
    }

    with (
        a_process("simulate", "--recording", str(path), "--speed", "max", "--port", str(simulator)),
        a_feed(settings, (), health, "binance", **variables) as feed,
    ):
        found = until(simulator, "/status", finished=True)
        state = until(health, "/health", messages=len(trades) + 1, connected=True)
        wait_until(lambda: "lag" in states_of(health, "binance"), lambda: states_of(health, "binance"))  # of 2024
        feed.terminate()
        assert feed.wait(WITHIN_S) == 0

    frames = already_there(TOPIC)
    sent = [each for each in frames if each.key == b"BTCUSDT"]
    assert found["total"] == 93_078
    assert len(trades) == 19_904
    assert [decode(each.value).payload for each in sent] == trades
    assert len({each.partition for each in sent}) == 1
    assert [decode(each.value).payload for each in frames if each.key == b""] == [b'{"result":null,"id":1}']
    assert state["gaps"] == 0


def test_three_venues_in_one_process_say_how_they_are_and_come_back_when_away(
    settings: Settings, already_there: Callable[[str], list[Stored]]
) -> None:
    health = free_port()
    with ExitStack() as stack:
        venues = [stack.enter_context(scripted(name, pairs)) for name, pairs in PAIRS.items()]
        feed = stack.enter_context(a_feed(settings, tuple(venues), health, K2_FEEDS__BACKOFF_FIRST_S="0.5"))
        until_at_least(health, "messages", 600)
        state = until(health, "/health", connected=True)
        assert list(state["venues"]) == list(PAIRS)
        for venue in venues:
            venue.do(venue.cut())
        until_at_least(health, "gaps", 6)
        until_true(health, lambda state: all("sequence" in found["states"] for found in state["venues"].values()))
        until(health, "/health", connected=True)
        exposed = page(health, "/metrics")
        feed.terminate()
        assert feed.wait(WITHIN_S) == 0

    assert exposed is not None
    process = _values(exposed.text)
    assert process["k2_process_memory_rss_bytes", ""] > 10_000_000
    assert process["k2_memory_leak_score", ""] == 0  # too few samples yet
    for name, pairs in PAIRS.items():
        values = _values(exposed.text, exchange=name)
        _hold_metrics(values, name)
        for symbol in pairs:
            ids = trade_ids(already_there(topics.raw_topic("crypto", "trades", name)), name, symbol)
            jumps = [after - before for before, after in itertools.pairwise(ids) if after != before + 1]
            assert len(ids) > 50
            assert len(jumps) == 1
            missed = [value for (metric, label), value in values.items() if metric == GAPS and label == symbol]
            assert sum(missed) >= 1  # and one more where the broker holds older ids of it
        quotes = already_there(topics.raw_topic("crypto", "quotes", name))
        assert {each.key.decode() for each in quotes} == set(pairs)


def _values(text: str, exchange: str | None = None) -> dict[tuple[str, str], float]:
    """Return {(metric, its symbol, reason, state or topic): value}."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            if labels.get("exchange") == exchange and not sample.name.endswith("_created"):
                more = labels.get("symbol") or labels.get("reason") or labels.get("state") or labels.get("topic") or ""
                found[sample.name, more] = found.get((sample.name, more), 0) + sample.value
    return found


def _hold_metrics(values: dict[tuple[str, str], float], venue: str) -> None:
    """Assert what holds of a venue that has run for some seconds and was cut once."""
    for kind in KINDS:
        topic = topics.raw_topic("crypto", kind, venue)
        assert values["k2_kafka_messages_produced_total", topic] > 0
        assert values["k2_kafka_produce_errors_total", topic] == 0
    assert values["k2_feed_connection_status", ""] == 1
    assert values["k2_feed_messages_received_total", ""] > 100
    assert values["k2_feed_message_errors_total", ""] == 0
    assert values["k2_feed_reconnects_total", "closed"] == 1
    assert values["k2_feed_last_message_timestamp_seconds", ""] > 1.7e9
    assert -60 < values["k2_feed_event_lag_seconds", ""] < 60
    assert -60 < values["k2_feed_clock_skew_seconds", ""] < 60
    assert values["k2_feed_connection_lifetime_seconds", ""] > 0
    assert values["k2_feed_pong_timeouts_total", ""] == 0
    assert values["k2_sequence_gap_messages_total", ""] > 0
    assert values["k2_feed_state", "sequence"] == 1
    assert values["k2_feed_state", "silence"] == values["k2_feed_state", "refused"] == 0


def test_a_symbol_that_a_venue_does_not_have_is_said_and_the_others_are_fed(
    settings: Settings, already_there: Callable[[str], list[Stored]]
) -> None:
    health = free_port()
    with ExitStack() as stack:
        venues = [stack.enter_context(scripted(name, pairs)) for name, pairs in PAIRS.items()]
        for venue in venues[:2]:
            venue.listed = [venue.listed[0]]  # Binance's WebSocket accepts anything: only its list tells
        venues[1].rest_status = 500
        venues[1].refuses = {PAIRS["kraken"][1]}
        venues[2].rest_status = 404
        venues[2].refuses = {PAIRS["coinbase"][1]}
        feed = stack.enter_context(a_feed(settings, tuple(venues), health))
        until_true(health, lambda now: all(found["messages"] >= 400 for found in now["venues"].values()))
        state = until_true(health, lambda now: all("refused" in found["states"] for found in now["venues"].values()))
        assert (state["connected"], state["reconnects"]) == (True, 0)
        refused = {name: found["states"]["refused"] for name, found in state["venues"].items()}
        exposed = page(health, "/metrics")
        feed.terminate()
        assert feed.wait(WITHIN_S) == 0

    assert "binance does not list ETHUSDT: it is not fed" in refused["binance"][0]
    assert refused["kraken"] == [
        f"kraken refuses {data} of ETH/USD: Currency pair not supported ETH/USD; the other symbols are fed"
        for data in KINDS
    ]
    assert "coinbase refuses trades of ETH-USD: ETH-USD is not a valid product" in refused["coinbase"][0]
    assert exposed is not None
    events = [each for each in all_events(settings) if each["kind"] == "refused"]
    for name, pairs in PAIRS.items():
        assert _values(exposed.text, exchange=name)["k2_feed_state", "refused"] == 1
        assert pairs[1] in {each["symbol"] for each in events if each["venue"] == name}
        trades = already_there(topics.raw_topic("crypto", "trades", name))
        assert len(trade_ids(trades, name, pairs[0])) > 50
        assert trade_ids(trades, name, pairs[1]) == []


def test_a_successor_takes_over_without_a_gap(settings: Settings, already_there: Callable[[str], list[Stored]]) -> None:
    health = free_port()
    with ExitStack() as stack:
        venues = tuple(stack.enter_context(scripted(name, pairs)) for name, pairs in PAIRS.items())
        first = stack.enter_context(a_feed(settings, venues, health))
        until_at_least(health, "messages", 300)
        before = feeder_of(settings, "kraken")
        assert before is not None
        assert before.pid == first.pid
        second = stack.enter_context(a_feed(settings, venues, health, "--take-over"))
        assert first.wait(WITHIN_S) == 0
        until_at_least(health, "messages", 600)
        state = until(health, "/health", connected=True, gaps=0)
        for name in PAIRS:
            assert await_successor(settings, name, before, WITHIN_S).pid == second.pid
        second.terminate()
        assert second.wait(WITHIN_S) == 0

    assert state["reconnects"] == 0
    for name, pairs in PAIRS.items():
        found = already_there(topics.raw_topic("crypto", "trades", name))
        for symbol in pairs:
            ids = trade_ids(found, name, symbol)
            assert sorted(set(ids)) == list(range(min(ids), max(ids) + 1))
            assert len(ids) > len(set(ids))  # both fed for a while
    events = all_events(settings)
    handovers = [
        each for each in events if each["kind"] == "handover" and each["details"]["successor"] == str(second.pid)
    ]
    assert {each["venue"] for each in handovers} == set(PAIRS)
    assert {each["details"]["predecessor"] for each in handovers} == {str(first.pid)}
    assert feeder_of(settings, "kraken") is None


def test_a_second_feed_of_a_venue_is_refused_and_so_is_taking_over_a_part(settings: Settings) -> None:
    health = free_port()
    with (
        scripted("binance", PAIRS["binance"]) as venue,
        scripted("kraken", PAIRS["kraken"]) as other,
        a_feed(settings, (venue, other), health) as first,
    ):
        until_at_least(health, "messages", 1)
        for arguments, said in (
            (("kraken",), f"process {first.pid} feeds binance, kraken already: end it, or take over"),
            (("kraken", "--take-over"), "take over all of these venues, or none"),
        ):
            with a_feed(settings, (venue, other), free_port(), *arguments) as second:
                assert said in second.said()[-1]
            assert second.returncode == 1
        with a_process("handover", "binance", K2_HOME=str(settings.home)) as asking:
            reported = asking.said()[-1]
        assert asking.returncode == 1
        assert "start its successor with k2 feed run binance kraken --take-over" in reported


def test_a_feed_that_may_not_write_says_so_and_ends(broker: str, parts_settings: Settings) -> None:
    with a_process(
        "run",
        "binance",
        K2_HOME=str(parts_settings.home),
        K2_KAFKA__BOOTSTRAP_SERVERS=broker,
        K2_KAFKA__TOPIC_REPLICATION="2",
        K2_KAFKA__TOPIC_PARTITIONS="7",
        K2_PORTS__FEED_HEALTH=str(free_port()),
    ) as process:
        said = process.said()[-1]

    assert process.returncode == 1
    assert said.startswith("k2: ")


def test_a_feed_ends_at_once_when_it_still_waits_for_kafka(tmp_path: Path) -> None:
    health, kafka = free_port(), free_port()
    variables = {"K2_HOME": str(tmp_path), "K2_PORTS__FEED_HEALTH": str(health), "K2_PORTS__KAFKA": str(kafka)}
    with a_process("run", "binance", **variables) as process:
        deadline = time.monotonic() + WITHIN_S  # noqa: TID251
        while f"waiting for Kafka at 127.0.0.1:{kafka}" not in until(health, "/health")["message"]:
            assert time.monotonic() < deadline  # noqa: TID251
            time.sleep(0.05)
        process.terminate()
        assert process.wait(WITHIN_S) == 0
