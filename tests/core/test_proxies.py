"""Proxies of the environment: who is asked through them, who never is, and the words for one that cannot be used."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from websockets.asyncio.server import serve

from k2_assets.reference.fetch_list import fetch as fetch_list
from k2_core.errors import DownloadError, SettingsError
from k2_core.loopback import is_loopback, sparing_loopback
from k2_core.proxies import proxy_for
from k2_core.registry import Registry
from k2_core.settings import child_environment, load_settings
from k2_core.venues import VENUES
from k2_feeds.socket.fleet import Source
from k2_feeds.socket.listed_symbols import fetch as fetch_listed
from k2_feeds.socket.websockets import dial
from k2_stack import probes

NOBODY = "http://127.0.0.1:9"
VALUES = [
    [f"{name}={NOBODY}" for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy")],
    [f"{name}={NOBODY}" for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")],
    ["ALL_PROXY=socks5://127.0.0.1:9", "NO_PROXY=localhost,127.0.0.1,::1,[::1]"],
    ["all_proxy=socks://127.0.0.1:9", "NO_PROXY=fe80::/10", "no_proxy=,;["],
    ["HTTP_PROXY=http://proxy garbage", "https_proxy=http://[::1"],
    ["http_proxy=://", "HTTPS_PROXY=http://proxy:port"],
]
LISTED = b'{"symbols":[{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT","filters":[]}]}'


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http", "https", "all", "no", "ws", "wss", "no_grpc", "grpc"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)


def set_to(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    for line in lines:
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, value)


@contextmanager
def answering(body: bytes, asked: list[str] | None = None) -> Iterator[str]:
    """An HTTP server on loopback, or a proxy if it is used as one: ``asked`` is what it was asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if asked is not None:
                asked.append(self.path.partition("?")[0])
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_CONNECT(self) -> None:
            if asked is not None:
                asked.append(self.path.partition("?")[0])
            self.send_error(502)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("values", VALUES)
async def test_loopback_is_asked_directly_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, values: list[str]
) -> None:
    set_to(monkeypatch, *values)
    with answering(LISTED) as url:
        assert fetch_list(f"{url}/list", None) == LISTED
        source = Source(VENUES["binance"], "ws://127.0.0.1:1", url, ("BTCUSDT",), ("trades",))
        assert await fetch_listed(source, None) == {"BTCUSDT"}
    with answering(b'["a-subject"]') as url, Registry(url) as registry:
        assert registry._client.get_subjects() == ["a-subject"]
    async with serve(lambda socket: socket.wait_closed(), "127.0.0.1", 0) as venue:
        await (await dial(f"ws://127.0.0.1:{venue.sockets[0].getsockname()[1]}")).close()


