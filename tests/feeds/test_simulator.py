import asyncio
import contextlib
import itertools
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from k2_core.errors import PartError
from k2_core.venues import binance
from k2_feeds.simulator.frame_sources import MarketSource, Player
from k2_feeds.simulator.recording import recording_of, survey
from k2_feeds.simulator.server import Hub, serve_venue
from tests.feeds.feed_fixtures import a_trade_frame, free_port, simulating

WITHIN_S = 240


async def subscribe(socket: ClientConnection, *streams: str) -> None:
    await socket.send(json.dumps({"method": "SUBSCRIBE", "params": list(streams), "id": 1}))


async def receive(socket: ClientConnection, count: int) -> list[bytes]:
    async with asyncio.timeout(WITHIN_S):
        return [await socket.recv(decode=False) for _ in range(count)]


async def status(url: str) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(url.replace("ws://", "http://") + "/status")
    found: dict[str, Any] = answer.json()
    return found


async def until_status(url: str, **expected: object) -> dict[str, Any]:
    async with asyncio.timeout(WITHIN_S):
        while True:
            found = await status(url)
            if found | expected == found:
                return found
            await asyncio.sleep(0.02)


def a_player(folder: Path, *lines: tuple[int, bytes], speed: float | None = None) -> Player:
    path = folder / "binance_made.jsonl"
    path.write_bytes(b"".join(b"%d %b\n" % line for line in lines))
    recording = recording_of(path)
    return Player([recording], survey([recording]), speed)


async def test_market_sends_combined_trades_with_contiguous_ids_when_subscribed() -> None:
    async with simulating(MarketSource(1, ("BTCUSDT", "ETHUSDT"), 2000)) as url, connect(f"{url}/stream") as socket:
        await subscribe(socket, "btcusdt@trade")
        reply, *frames = await receive(socket, 500)

    assert json.loads(reply) == {"result": None, "id": 1}
    found = [json.loads(frame) for frame in frames]
    assert {frame["stream"] for frame in found} == {"btcusdt@trade"}
    ids = [frame["data"]["t"] for frame in found]
    assert all(after == before + 1 for before, after in itertools.pairwise(ids))


async def test_market_sends_raw_trades_at_ws() -> None:
    async with (
        simulating(MarketSource(1, ("BTCUSDT",), 500)) as url,
        connect(f"{url}/ws/btcusdt@trade") as socket,
    ):
        frames = await receive(socket, 3)

    assert {json.loads(frame)["e"] for frame in frames} == {"trade"}


async def test_status_tells_of_a_market() -> None:
    async with simulating(MarketSource(9, ("BTCUSDT",), 500)) as url:
        found = await status(url)

    assert (found["mode"], found["symbols"], found["finished"]) == ("market", ["BTCUSDT"], False)


async def test_a_connection_is_cut_when_its_time_is_up() -> None:
    async with simulating(MarketSource(1, ("BTCUSDT",), 1), cut_after_s=0.2) as url, connect(f"{url}/stream") as socket:
        with pytest.raises(ConnectionClosed):
            await receive(socket, 1)

    assert socket.close_code == 1001


async def test_a_connection_is_ended_when_it_asks_too_often() -> None:
    async with simulating(MarketSource(1, ("BTCUSDT",), 1)) as url, connect(f"{url}/stream") as socket:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(20):
                await socket.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": 1}))
            await receive(socket, 20)

    assert socket.close_code == 1008


async def test_unknown_paths_and_streams_are_refused() -> None:
    async with simulating(MarketSource(1, ("BTCUSDT",), 1)) as url:
        for path, code in (("/elsewhere", 404), ("/stream?streams=BTC", 400)):
            with pytest.raises(InvalidStatus, match=str(code)):
                await connect(url + path)


async def test_a_taken_port_is_said() -> None:
    port = free_port()
    async with simulating(MarketSource(1, ("BTCUSDT",), 1), port=port):
        with pytest.raises(PartError, match=f"port {port} cannot be used"):
            await serve_venue(Hub(1), port, dict)


