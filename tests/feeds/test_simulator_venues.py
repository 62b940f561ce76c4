import asyncio
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from k2_core.quotes import BadQuote
from k2_core.trades import BadTrade
from k2_core.venues import VENUES
from k2_feeds.simulator.frame_sources import MarketSource, Player
from k2_feeds.simulator.recording import recording_of, survey
from tests.feeds.feed_fixtures import simulating

WITHIN_S = 240
SYMBOLS = ("BTCUSDT", "ETHBTC", "BTC/USD", "DOGE/USD", "BTC-USD", "ETH-USD")
Frame = dict[str, Any]


async def ask(socket: ClientConnection, **request: object) -> None:
    await socket.send(json.dumps(request))


async def until(socket: ClientConnection, enough: Callable[[list[Frame]], bool]) -> list[Frame]:
    """Receive until the frames are enough."""
    found: list[Frame] = []
    async with asyncio.timeout(WITHIN_S):
        while not enough(found):
            found.append(json.loads(await socket.recv()))
    return found


async def received(socket: ClientConnection, count: int) -> list[Frame]:
    return await until(socket, lambda found: len(found) == count)


def of_kraken(frames: list[Frame], channel: str, kind: str | None = None) -> list[Frame]:
    wanted = [each for each in frames if each.get("channel") == channel and kind in {None, each.get("type")}]
    return [row for frame in wanted for row in frame["data"]]


def of_coinbase(frames: list[Frame], kind: str) -> list[Frame]:
    events = [event for frame in frames if frame.get("channel") == "market_trades" for event in frame["events"]]
    return [trade for event in events if event["type"] == kind for trade in event["trades"]]


async def test_binance_sends_quotes_whose_numbers_leap() -> None:
    async with (
        simulating(MarketSource(1, SYMBOLS, 300)) as url,
        connect(f"{url}/stream?streams=btcusdt@bookTicker") as socket,
    ):
        frames = await received(socket, 50)

    quotes = [frame["data"] for frame in frames]
    assert all(quote.keys() == {"u", "s", "b", "B", "a", "A"} for quote in quotes)
    leaps = {after["u"] - before["u"] for before, after in itertools.pairwise(quotes)}
    assert min(leaps) > 0
    assert max(leaps) > 1


async def test_kraken_says_its_status_and_answers_each_symbol_alone() -> None:
    async with simulating(MarketSource(1, SYMBOLS, 300)) as url, connect(f"{url}/v2") as socket:
        params = {"channel": "trade", "symbol": ["BTC/USD", "NO/PE"], "snapshot": False}
        await ask(socket, method="subscribe", params=params, req_id=7)
        frames = await until(socket, lambda found: sum("req_id" in frame for frame in found) == 2)

    assert (frames[0]["channel"], frames[0]["data"][0]["system"]) == ("status", "online")
    accepted, refused = (frame for frame in frames if "req_id" in frame)
    assert accepted["result"] == {"channel": "trade", "symbol": "BTC/USD", "snapshot": False}
    assert (accepted["success"], refused["success"], refused["symbol"]) == (True, False, "NO/PE")
    assert "NO/PE" in refused["error"]
    assert all(frame["time_out"] >= frame["time_in"] for frame in (accepted, refused))


async def test_kraken_sends_all_trades_of_an_order_in_one_message_with_contiguous_ids() -> None:
    async with simulating(MarketSource(1, ("BTC/USD",), 300)) as url, connect(f"{url}/v2") as socket:
        await ask(socket, method="subscribe", params={"channel": "trade", "symbol": ["BTC/USD"], "snapshot": False})
        frames = await received(socket, 60)

    ids = [trade["trade_id"] for trade in of_kraken(frames, "trade")]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert any(len(frame["data"]) > 1 for frame in frames if frame.get("channel") == "trade")