def test_grpc_asks_the_code_server_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to(monkeypatch, f"http_proxy={NOBODY}", f"https_proxy={NOBODY}", f"grpc_proxy={NOBODY}")

    server = grpc.server(ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    servicer.set("DagsterApi", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert probes.dagster_code(port) == probes.Answer()
    finally:
        server.stop(None)


async def test_another_address_is_asked_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    with answering(LISTED, asked) as proxy:
        set_to(monkeypatch, f"HTTP_PROXY={proxy}", f"ALL_PROXY={proxy}", "NO_PROXY=[::1],fe80::/10,127.0.0.1")
        assert fetch_list("http://venue.invalid/list", None) == LISTED
        source = Source(VENUES["binance"], "ws://venue.invalid", "http://venue.invalid", ("BTCUSDT",), ("trades",))
        assert await fetch_listed(source, None) == {"BTCUSDT"}
        with pytest.raises(Exception, match="502"):
            await dial("ws://venue.invalid/ws")
    with answering(b"[]", asked) as proxy:
        set_to(monkeypatch, f"HTTP_PROXY={proxy}")
        with Registry("http://registry.invalid:8081") as registry:
            assert registry._client.get_subjects() == []
    lists = ["http://venue.invalid/list", "http://venue.invalid/api/v3/exchangeInfo"]
    assert asked == [*lists, "venue.invalid:80", "http://registry.invalid:8081/subjects"]


@pytest.mark.parametrize(
    "value",
    ["ALL_PROXY=socks5://127.0.0.1:9", "ALL_PROXY=socks://127.0.0.1:9", "HTTP_PROXY=http://proxy garbage",
     "HTTP_PROXY=http://proxy:port", "HTTP_PROXY=ftp://proxy", "HTTP_PROXY=http://", "HTTP_PROXY=http://proxy/path"],
)  # fmt: skip
async def test_a_proxy_that_cannot_be_used_is_one_sentence(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    set_to(monkeypatch, value)
    said = f"{value} cannot be used: write an HTTP proxy as http://host:port, or unset the variable."
    source = Source(VENUES["binance"], "ws://venue.invalid", "http://venue.invalid", ("BTCUSDT",), ("trades",))
    with pytest.raises(SettingsError) as raised:
        await fetch_listed(source, None)
    assert str(raised.value) == said
    with pytest.raises(DownloadError) as raised_too:
        fetch_list("http://venue.invalid/list", None)
    assert str(raised_too.value) == f"http://venue.invalid/list could not be fetched: {said}"
    with pytest.raises(SettingsError):
        Registry("http://registry.invalid")


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to(monkeypatch, "HTTPS_PROXY=socks5://me:secret@proxy:1")
    with pytest.raises(SettingsError) as raised:
        proxy_for("https://venue.invalid")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "lines", "expected"),
    [
        ("https://a.b", ["HTTPS_PROXY=p:1", "ALL_PROXY=socks5://s:1"], "http://p:1"),
        ("wss://a.b", ["https_proxy=http://p:1", "HTTPS_PROXY=http://q:1"], "http://p:1"),
        ("wss://a.b", ["ALL_PROXY=socks5://s:1"], None),
        ("wss://a.b", ["ALL_PROXY=http://p:1"], "http://p:1"),
        ("wss://a.b", ["HTTP_PROXY=http://p:1"], None),
        ("ws://a.b", ["HTTP_PROXY=http://p:1"], "http://p:1"),
        ("https://a.b", ["https_proxy=", "HTTPS_PROXY=http://p:1"], None),
        ("https://a.b:444", ["https_proxy=http://p:1", "NO_PROXY=a.b:443"], "http://p:1"),
        ("https://a.b", ["https_proxy=http://p:1", "NO_PROXY=a.b:443"], None),
        ("https://a.b", ["https_proxy=http://p:1", "NO_PROXY=.b"], None),
        ("https://a.b", ["https_proxy=http://p:1", "NO_PROXY=[],.,xa.b"], "http://p:1"),
        ("https://10.1.2.3", ["https_proxy=http://p:1", "NO_PROXY=10.0.0.0/8"], None),
        ("https://[fe80::1]", ["https_proxy=http://p:1", "NO_PROXY=[fe80::]/10"], None),
        ("https://[2001:db8::1]", ["https_proxy=http://p:1", "NO_PROXY=[2001:db8::1]"], None),
        ("https://127.0.0.2", ["https_proxy=http://p:1"], None),
        ("https://[::1]", ["https_proxy=http://p:1"], None),
    ],
)
def test_the_proxy_of_a_url(monkeypatch: pytest.MonkeyPatch, url: str, lines: list[str], expected: str | None) -> None:
    set_to(monkeypatch, *lines)
    assert proxy_for(url) == expected


def test_child_processes_spare_loopback_and_what_the_user_spares(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to(monkeypatch, "NO_PROXY=example.com,[::1]", "no_grpc_proxy=grpc.example.com")
    found = child_environment()
    assert found["no_proxy"] == found["NO_PROXY"] == "example.com,::1,127.0.0.1,localhost"
    assert found["no_grpc_proxy"] == "grpc.example.com,127.0.0.1,localhost,::1"
    assert sparing_loopback({})["no_proxy"] == "127.0.0.1,localhost,::1"
    assert load_settings()


def test_loopback_is_known_by_every_name() -> None:
    here = ("localhost", "LOCALHOST.", "x.localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1")
    assert all(map(is_loopback, here))
    assert not any(map(is_loopback, ("localhost.example.com", "128.0.0.1", "::2", "", None)))
