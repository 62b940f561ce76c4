import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from k2_core.errors import SettingsError
from k2_core.settings import Feeds
from k2_core.venues import binance
from k2_feeds.kafka.feed_events import Kind
from k2_feeds.socket.backoff import Backoff
from k2_feeds.socket.connection import Connection
from k2_feeds.socket.websockets import MAX_MESSAGE_BYTES
from tests.feeds.feed_fixtures import WITHIN_S, a_trade_frame, free_port, until

QUICK = Feeds(backoff_first_s=0.01, backoff_last_s=0.05, silence_s=30)
ACK = b'{"result":null,"id":1}'
Handler = Callable[[ServerConnection], Awaitable[None]]


class Collected:
    """A sink that keeps what it is given."""

    full = False

    def __init__(self) -> None:
        self.connections: list[str] = []
        self.frames: list[bytes] = []
        self.heard: dict[tuple[str, str], int] = {}
        self.events: list[tuple[str, dict[str, str]]] = []

    async def wait_until_accepted(self) -> None:
        """Never waited for."""

    def open(self, connection_id: str) -> "Collected":
        self.connections.append(connection_id)
        return self

    def close(self) -> None:
        """Go on: the next connection is kept here too."""

    def take(self, received_ns: int, payload: bytes) -> None:
        assert received_ns > 0
        self.frames.append(payload)

    def note(self, kind: Kind, symbol: str = "", **details: str) -> None:  # noqa: ARG002  # as the protocol says
        self.events.append((kind, details))

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


@asynccontextmanager
async def running(
    url: str, feeds: Feeds = QUICK, *, heeds_silence: bool = True
) -> AsyncIterator[tuple[Connection, Collected]]:
    sink = Collected()
    connection = Connection(binance, url, ("BTCUSDT",), feeds, sink, heeds_silence=heeds_silence)
    task = asyncio.create_task(connection.run())
    try:
        yield connection, sink
    finally:
        connection.stop()
        async with asyncio.timeout(WITHIN_S):
            await task


@asynccontextmanager
async def a_server(handler: Handler, port: int = 0) -> AsyncIterator[str]:
    async def quiet(socket: ServerConnection) -> None:
        try:
            await handler(socket)
        except ConnectionClosed:
            return

    port = port or free_port()
    async with serve(quiet, "127.0.0.1", port, compression=None, max_size=None):
        yield f"ws://127.0.0.1:{port}"


async def acknowledged(socket: ServerConnection) -> None:
    await socket.recv()
    await socket.send(ACK, text=True)


async def test_connection_subscribes_and_takes_every_frame_verbatim() -> None:
    async def handler(socket: ServerConnection) -> None:
        request = json.loads(await socket.recv())
        assert request == {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1}
        await socket.send(ACK, text=True)
        await socket.send(a_trade_frame(1), text=True)
        await socket.send(b"\xff\x00binary")
        await socket.wait_closed()

    async with a_server(handler) as url, running(url) as (connection, sink):
        await until(lambda: len(sink.frames) == 3)
        assert connection.connected_since_ns is not None
        await until(lambda: connection.message == f"connected to {url}/stream")

    assert sink.frames == [ACK, a_trade_frame(1), b"\xff\x00binary"]
    assert sink.kinds() == ["connect", "subscribe", "ack", "disconnect"]
    assert connection.connected_since_ns is None


async def test_connection_comes_back_when_the_venue_closes_it() -> None:
    async def handler(socket: ServerConnection) -> None:
        await acknowledged(socket)

    async with a_server(handler) as url, running(url) as (connection, sink):
        await until(lambda: len(sink.connections) >= 3)

    assert len(set(sink.connections)) == len(sink.connections)
    assert connection.reconnects["closed"] >= 2


async def test_connection_never_gives_up_and_says_why_it_cannot_reach_the_venue() -> None:
    port = free_port()
    async with running(f"ws://127.0.0.1:{port}") as (connection, sink):
        await until(lambda: connection.reconnects["unreachable"] >= 5)
        assert f"ws://127.0.0.1:{port}/stream cannot be reached" in connection.message
        assert sink.connections == []
        async with a_server(acknowledged, port):
            await until(lambda: sink.frames == [ACK])


