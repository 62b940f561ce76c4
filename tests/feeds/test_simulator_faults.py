import asyncio
import json
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from k2_core import clock
from k2_core.errors import PartError, SettingsError
from k2_feeds.simulator import control
from tests.feeds.feed_fixtures import free_port
from tests.feeds.simulated import SYMBOLS, WITHIN_S, Listener, a_simulator, hear_meanwhile

VENUES = sorted(SYMBOLS)


@pytest.mark.parametrize("venue", VENUES)
async def test_the_truth_is_what_a_listener_heard_when_there_are_no_faults(tmp_path: Path, venue: str) -> None:
    async with a_simulator(tmp_path) as simulator, simulator.listener(venue) as listener:
        await listener.hear(lambda each: len(each.trades()) > 200)
        in_the_log = {row["id"]: row for row in simulator.rows("trades", venue)}

    price, quantity = {"binance": "pq", "kraken": ("price", "qty"), "coinbase": ("price", "size")}[venue]
    sides = {
        "binance": lambda trade: "SELL" if trade["m"] else "BUY",
        "kraken": lambda trade: trade["side"].upper(),
        "coinbase": lambda trade: {"BUY": "SELL", "SELL": "BUY"}[trade["side"]],
    }
    for trade in listener.trades():
        row = in_the_log[trade["id"]]
        assert Decimal(str(trade[price])) == Decimal(row["price"])
        assert Decimal(str(trade[quantity])) == Decimal(row["quantity"])
        assert sides[venue](trade) == row["side"]
    assert set(listener.ids()) == set(range(min(listener.ids()), max(listener.ids()) + 1))


@pytest.mark.parametrize("venue", VENUES)
async def test_every_quote_that_was_heard_stands_in_the_truth(tmp_path: Path, venue: str) -> None:
    async with a_simulator(tmp_path, 500) as simulator, simulator.listener(venue) as listener:
        await listener.hear(lambda each: len(each.quotes()) > 500)
        in_the_log = {
            _key(row["bid"], row["bid_quantity"], row["ask"], row["ask_quantity"], row["id"] or row["time_us"])
            for row in simulator.rows("quotes", venue)
        }

    heard = [_key(*quote) for quote in listener.quotes()]
    assert set(heard) <= in_the_log
    assert len(set(heard)) == len(heard)


def _key(*quote: Any) -> tuple[Any, ...]:
    """Spell the numbers of a quote alike; a side that nobody offers is zero in frames and null in the truth."""
    return *(Decimal(str(number or 0)) for number in quote[:4]), quote[4]


@pytest.mark.parametrize("venue", VENUES)
async def test_dropped_messages_are_missing_and_are_in_the_log(tmp_path: Path, venue: str) -> None:
    async with a_simulator(tmp_path) as simulator, simulator.listener(venue) as listener:
        answer = await hear_meanwhile(listener, simulator.suffer("drop", venue, count=12))
        ids = listener.ids()
        dropped, rows = simulator.dropped_ids(venue), simulator.rows("dropped", venue)

    assert answer["happened"] == len(rows) == 12
    assert {row["data"] for row in rows} <= {"trades", "quotes"}
    assert set(range(min(ids), max(ids) + 1)) - set(ids) == {number for number in dropped if number < max(ids)}


async def test_only_the_named_symbol_suffers(tmp_path: Path) -> None:
    async with a_simulator(tmp_path) as simulator, simulator.listener("kraken") as listener:
        task = asyncio.create_task(simulator.suffer("drop", "kraken", symbol="ETH/USD"))
        await listener.hear_for(0.7)
        assert simulator.rows("dropped", "kraken") == []
        assert not task.done()
        simulator.hub.venues["kraken"].armed[0].over.set()
        await task


@pytest.mark.parametrize("channel", ["trades", "quotes"])
async def test_only_the_named_channel_suffers(tmp_path: Path, channel: str) -> None:
    async with a_simulator(tmp_path) as simulator, simulator.listener("binance") as listener:
        await hear_meanwhile(listener, simulator.suffer("drop", "binance", count=8, channel=channel))
        rows = simulator.rows("dropped", "binance")

    assert [row["data"] for row in rows] == [channel] * 8


