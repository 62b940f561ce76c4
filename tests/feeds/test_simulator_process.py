import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from websockets.sync.client import connect

from k2_core.settings import Feeds, child_environment
from k2_feeds.feed_commands import feed
from tests.feeds.feed_fixtures import free_port
from tests.loopback import http

COMMAND = (sys.executable, "-c", "from k2_feeds.feed_commands import feed; feed()")
WITHIN_S = 240


@contextmanager
def a_simulator(port: int, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [*COMMAND, "simulate", "--port", str(port), *arguments]
    with subprocess.Popen(command, env=child_environment(), stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: status(port) is not None)
            yield process
        finally:
            process.kill()


def status(port: int) -> dict[str, Any] | None:
    try:
        answer = http.get(f"http://127.0.0.1:{port}/status", timeout=5)
    except httpx.HTTPError:
        return None
    found: dict[str, Any] = answer.json()
    return found


def until(holds: Any) -> None:
    deadline = time.monotonic() + WITHIN_S  # noqa: TID251
    while not holds():
        assert time.monotonic() < deadline, "it never came true"  # noqa: TID251
        time.sleep(0.05)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_everything_that_was_heard_stands_in_the_truth_though_the_simulator_was_killed(tmp_path: Path) -> None:
    port, heard = free_port(), set[int]()
    with a_simulator(port, "--rate", "2000", "--truth", str(tmp_path)) as process:
        with connect(f"ws://127.0.0.1:{port}/ws/btcusdt@trade", proxy=None) as socket:
            while len(heard) < 300:
                heard.add(json.loads(socket.recv(timeout=WITHIN_S))["t"])
        process.kill()
        process.wait(WITHIN_S)

    assert heard <= {row["id"] for row in rows(tmp_path / "trades.jsonl") if row["symbol"] == "BTCUSDT"}


def test_a_second_life_adds_to_the_truth_of_the_first_under_other_ids(tmp_path: Path) -> None:
    for _ in range(2):
        with a_simulator(port := free_port(), "--rate", "500", "--truth", str(tmp_path)) as process:
            until(lambda port=port: (status(port) or {})["position"] > 500)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WITHIN_S) == 0

    keys = [(row["symbol"], row["id"]) for row in rows(tmp_path / "trades.jsonl")]
    assert len(keys) == len(set(keys)) > 1000


def test_a_script_of_faults_begins_with_the_first_subscription(tmp_path: Path) -> None:
    port, script = free_port(), tmp_path / "script.jsonl"
    script.write_text('{"at_s":0.2,"fault":"drop","venue":"binance","count":3,"symbol":"BTCUSDT"}\n')
    with a_simulator(port, "--rate", "2000", "--truth", str(tmp_path), "--faults", str(script)):
        until(lambda: (status(port) or {})["position"] > 500)
        assert rows(tmp_path / "dropped.jsonl") == []
        with connect(f"ws://127.0.0.1:{port}/ws/btcusdt@trade", proxy=None) as socket:
            until(lambda: socket.recv(timeout=WITHIN_S) and len(rows(tmp_path / "dropped.jsonl")) == 3)

    assert {(row["venue"], row["symbol"], row["fault"]) for row in rows(tmp_path / "dropped.jsonl")} == {
        ("binance", "BTCUSDT", "drop")
    }


def test_the_command_has_a_running_simulator_suffer(tmp_path: Path) -> None:
    port = free_port()
    with a_simulator(port, "--truth", str(tmp_path)):
        done = CliRunner().invoke(feed, ["fault", "cut", "kraken", "--wait", "--port", str(port)])
        wrong = CliRunner().invoke(feed, ["fault", "fire", "kraken", "--port", str(port)])
        until(lambda: any(row["fault"] == "cut_over" for row in rows(tmp_path / "faults.jsonl")))

    assert (done.exit_code, "cut at kraken" in done.output) == (0, True)
    assert (wrong.exit_code, "'fire' is not a fault" in wrong.output) == (1, True)


def test_the_command_says_when_there_is_no_simulator_or_script(tmp_path: Path) -> None:
    nobody = CliRunner().invoke(feed, ["fault", "cut", "kraken", "--port", str(free_port())])
    missing = CliRunner().invoke(feed, ["simulate", "--faults", str(tmp_path / "none"), "--port", str(free_port())])

    assert (nobody.exit_code, "no simulator answers" in nobody.output) == (1, True)
    assert (missing.exit_code, "cannot be read as a script" in missing.output) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        ("simulate --truth {file}/x", {}, "k2: --truth {file}/x cannot be written: Not a directory."),
        ("simulate --seed -1", {}, "-1 is not in the range"),
        ("simulate --rate nan", {}, "nan is not a finite number"),
        ("record binance {file} --for inf", {}, "inf is not a finite number"),
        (
            "simulate",
            {"K2_FEEDS__VENUES": '["okx"]'},
            "k2: K2_FEEDS__VENUES names none that the simulator speaks for",
        ),
        ("run binance", {"K2_HOME": "{file}"}, "k2: K2_HOME={file} cannot be used: "),
        ("handover nosuch", {}, "k2: K2 does not know a venue 'nosuch'"),
    ],
)
def test_a_command_that_cannot_be_carried_out_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: str, variables: dict[str, str], said: str
) -> None:
    (tmp_path / "file").touch()
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(file=tmp_path / "file") if name == "K2_HOME" else value)

    done = CliRunner().invoke(feed, arguments.format(file=tmp_path / "file").split())

    assert done.exit_code == (1 if said.startswith("k2: ") else 2)
    assert isinstance(done.exception, SystemExit)
    assert said.format(file=tmp_path / "file") in done.output


def test_every_venue_has_what_the_settings_feed_and_more() -> None:
    port = free_port()
    with a_simulator(port):
        venues = (status(port) or {})["venues"]

    for venue, symbols in venues.items():
        assert set(symbols) > set(getattr(Feeds(), venue).symbols), venue
    assert list(venues) == ["binance", "kraken", "coinbase"]