async def test_connection_is_renewed_when_nothing_is_heard() -> None:
    async def handler(socket: ServerConnection) -> None:
        await acknowledged(socket)
        await socket.wait_closed()

    feeds = QUICK.model_copy(update={"silence_s": 0.3})
    async with a_server(handler) as url, running(url, feeds) as (connection, sink):
        await until(lambda: len(sink.connections) >= 2)

    assert connection.reconnects["silence"] >= 1
    assert ("disconnect", "silence") in [(kind, details.get("reason")) for kind, details in sink.events]


async def test_pings_of_the_venue_are_answered_and_are_no_silence() -> None:
    pongs = 0

    async def handler(socket: ServerConnection) -> None:
        nonlocal pongs
        await acknowledged(socket)
        while True:
            await (await socket.ping())
            pongs += 1
            await asyncio.sleep(0.05)

    feeds = QUICK.model_copy(update={"silence_s": 0.8})
    async with a_server(handler) as url, running(url, feeds, heeds_silence=False) as (_, sink):
        await until(lambda: pongs >= 30)

    assert len(sink.connections) == 1


async def test_connection_is_renewed_when_a_subscription_is_not_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_feeds.socket.session.ACKNOWLEDGE_S", 0.2)

    async def handler(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(b'{"result":["btcusdt@trade"],"id":1}', text=True)
        await socket.wait_closed()

    async with a_server(handler) as url, running(url) as (connection, sink):
        await until(lambda: connection.reconnects["not_acknowledged"] >= 2)

    assert "ack" not in sink.kinds()


async def test_a_refused_request_is_tried_again_and_the_venues_words_are_said() -> None:
    async def handler(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(b'{"error":{"code":2,"msg":"too many streams"},"id":1}', text=True)
        await socket.wait_closed()

    async with a_server(handler) as url, running(url) as (connection, sink):
        await until(lambda: connection.reconnects["refused"] >= 2)
        assert "the venue refuses the subscription: too many streams" in connection.message

    assert "ack" not in sink.kinds()


async def test_a_large_frame_arrives_and_one_beyond_all_bounds_only_ends_the_connection() -> None:
    large = b"x" * (3 * 1024 * 1024)

    async def handler(socket: ServerConnection) -> None:
        await acknowledged(socket)
        await socket.send(large)
        await socket.send(b"x" * (MAX_MESSAGE_BYTES + 1))
        await socket.wait_closed()

    async with a_server(handler) as url, running(url) as (connection, sink):
        await until(lambda: len(sink.connections) >= 2)

    assert large in sink.frames
    assert connection.reconnects["closed"] >= 1


async def test_what_was_sent_before_a_stop_is_taken() -> None:
    sent: list[bytes] = []

    async def handler(socket: ServerConnection) -> None:
        await acknowledged(socket)
        for number in range(20_000):
            await socket.send(a_trade_frame(number), text=True)
            sent.append(a_trade_frame(number))
        await socket.wait_closed()

    async with a_server(handler) as url, running(url) as (connection, sink):
        await until(lambda: len(sent) > 5_000)
        connection.stop()

    assert len(sink.frames) > 5_000
    assert sink.frames[1:] == sent[: len(sink.frames) - 1]


@pytest.mark.parametrize(
    "url", ["https://example.com", "ws://[bad", "ws://venue:99999", "ws://venue:port", f"ws://{'a' * 64}.com", "venue"]
)
async def test_a_url_that_is_none_is_a_settings_error(url: str) -> None:
    connection = Connection(binance, url, ("BTCUSDT",), QUICK, Collected())

    with pytest.raises(SettingsError, match="not a WebSocket URL"):
        await connection.run()


def test_backoff_doubles_with_jitter_to_its_bound_and_begins_again_when_reset() -> None:
    middle = Backoff(1, 128, chance=lambda: 0.5)

    assert [middle.delay_s() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 64, 128, 128]
    middle.reset()
    assert middle.delay_s() == 1
    assert Backoff(2, 4, chance=lambda: 0.0).delay_s() == 1
    assert Backoff(2, 4, chance=lambda: 1.0).delay_s() == 3