async def test_what_was_dropped_stays_away_from_later_snapshots(tmp_path: Path) -> None:
    async with a_simulator(tmp_path) as simulator, simulator.listener("coinbase") as listener:
        await hear_meanwhile(listener, simulator.suffer("drop", "coinbase", count=20, channel="trades"))
        async with simulator.listener("coinbase") as later:
            await later.hear(lambda each: len(each.trades()) > 10)
        assert simulator.dropped_ids("coinbase")
        assert not simulator.dropped_ids("coinbase") & {*later.ids(), *listener.ids()}


async def test_a_drop_leaves_a_hole_in_the_numbers_of_coinbases_connection(tmp_path: Path) -> None:
    async with a_simulator(tmp_path) as simulator, simulator.listener("coinbase") as listener:
        await hear_meanwhile(listener, simulator.suffer("drop", "coinbase", count=3))

    numbers = [frame["sequence_num"] for frame in listener.readable()]
    assert sum(after - before - 1 for before, after in pairwise(numbers)) == 3


@pytest.mark.parametrize("venue", VENUES)
async def test_duplicated_messages_come_twice(tmp_path: Path, venue: str) -> None:
    async with a_simulator(tmp_path) as simulator, simulator.listener(venue) as listener:
        await hear_meanwhile(listener, simulator.suffer("duplicate", venue, count=15))

    said = [frame for frame in listener.frames if b"heartbeat" not in frame]
    assert len(said) - len(set(said)) == 15


@pytest.mark.parametrize("venue", VENUES)
async def test_reordered_messages_change_places_and_none_is_lost(tmp_path: Path, venue: str) -> None:
    async with a_simulator(tmp_path, 600) as simulator, simulator.listener(venue) as listener:
        answer = await hear_meanwhile(listener, simulator.suffer("reorder", venue, count=20))

    ids = listener.ids()
    assert answer["happened"] == 20
    assert set(ids) == set(range(min(ids), max(ids) + 1))
    firsts = [min(run) for run in _messages_of_trades(listener)]
    assert any(after < before for before, after in pairwise(firsts))


def _messages_of_trades(listener: Listener) -> list[list[int]]:
    single = [Listener(listener.venue, listener.socket) for _ in listener.frames]
    for each, frame in zip(single, listener.frames, strict=True):
        each.frames.append(frame)
    return [each.ids() for each in single if each.ids()]


@pytest.mark.parametrize("venue", VENUES)
async def test_malformed_frames_stand_beside_the_good_ones(tmp_path: Path, venue: str) -> None:
    async with a_simulator(tmp_path) as simulator, simulator.listener(venue) as listener:
        await hear_meanwhile(listener, simulator.suffer("malformed", venue, count=6))

    assert len(listener.frames) - len(listener.readable()) == 6
    assert set(listener.ids()) == set(range(min(listener.ids()), max(listener.ids()) + 1))


@pytest.mark.parametrize("venue", VENUES)
async def test_a_disconnect_ends_the_connection_in_the_middle_of_a_frame(tmp_path: Path, venue: str) -> None:
    async with a_simulator(tmp_path) as simulator, simulator.listener(venue) as listener:
        await simulator.suffer("disconnect", venue)
        with pytest.raises(ConnectionClosedError) as ended:
            await listener.hear(lambda _: False)
        assert listener.socket.close_code == 1006
        assert ended.value.rcvd is None  # no close frame: the bytes just end
        async with simulator.listener(venue) as again:
            assert min(again.ids()) > 0
        left = await simulator.until_in_the_log(venue, "client_left", 2)

    assert len(left) == 2
    assert simulator.rows("dropped", venue) == []


@pytest.mark.parametrize("venue", VENUES)
async def test_a_silent_venue_accepts_and_answers_and_says_nothing(tmp_path: Path, venue: str) -> None:
    async with a_simulator(tmp_path) as simulator, simulator.listener(venue) as listener:
        task = asyncio.create_task(simulator.suffer("silence", venue, seconds=1.2))
        await simulator.until_in_the_log(venue, "silence", 1)
        await listener.hear_for(0.2)
        heard = len(listener.trades())
        pong = await listener.socket.ping()
        async with asyncio.timeout(WITHIN_S):
            await pong
        await listener.hear_for(0.5)
        assert len(listener.trades()) == heard
        await task
        await listener.hear(lambda each: len(each.trades()) > heard + 10)
        dropped, ids = simulator.dropped_ids(venue), listener.ids()

    assert dropped
    assert set(range(min(ids), max(ids) + 1)) - set(ids) == dropped


