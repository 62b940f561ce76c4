import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from k2_core import topics
from k2_core.raw_frame import decode
from k2_core.settings import Settings, child_environment
from k2_feeds.simulator.recording import read, recording_of
from tests.feeds.rooms import Stored, free_port, stored
from tests.feeds.scripted_venue import ScriptedVenue, scripted

pytestmark = pytest.mark.integration
COMMAND = (sys.executable, "-c", "from k2_feeds.cli import feed; feed()")
WITHIN_S = 120
TOPIC = topics.raw_topic("crypto", "trades", "binance")
RECORDING = "binance_spot_btcusdt_2024-08-08_2355.jsonl.gz"


@contextmanager
def a_process(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = child_environment(**variables)
    with subprocess.Popen([*COMMAND, *arguments], env=environment, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def a_feed(
    settings: Settings, venues: tuple[ScriptedVenue, ...], health: int, *arguments: str, **more: str
) -> Iterator[subprocess.Popen[bytes]]:
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
        return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False, timeout=5)
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
    deadline = time.monotonic() + WITHIN_S  # noqa: TID251
    while (state := until(port, "/health"))[name] < least:
        assert time.monotonic() < deadline, state  # noqa: TID251
        time.sleep(0.05)


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
def already_there(broker: str, registry: str, parts_settings: Settings) -> set[tuple[int, int]]:
    try:
        return {(each.partition, each.offset) for each in stored(broker, TOPIC)}
    except KeyError:
        return set()


def test_a_real_recording_stands_byte_for_byte_in_kafka(
    broker: str, parts_settings: Settings, recordings: Path, already_there: set[tuple[int, int]]
) -> None:
    path = recordings / RECORDING
    trades = [line.frame for line in read(recording_of(path)) if line.streams == ("btcusdt@trade",)]
    simulator, health = free_port(), free_port()

    with (
        a_process("simulate", "--recording", str(path), "--speed", "max", "--port", str(simulator)),
        a_feed(parts_settings, simulator, health, "BTCUSDT") as feed,
    ):
        found = until(simulator, "/status", finished=True)
        state = until(health, "/health", messages=len(trades) + 1, connected=True)
        feed.terminate()
        assert feed.wait(WITHIN_S) == 0

    frames = [each for each in stored(broker, TOPIC) if (each.partition, each.offset) not in already_there]
    sent = [each for each in frames if each.key == b"BTCUSDT"]
    assert (found["symbols"], found["total"]) == (["BTCUSDT"], 93_078)
    assert len(trades) == 19_904
    assert [decode(each.value).payload for each in sent] == trades
    assert len({each.partition for each in sent}) == 1
    assert [decode(each.value).payload for each in frames if each.key == b""] == [b'{"result":null,"id":1}']
    assert state["gaps"] == 0


def test_a_feed_goes_on_when_its_venue_was_away_and_says_how_it_is(
    broker: str, parts_settings: Settings, already_there: set[tuple[int, int]]
) -> None:
    simulator, health = free_port(), free_port()
    market = ("simulate", "--rate", "300", "--port", str(simulator))

    with a_feed(parts_settings, simulator, health, "BTCUSDT", "ETHUSDT") as feed:
        state = until(health, "/health", connected=False, messages=0, symbols=["BTCUSDT", "ETHUSDT"])
        with a_process(*market):
            until_at_least(health, "messages", 50)
        away = until(health, "/health", connected=False)
        with a_process(*market):
            until_at_least(health, "gaps", 2)
            exposed = page(health, "/metrics")
            feed.terminate()
            assert feed.wait(WITHIN_S) == 0

    assert state["venue"] == "binance"
    assert f"ws://127.0.0.1:{simulator}/stream" in away["message"]
    assert exposed is not None
    values = {
        (sample.name, sample.labels.get("symbol")): sample.value
        for family in text_string_to_metric_families(exposed.text)
        for sample in family.samples
        if sample.name.startswith("k2_")
    }
    assert values["k2_feed_connection_status", None] == 1
    assert values["k2_feed_messages_received_total", None] > 0
    assert values["k2_kafka_messages_produced_total", None] > 0
    assert values["k2_kafka_produce_errors_total", None] == 0
    assert values["k2_sequence_gaps_detected_total", "BTCUSDT"] == 1
    assert values["k2_sequence_gaps_detected_total", "ETHUSDT"] == 1
    assert -60 < values["k2_feed_event_lag_seconds", None] < 60
    for symbol in (b"BTCUSDT", b"ETHUSDT"):
        ids = [_id(each) for each in stored(broker, TOPIC) if _is_new(each, symbol, already_there)]
        jumps = [after - before for before, after in itertools.pairwise(ids) if after != before + 1]
        assert len(ids) > 10
        assert len(jumps) == 1
        assert jumps[0] > 1  # the ids of the second market are higher


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
        _, said = process.communicate(timeout=WITHIN_S)

    assert process.returncode == 1
    assert said.decode().splitlines()[-1].startswith("k2: ")


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


def _is_new(each: Stored, symbol: bytes, already_there: set[tuple[int, int]]) -> bool:
    return each.key == symbol and (each.partition, each.offset) not in already_there


def _id(each: Stored) -> int:
    trade_id: int = json.loads(decode(each.value).payload)["data"]["t"]
    return trade_id
