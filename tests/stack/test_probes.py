"""What a probe hears: nothing at all, or a part that says why it cannot serve."""

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from k2_core import clock
from k2_core.settings import Ports
from k2_stack import probes


class Part:
    """A small HTTP server whose answers a test chooses: path → status and JSON."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        part = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = part.answers[self.path]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]

    def daemons(self, **seconds_since_heartbeat: float) -> None:
        now_s = clock.now_ns() / clock.NS_PER_SECOND
        statuses = [
            {"daemonType": name.upper(), "required": True, "healthy": True, "lastHeartbeatTime": now_s - age_s}
            for name, age_s in seconds_since_heartbeat.items()
        ]
        found = {"data": {"instance": {"daemonHealth": {"allDaemonStatuses": statuses}}}}
        self.answers["/graphql"] = (200, found)


@pytest.fixture
def part() -> Iterator[Part]:
    made = Part()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def heard(ask: Any) -> type[Exception]:
    with pytest.raises(probes.NotYet) as caught:
        ask()
    return caught.type


def test_nobody_at_the_port_is_silence(free_ports: Any) -> None:
    ports: Ports = free_ports()
    assert heard(lambda: probes.registry(f"http://127.0.0.1:{ports.registry}")) is probes.Silent
    assert heard(lambda: probes.dagster_code(ports.dagster_code)) is probes.Silent
    assert heard(lambda: probes.broker(f"127.0.0.1:{ports.kafka}")) is probes.Silent


def test_part_that_says_it_cannot_serve_is_not_silent(part: Part) -> None:
    part.answers["/ready"] = (503, {"error": "the catalog is locked"})
    assert heard(lambda: probes.api(f"http://127.0.0.1:{part.port}")) is probes.NotYet


def test_daemon_is_silent_when_one_of_its_heartbeats_is_long_ago(part: Part) -> None:
    part.daemons(sensor=5, asset=40)
    assert probes.dagster_daemon(part.port, started_s=0) == probes.Answer()
    part.daemons(sensor=500, asset=40)
    with pytest.raises(probes.Silent, match="no heartbeat of sensor for 500 s"):
        probes.dagster_daemon(part.port, started_s=0)


def test_daemon_that_has_not_beaten_since_its_start_is_starting(part: Part) -> None:
    part.daemons(sensor=500)
    started_s = clock.now_ns() / clock.NS_PER_SECOND - 100
    assert heard(lambda: probes.dagster_daemon(part.port, started_s)) is probes.NotYet


def test_webserver_that_is_away_says_nothing_of_the_daemon(free_ports: Any) -> None:
    assert heard(lambda: probes.dagster_daemon(free_ports().dagster, started_s=0)) is probes.NotYet


def test_probes_build_one_client_and_its_tls_context_once(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    make = ssl.SSLContext.__new__
    monkeypatch.setattr(ssl.SSLContext, "__new__", lambda *given, **more: built.append(given) or make(*given, **more))
    probes._client.cache_clear()
    part.answers["/health"] = (200, {"venues": {"kraken": {"symbols": ["BTC/USD"]}}})
    for _ in range(5):
        assert probes.feed_symbols(part.port) == {"kraken": ["BTC/USD"]}
    assert len(built) == 1