async def test_kraken_begins_with_snapshots_that_repeat_what_was_said() -> None:
    async with simulating(MarketSource(1, ("BTC/USD",), 300)) as url, connect(f"{url}/v2") as first:
        for channel in ("trade", "ticker"):
            await ask(first, method="subscribe", params={"channel": channel, "symbol": ["BTC/USD"]})
        said = await until(first, lambda found: len(of_kraken(found, "trade")) > 120)
        async with connect(f"{url}/v2") as second:
            for channel in ("trade", "ticker"):
                await ask(second, method="subscribe", params={"channel": channel, "symbol": ["BTC/USD"]})
            again = await until(second, lambda found: bool(of_kraken(found, "ticker", "snapshot")))
        snapshot, ticker = of_kraken(again, "trade", "snapshot"), of_kraken(again, "ticker", "snapshot")[0]
        said += await until(first, lambda found: snapshot[-1] in of_kraken(said + found, "trade"))
        said += await until(first, lambda found: ticker in of_kraken(said + found, "ticker"))

    known = {trade["trade_id"]: trade for trade in of_kraken(said, "trade")}
    assert len(snapshot) == 50
    assert snapshot == [known[trade["trade_id"]] for trade in snapshot]


async def test_kraken_beats_while_nothing_is_traded_and_answers_pings() -> None:
    async with simulating(MarketSource(1, SYMBOLS, 0.001, 0)) as url, connect(f"{url}/v2") as socket:
        await ask(socket, method="ping", req_id=101)
        await ask(socket, method="subscribe", params={"channel": "trade", "symbol": ["BTC/USD"]})
        frames = await until(socket, lambda found: {"channel": "heartbeat"} in found)

    assert [frame["req_id"] for frame in frames if frame.get("method") == "pong"] == [101]


async def test_coinbase_numbers_all_its_messages_and_begins_with_a_snapshot_newest_first() -> None:
    async with simulating(MarketSource(1, SYMBOLS, 400)) as url, connect(url) as first:
        await ask(first, type="subscribe", channel="market_trades", product_ids=["BTC-USD"])
        said = await until(first, lambda found: len(of_coinbase(found, "update")) > 150)
        async with connect(url) as socket:
            await ask(socket, type="subscribe", channel="heartbeats")
            await ask(socket, type="subscribe", channel="market_trades", product_ids=["BTC-USD"])
            await ask(socket, type="subscribe", channel="ticker", product_ids=["BTC-USD", "ETH-USD"])
            frames = await received(socket, 150)
        snapshot = of_coinbase(frames, "snapshot")
        said += await until(first, lambda found: snapshot[0] in of_coinbase(said + found, "update"))

    assert [frame["sequence_num"] for frame in frames] == list(range(150))
    ids = [int(trade["trade_id"]) for trade in snapshot]
    assert ids == list(range(ids[0], ids[0] - 100, -1))
    assert {trade["trade_id"] for trade in of_coinbase(said, "update")} & {trade["trade_id"] for trade in snapshot}
    last = [frame for frame in frames if frame["channel"] == "subscriptions"][-1]["events"][0]["subscriptions"]
    assert last == {"heartbeats": ["heartbeats"], "market_trades": ["BTC-USD"], "ticker": ["BTC-USD", "ETH-USD"]}


async def test_coinbase_sends_several_trades_a_message_unsorted_and_misses_none() -> None:
    async with simulating(MarketSource(1, ("BTC-USD",), 400)) as url, connect(url) as socket:
        await ask(socket, type="subscribe", channel="market_trades", product_ids=["BTC-USD"])
        frames = await until(socket, lambda found: len(of_coinbase(found, "update")) > 100)

    ids = [int(trade["trade_id"]) for trade in of_coinbase(frames, "update")]
    assert ids != sorted(ids)
    assert sorted(ids) == list(range(min(ids), min(ids) + len(ids)))