async def test_player_sends_only_what_is_subscribed_byte_for_byte_and_says_finished(tmp_path: Path) -> None:
    kept = [a_trade_frame(1), a_trade_frame(2), b"poison \xff", b'{"stream": "btcusdt@trade" ,"data":{"p":nu']
    left_out = [a_trade_frame(1, "ETHUSDT"), b'{"stream":"btcusdt@bookTicker","data":{}}', b'{"result":null,"id":1}']
    lines = list(enumerate(itertools.chain(kept, left_out)))
    player = a_player(tmp_path, *lines)

    async with simulating(player) as url, connect(f"{url}/stream") as socket:
        await subscribe(socket, "btcusdt@trade")
        frames = await receive(socket, 1 + len(kept))
        found = await until_status(url, finished=True)
        with pytest.raises(TimeoutError):  # the connection stays open and silent
            async with asyncio.timeout(0.3):
                await socket.recv()

    assert frames[1:] == kept
    assert (found["mode"], found["position"], found["total"]) == ("recording", 7, 7)
    assert found["symbols"] == ["BTCUSDT", "ETHUSDT"]


@pytest.mark.parametrize(
    "path", ["/stream?streams=btcusdt@trade/btcusdt@bookTicker", "/ws/btcusdt@trade/btcusdt@bookTicker"]
)
async def test_player_wraps_what_was_recorded_raw_for_whoever_asks_for_combined_streams(
    tmp_path: Path, path: str
) -> None:
    trade = json.dumps(json.loads(a_trade_frame(1))["data"]).encode()
    quote = b'{ "u":1,"s":"BTCUSDT","b":"1.5","B":"1","a":"1.6","A":"1"}'
    rest = [b'{"e":"serverShutdown","E":1}', a_trade_frame(2)]
    wrapped = [b'{"stream":"btcusdt@trade","data":%b}' % trade, b'{"stream":"btcusdt@bookTicker","data":%b}' % quote]
    player = a_player(tmp_path, *enumerate([trade, quote, *rest]))

    async with simulating(player) as url, connect(url + path) as socket:
        received = await receive(socket, 4)

    assert received == ([*wrapped, *rest] if path.startswith("/stream") else [trade, quote, *rest])
    if path.startswith("/stream"):
        assert [binance.route(frame).channel for frame in received] == ["trade", "quote", "control", "trade"]


async def test_player_begins_at_the_first_subscription(tmp_path: Path) -> None:
    player = a_player(tmp_path, (1, a_trade_frame(1)))

    async with simulating(player) as url, connect(f"{url}/stream") as socket:
        await asyncio.sleep(0.2)
        assert (await status(url))["position"] == 0
        await subscribe(socket, "btcusdt@trade")
        assert (await receive(socket, 2))[1] == a_trade_frame(1)


async def test_player_at_full_speed_sends_every_frame_in_order(tmp_path: Path) -> None:
    frames = [a_trade_frame(n) for n in range(25_003)]
    player = a_player(tmp_path, *enumerate(frames))

    async with simulating(player) as url, connect(f"{url}/stream") as socket:
        await subscribe(socket, "btcusdt@trade")
        assert (await receive(socket, 1 + len(frames)))[1:] == frames


async def test_player_pauses_at_full_speed_while_nobody_is_subscribed(tmp_path: Path) -> None:
    total = 200_000
    player = a_player(tmp_path, *((n, a_trade_frame(n)) for n in range(total)))

    async with simulating(player) as url:
        async with connect(f"{url}/stream") as socket:
            await subscribe(socket, "btcusdt@trade")
            await receive(socket, 2)
        await asyncio.sleep(0.2)
        paused = (await status(url))["position"]
        await asyncio.sleep(0.2)
        assert (await status(url))["position"] == paused < total
        async with connect(f"{url}/stream") as socket:
            await subscribe(socket, "btcusdt@trade")
            (_, first) = await receive(socket, 2)

    assert json.loads(first)["data"]["t"] == paused


async def test_player_loses_what_is_due_while_nobody_is_connected_when_it_has_its_own_timing(tmp_path: Path) -> None:
    lines = [(n * 1_000_000, a_trade_frame(n)) for n in range(3_000)]
    player = a_player(tmp_path, *lines, speed=1.0)

    async with simulating(player) as url:
        async with connect(f"{url}/stream") as socket:
            await subscribe(socket, "btcusdt@trade")
            last = json.loads((await receive(socket, 10))[-1])["data"]["t"]
        await asyncio.sleep(0.3)
        async with connect(f"{url}/stream") as socket:
            await subscribe(socket, "btcusdt@trade")
            again = json.loads((await receive(socket, 2))[-1])["data"]["t"]

    assert again > last + 100


async def test_player_plays_once_when_the_second_client_comes_after_the_end(tmp_path: Path) -> None:
    player = a_player(tmp_path, (1, a_trade_frame(1)))

    async with simulating(player) as url:
        async with connect(f"{url}/stream?streams=btcusdt@trade") as socket:
            await receive(socket, 1)
        async with connect(f"{url}/stream?streams=btcusdt@trade") as socket:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await socket.recv()
