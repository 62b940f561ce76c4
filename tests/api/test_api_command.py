import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from k2_core.settings import child_environment
from tests.api.lakes import KEY, Lake, a_trade
from tests.loopback import http

READY_WITHIN_S = 300


@pytest.fixture
def server(lake: Lake) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """The API as its own process: process, URL and log."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = child_environment(K2_HOME=str(lake.home), K2_PORTS__API=str(port), K2_API__KEY=KEY)
    log = lake.home / "api.log"
    with log.open("wb") as file:
        command = [sys.executable, "-c", "from k2_api.api_command import api; api()"]
        process = subprocess.Popen(command, env=environment, stderr=file, start_new_session=True)
    yield process, f"http://127.0.0.1:{port}", log
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_ready(url: str) -> None:
    deadline = time.perf_counter() + READY_WITHIN_S
    while time.perf_counter() < deadline:
        try:
            if http.get(f"{url}/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail("the API did not become ready")


def test_api_serves_logs_json_and_ends_on_sigterm(
    lake: Lake, server: tuple[subprocess.Popen[bytes], str, Path]
) -> None:
    process, url, log = server
    wait_until_ready(url)
    lake.add([a_trade(7)])
    answer = http.get(f"{url}/v1/trades", headers={"X-API-Key": KEY, "X-Correlation-ID": "the-one"})
    assert [row["trade_id"] for row in answer.json()["data"]] == ["7"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(READY_WITHIN_S) in {0, -signal.SIGTERM}
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    [line] = [line for line in lines if line.get("correlation_id") == "the-one"]
    assert (line["part"], line["endpoint"], line["status"]) == ("api", "/v1/trades", 200)
    assert KEY not in log.read_text()