async def test_coinbase_counts_its_heartbeats() -> None:
    async with simulating(MarketSource(1, SYMBOLS, 0.001, 0)) as url, connect(url) as socket:
        await ask(socket, type="subscribe", channel="heartbeats")
        frames = await received(socket, 3)

    assert [frame["events"][0]["heartbeat_counter"] for frame in frames[1:]] == [1, 2]


async def test_coinbase_refuses_products_that_it_does_not_have_and_feeds_the_others() -> None:
    async with simulating(MarketSource(1, SYMBOLS, 400)) as url, connect(url) as socket:
        await ask(socket, type="subscribe", channel="ticker", product_ids=["NO-PE", "BTC-USD"])
        frames = await until(socket, lambda found: any(frame.get("channel") == "ticker" for frame in found))

    assert (frames[0]["type"], "NO-PE" in frames[0]["message"]) == ("error", True)


async def test_coinbase_ends_a_connection_on_which_nothing_is_subscribed_to() -> None:
    async with simulating(MarketSource(1, SYMBOLS, 1)) as url, connect(url) as socket:
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(WITHIN_S):
                await socket.recv()

    assert socket.close_code == 1008


async def test_lists_of_instruments_stand_where_the_venues_have_them_and_fit_the_prices() -> None:
    async with simulating(MarketSource(1, SYMBOLS, 1)) as url, httpx.AsyncClient(trust_env=False) as client:
        base = url.replace("ws://", "http://")
        paths = ("/api/v3/exchangeInfo", "/0/public/AssetPairs", "/products")
        binance, kraken, coinbase = [(await client.get(base + path)).json() for path in paths]

    filters = {each["filterType"]: each for each in binance["symbols"][0]["filters"]}
    assert [each["symbol"] for each in binance["symbols"]] == ["BTCUSDT", "ETHBTC"]
    assert (filters["PRICE_FILTER"]["tickSize"], filters["LOT_SIZE"]["stepSize"]) == ("0.01000000", "0.00001000")
    assert kraken["error"] == []
    assert list(kraken["result"]) == ["XXBTZUSD", "XDGUSD"]
    assert [each["wsname"] for each in kraken["result"].values()] == ["XBT/USD", "XDG/USD"]
    assert kraken["result"]["XXBTZUSD"]["tick_size"] == "0.1"
    assert [(each["id"], each["quote_increment"]) for each in coinbase] == [("BTC-USD", "0.01"), ("ETH-USD", "0.01")]


@pytest.mark.parametrize(
    ("name", "symbols"), [("binance", SYMBOLS[:2]), ("kraken", SYMBOLS[2:4]), ("coinbase", SYMBOLS[4:])]
)
async def test_k2_reads_every_frame_that_a_simulated_venue_sends(name: str, symbols: tuple[str, ...]) -> None:
    venue, trades, quotes = VENUES[name], 0, 0
    async with simulating(MarketSource(1, SYMBOLS, 500)) as url, connect(venue.stream_url(url)) as socket:
        for request in venue.subscribe_frames(symbols, ("trades", "quotes")):
            await socket.send(request, text=True)
        async with asyncio.timeout(WITHIN_S):
            while trades < 200 or quotes < 200:
                frame = await socket.recv(decode=False)
                channel = venue.route(frame).channel
                assert channel in {"trade", "quote", "control"}, frame
                read = venue.parse(frame) if channel == "trade" else venue.parse_quotes(frame)
                assert not any(isinstance(each, BadTrade | BadQuote) for each in read or ()), frame
                trades += len(read or ()) if channel == "trade" else 0
                quotes += len(read or ()) if channel == "quote" else 0