@pytest.mark.parametrize(("fault", "code"), [("slow", 1008), ("cut", 1001)])
async def test_connections_are_closed_by_code(tmp_path: Path, fault: str, code: int) -> None:
    async with a_simulator(tmp_path) as simulator, simulator.listener("kraken") as listener:
        await simulator.suffer(fault, "kraken", seconds=0.3)
        with pytest.raises(ConnectionClosed):
            await listener.hear(lambda _: False)

    assert listener.socket.close_code == code


async def test_a_shutdown_is_announced_before_the_cut(tmp_path: Path) -> None:
    async with a_simulator(tmp_path) as simulator, simulator.listener("binance") as listener:
        task = asyncio.create_task(simulator.suffer("shutdown", "binance", seconds=0.5))
        with pytest.raises(ConnectionClosed):
            await listener.hear(lambda _: False)
        await task

    announced = [frame for frame in listener.readable() if frame.get("e") == "serverShutdown"]
    assert [set(frame) for frame in announced] == [{"e", "E"}]
    assert listener.socket.close_code == 1001


async def test_a_skewed_clock_shifts_what_is_sent_and_the_truth_with_it(tmp_path: Path) -> None:
    async with a_simulator(tmp_path) as simulator, simulator.listener("binance") as listener:
        before = len(listener.trades())
        await hear_meanwhile(listener, simulator.suffer("skew", "binance", seconds=100, for_s=0.8))
        in_the_log = {row["id"]: row["time_us"] for row in simulator.rows("trades", "binance")}

    ahead = [trade for trade in listener.trades()[before:] if trade["T"] * 1000 > clock.now_us() + 50_000_000]
    assert ahead
    assert all(trade["E"] >= trade["T"] for trade in ahead)
    assert all(in_the_log[trade["id"]] == trade["T"] * 1000 for trade in listener.trades())


async def test_stale_events_are_freshly_published(tmp_path: Path) -> None:
    async with a_simulator(tmp_path) as simulator, simulator.listener("binance") as listener:
        await hear_meanwhile(listener, simulator.suffer("stale", "binance", seconds=90, for_s=0.8))

    assert any(trade["E"] - trade["T"] > 80_000 for trade in listener.trades())


async def test_too_many_requests_are_answered_by_429_until_it_is_over(tmp_path: Path) -> None:
    async with a_simulator(tmp_path) as simulator, httpx.AsyncClient(trust_env=False) as client:
        url = simulator.url.replace("ws://", "http://") + "/0/public/AssetPairs"
        task = asyncio.create_task(simulator.suffer("http_429", "kraken", seconds=3))
        await simulator.until_in_the_log("kraken", "http_429", 1)
        refused = await client.get(url)
        with pytest.raises(InvalidStatus) as handshake:
            await connect(f"{simulator.url}/v2")
        other = await client.get(url.replace("/0/public/AssetPairs", "/products"))
        await task
        allowed = await client.get(url)

    assert (refused.status_code, other.status_code, allowed.status_code) == (429, 200, 200)
    assert 1 <= int(refused.headers["Retry-After"]) <= 3
    assert handshake.value.response.status_code == 429
    assert int(handshake.value.response.headers["Retry-After"]) >= 1


async def test_clients_that_come_and_go_are_in_the_log(tmp_path: Path) -> None:
    async with a_simulator(tmp_path) as simulator:
        async with simulator.listener("kraken"):
            pass
        await simulator.until_in_the_log("kraken", "client_left", 1)
        assert [row["fault"] for row in simulator.rows("faults", "kraken")] == ["client_came", "client_left"]
        assert all(row["at_ns"] <= clock.now_ns() for row in simulator.rows("faults", "kraken"))


async def test_a_wrong_request_is_refused_with_its_reason(tmp_path: Path) -> None:
    async with a_simulator(tmp_path) as simulator:
        with pytest.raises(SettingsError, match="'fire' is not a fault"):
            await simulator.suffer("fire", "binance")
        with pytest.raises(SettingsError, match="cannot have the fault shutdown"):
            await simulator.suffer("shutdown", "kraken")
        async with connect(f"{simulator.url}/control") as socket:
            await socket.send("nonsense")
            assert json.loads(await socket.recv())["ok"] is False


async def test_no_simulator_is_said() -> None:
    with pytest.raises(PartError, match="no simulator answers"):
        await asyncio.to_thread(control.ask, free_port(), {"fault": "cut", "venue": "kraken"})