async def test_recordings_of_several_venues_reach_whoever_subscribed_to_them(tmp_path: Path) -> None:
    kraken = {"channel": "trade", "type": "update", "data": [{"symbol": "BTC/USD", "price": 1.5, "trade_id": 1}]}
    book = {"channel": "book", "type": "update", "data": [{"symbol": "BTC/USD", "bids": []}]}
    trades = {"channel": "market_trades", "sequence_num": 40, "events": [{"trades": [{"product_id": "BTC-USD"}]}]}
    beat = {"channel": "heartbeats", "sequence_num": 41, "events": [{"heartbeat_counter": 9}]}
    level2 = {"channel": "l2_data", "sequence_num": 42, "events": [{"product_id": "BTC-USD"}]}
    for name, frames in (("kraken", (kraken, book, {"channel": "heartbeat"})), ("coinbase", (trades, beat, level2))):
        text = "".join(f"{number} {json.dumps(frame)}\n" for number, frame in enumerate(frames))
        (tmp_path / f"{name}_made.jsonl").write_text(text)
    recordings = [recording_of(tmp_path / f"{name}_made.jsonl") for name in ("kraken", "coinbase")]

    async with (
        simulating(Player(recordings, survey(recordings), 0.001)) as url,
        connect(f"{url}/v2") as one,
        connect(url) as two,
    ):
        await ask(one, method="subscribe", params={"channel": "trade", "symbol": ["BTC/USD"]})
        await ask(two, type="subscribe", channel="heartbeats")
        await ask(two, type="subscribe", channel="market_trades", product_ids=["BTC-USD"])
        from_kraken = await until(one, lambda found: kraken in found)
        from_coinbase = await until(two, lambda found: beat in found)

    assert book not in from_kraken
    assert trades in from_coinbase
    assert all("sequence_num" not in each for each in from_coinbase if each["channel"] == "subscriptions")


async def test_what_is_withheld_of_a_recording_of_coinbase_makes_no_hole_and_its_own_holes_stay(tmp_path: Path) -> None:
    def trades(number: int, product: str = "BTC-USD") -> bytes:
        events = b'[{"trades":[{"product_id":"%b","sequence_num":99}]}]' % product.encode()
        return b'{"channel":"market_trades", "sequence_num" : %d,"events":%b}' % (number, events)

    frames = [
        trades(0),
        b'{"channel":"subscriptions","sequence_num":1,"events":[{"subscriptions":{"level2":["BTC-USD"]}}]}',
        b'{"type":"error","message":"no number"}',
        b'{"channel":"l2_data","sequence_num":2,"events":[{"product_id":"BTC-USD","updates":[]}]}',
        trades(3),
        trades(5, "ETH-USD"),  # the venue never sent 4
        b'{"channel":"heartbeats","sequence_num":6,"events":[{"heartbeat_counter":1}]}',
        trades(7),
    ]
    path = tmp_path / "coinbase_made.jsonl"
    path.write_bytes(b"".join(b"%d %b\n" % line for line in enumerate(frames)))
    player = Player([recording_of(path)], survey([recording_of(path)]), None)

    async with simulating(player) as url, connect(url) as socket:
        await ask(socket, type="subscribe", channel="market_trades", product_ids=["BTC-USD"])
        async with asyncio.timeout(WITHIN_S):
            received = [await socket.recv(decode=False) for _ in range(4)]

    assert [frame for frame in received if b"subscriptions" not in frame] == [trades(0), trades(1), trades(3)]


@pytest.mark.parametrize(
    ("name", "symbols"), [("binance", SYMBOLS[:2]), ("kraken", SYMBOLS[2:4]), ("coinbase", SYMBOLS[4:])]
)
async def test_k2_reads_the_lists_of_instruments_of_the_simulated_venues(name: str, symbols: tuple[str, ...]) -> None:
    async with simulating(MarketSource(1, SYMBOLS, 1)) as url, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(VENUES[name].instruments_url(url.replace("ws://", "http://")))

    listed = VENUES[name].parse_instruments(answer.content)
    assert {each.venue_symbol for each in listed} == set(symbols)
    assert all(each.base + each.quote == each.symbol for each in listed)
    assert all(each.tick_size and each.lot_size for each in listed)
