import asyncio
import json
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from k2_core.settings import Feeds, Kraken
from k2_core.venues import VENUES
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue
from k2_feeds.simulator.audience import Audience, fed_streams
from k2_feeds.simulator.frame_sources import Player
from k2_feeds.simulator.recording import recording_of, survey
from tests.feeds.feed_fixtures import WITHIN_S, a_trade_frame, simulating

KRAKEN: Final = VENUES["kraken"]
COINBASE: Final = VENUES["coinbase"]
BOTH: Final[tuple[Data, ...]] = ("trades", "quotes")


def a_kraken_trade(number: int, symbol: str = "BTC/USD") -> bytes:
    return b'{"channel":"trade","type":"update","data":[{"symbol":"%b","trade_id":%d}]}' % (symbol.encode(), number)


def a_coinbase_trade(number: int, *products: str) -> bytes:
    trades = ",".join(f'{{"product_id":"{each}","trade_id":"{number}"}}' for each in products or ("BTC-USD",))
    head = f'{{"channel":"market_trades","sequence_num":{number}'
    return f'{head},"events":[{{"type":"update","trades":[{trades}]}}]}}'.encode()


def a_player(folder: Path, within_s: float = WITHIN_S, speed: float | None = None, **frames: list[bytes]) -> Player:
    """Return a player of a file for each venue, which waits for all of its symbols as under ``k2 up``."""
    for venue, lines in frames.items():
        (folder / f"{venue}_made").write_bytes(b"".join(b"%d %b\n" % line for line in enumerate(lines)))
    recordings = [recording_of(folder / f"{venue}_made") for venue in frames]
    contents = survey(recordings)
    fed = fed_streams(contents.symbols, Feeds())
    return Player(recordings, contents, speed, Audience(fed, wait_for_all=True, within_s=within_s))


async def subscribe(socket: ClientConnection, venue: Venue, *symbols: str, data: tuple[Data, ...] = BOTH) -> None:
    for frame in venue.subscribe_frames(symbols, data):
        await socket.send(frame, text=True)


async def heard(socket: ClientConnection, last: bytes) -> list[bytes]:
    """Return the frames of trades until ``last``."""
    found: list[bytes] = []
    async with asyncio.timeout(WITHIN_S):
        while found[-1:] != [last]:
            frame = await socket.recv(decode=False)
            if b"trade_id" in frame or b'"t":' in frame:
                found.append(frame)
    return found


async def status(url: str) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as client:
        found: dict[str, Any] = (await client.get(url.replace("ws://", "http://") + "/status")).json()
    return found


async def until_status(url: str, said: str) -> dict[str, Any]:
    async with asyncio.timeout(WITHIN_S):
        while said not in (found := await status(url))["message"]:  # noqa: ASYNC110  # it is asked over HTTP
            await asyncio.sleep(0.02)
    return found


async def test_playing_begins_when_every_connection_of_every_venue_has_subscribed(tmp_path: Path) -> None:
    kraken = [a_kraken_trade(n, symbol) for n in range(1_500) for symbol in ("BTC/USD", "ETH/USD")]
    coinbase = [a_coinbase_trade(n, "BTC-USD", "ETH-USD") for n in range(2_500)]

    async with (
        simulating(a_player(tmp_path, kraken=kraken, coinbase=coinbase)) as url,
        connect(f"{url}/v2") as one,
        connect(f"{url}/v2") as other,
        connect(url) as third,
    ):
        await third.send('{"type":"subscribe","channel":"heartbeats"}')
        await subscribe(one, KRAKEN, "BTC/USD")
        await until_status(url, "waits for the subscriptions of kraken (2 not answered) and coinbase (4 not answered)")
        await subscribe(third, COINBASE, "BTC-USD", "ETH-USD", data=("trades",))
        await subscribe(other, KRAKEN, "ETH/USD")
        waiting = await until_status(url, "waits for the subscriptions of coinbase (2 not answered)")
        await subscribe(third, COINBASE, "BTC-USD", "ETH-USD", data=("quotes",))
        taken = await asyncio.gather(heard(one, kraken[-2]), heard(other, kraken[-1]), heard(third, coinbase[-1]))
        played = await until_status(url, "played to its end")

    assert (waiting["position"], waiting["finished"]) == (0, False)
    assert taken == [kraken[::2], kraken[1::2], coinbase]
    assert (played["unheard"], played["missing"], played["trouble"]) == ({}, {}, False)


async def test_a_feed_that_does_not_come_is_named_and_its_frames_are_counted(tmp_path: Path) -> None:
    kraken, coinbase = [a_kraken_trade(n) for n in range(9)], [a_coinbase_trade(n) for n in range(4)]
    player = a_player(tmp_path, 0.3, kraken=kraken, coinbase=[*coinbase, b"broken", b'{"channel":"subscriptions"}'])

    async with simulating(player) as url, connect(f"{url}/v2") as socket:
        await subscribe(socket, KRAKEN, "BTC/USD")
        assert await heard(socket, kraken[-1]) == kraken
        found = await until_status(url, "played to its end")

    assert found["missing"] == {"coinbase": ["market_trades:BTC-USD", "ticker:BTC-USD"]}
    assert found["unheard"] == {"coinbase": 5}
    assert found["unheard_streams"] == {"coinbase": {"market_trades:BTC-USD": 4, "frames without a symbol": 1}}
    assert found["trouble"]
    assert "the feed of coinbase had not subscribed to market_trades:BTC-USD, ticker:BTC-USD within" in found["message"]
    assert "5 frames of coinbase reached nobody (market_trades:BTC-USD 4, frames without" in found["message"]


async def test_a_venue_whose_subscriptions_are_refused_is_not_waited_for(tmp_path: Path) -> None:
    player = a_player(tmp_path, binance=[a_trade_frame(1), b'{"stream":"a b@trade","data":{}}'])

    async with simulating(player) as url, connect(f"{url}/stream") as socket:
        for name in ("btcusdt@trade", "btcusdt@bookTicker", "a b@trade", "a b@bookTicker"):
            await socket.send(json.dumps({"method": "SUBSCRIBE", "params": [name], "id": 1}))
        assert await heard(socket, a_trade_frame(1)) == [a_trade_frame(1)]


async def test_feeds_of_which_none_comes_are_named_while_playing_waits(tmp_path: Path) -> None:
    kraken, coinbase = [a_kraken_trade(n) for n in range(9)], [a_coinbase_trade(n) for n in range(4)]

    async with simulating(a_player(tmp_path, 0.3, kraken=kraken, coinbase=coinbase)) as url:
        waiting = await until_status(url, "the feed of coinbase had not subscribed to market_trades:BTC-USD")
        async with connect(f"{url}/v2") as socket, connect(url) as other:
            await asyncio.gather(subscribe(socket, KRAKEN, "BTC/USD"), subscribe(other, COINBASE, "BTC-USD"))
            assert await asyncio.gather(heard(socket, kraken[-1]), heard(other, coinbase[-1])) == [kraken, coinbase]
            played = await until_status(url, "played to its end")

    assert (waiting["position"], waiting["trouble"]) == (0, True)
    assert waiting["missing"].keys() == {"kraken", "coinbase"}
    assert (played["missing"], played["unheard"], played["trouble"]) == ({}, {}, False)


async def test_a_recording_of_which_all_is_refused_is_played_and_its_frames_are_counted(tmp_path: Path) -> None:
    too_many = [f"btcusdt@{kind}" for kind in ("trade", "bookTicker")] + [f"x{n}@trade" for n in range(1024)]

    async with simulating(a_player(tmp_path, binance=[a_trade_frame(1)])) as url, connect(f"{url}/stream") as socket:
        await socket.send(json.dumps({"method": "SUBSCRIBE", "params": too_many, "id": 1}))
        found = await until_status(url, "played to its end")

    assert (found["unheard"], found["trouble"]) == ({"binance": 1}, True)


async def test_what_no_feed_takes_is_counted_and_no_trouble(tmp_path: Path) -> None:
    book = b'{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[]}]}'
    player = a_player(tmp_path, kraken=[a_kraken_trade(1), book])

    async with simulating(player) as url, connect(f"{url}/v2") as socket:
        await subscribe(socket, KRAKEN, "BTC/USD")
        found = await until_status(url, "played to its end")

    assert (found["unheard"], found["trouble"]) == ({"kraken": 1}, False)
    assert "1 frames of kraken reached nobody (book:BTC/USD 1)" in found["message"]


async def test_a_connection_that_breaks_is_waited_for_at_full_speed(tmp_path: Path) -> None:
    kraken = [a_kraken_trade(n, symbol) for n in range(20_000) for symbol in ("BTC/USD", "ETH/USD")]

    async with (
        simulating(a_player(tmp_path, kraken=kraken)) as url,
        connect(f"{url}/v2", max_queue=None) as stays,
    ):
        async with connect(f"{url}/v2", max_queue=None) as breaks:
            await subscribe(stays, KRAKEN, "BTC/USD")
            await subscribe(breaks, KRAKEN, "ETH/USD")
            await heard(breaks, kraken[1])
            breaks.transport.abort()
        waiting = await until_status(url, "waits for the subscriptions of kraken (2 not answered)")
        async with connect(f"{url}/v2") as again:
            await subscribe(again, KRAKEN, "ETH/USD")
            rest = await heard(again, kraken[-1])
            taken = await heard(stays, kraken[-2])

    assert 0 < waiting["position"] < len(kraken)
    assert rest == kraken[waiting["position"] + 1 :: 2]
    assert taken == kraken[::2]


async def test_who_listens_to_a_part_of_a_recording_by_hand_waits_for_a_second_only(tmp_path: Path) -> None:
    (tmp_path / "kraken_made").write_bytes(b"1 %b\n2 %b\n" % (a_kraken_trade(1), a_kraken_trade(2, "ETH/USD")))
    recordings = [recording_of(tmp_path / "kraken_made")]

    async with simulating(Player(recordings, survey(recordings), None)) as url, connect(f"{url}/v2") as socket:
        await subscribe(socket, KRAKEN, "ETH/USD", data=("trades",))
        assert await heard(socket, a_kraken_trade(2, "ETH/USD")) == [a_kraken_trade(2, "ETH/USD")]
        assert (await until_status(url, "played to its end"))["missing"] == {}


def test_only_what_the_settings_feed_is_waited_for() -> None:
    feeds = Feeds(kraken=Kraken(quotes=False))

    assert fed_streams({"kraken": ("A/B",), "binance": ("币安人生USDT",), "coinbase": ()}, feeds) == {
        "kraken": {"trade:A/B"},
        "binance": {"币安人生usdt@trade", "币安人生usdt@bookTicker"},
        "coinbase": frozenset(),
    }


def _binance(symbol: str, *, escaped: bool = False, raw: bool = False, simple: bool = False) -> bytes:
    """Return a trade; ``simple``: the stream is written as by software that makes small letters one by one."""
    name = "".join(letter.lower()[0] for letter in symbol) if simple else symbol.lower()
    data = {"e": "trade", "E": 1, "s": symbol, "t": 1, "p": "1", "q": "1", "T": 1, "m": True}
    frame = data if raw else {"stream": f"{name}@trade", "data": data}
    return json.dumps(frame, ensure_ascii=escaped, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("name", "symbol", "frame"),
    [
        ("binance", "币安人生USDT", _binance("币安人生USDT")),
        ("binance", "币安人生USDT", _binance("币安人生USDT", escaped=True)),
        ("binance", "币安人生USDT", _binance("币安人生USDT", raw=True)),
        ("binance", "ẞßΣUSDT", _binance("ẞßΣUSDT")),
        ("binance", "İUSDT", _binance("İUSDT")),
        ("binance", "İUSDT", _binance("İUSDT", simple=True)),
        ("binance", "ßUSDT", _binance("ßUSDT", raw=True)),
        ("binance", "हिUSDT", _binance("हिUSDT")),
        ("kraken", "币安人生x/USD", a_kraken_trade(1, "币安人生x/USD")),
        ("kraken", "ß/USD", a_kraken_trade(1, r"\u00df\/USD")),
        ("coinbase", "İ-USD", a_coinbase_trade(1, "İ-USD")),
        ("coinbase", "😀-USD", a_coinbase_trade(1, r"\ud83d\ude00-USD")),
    ],
)
async def test_a_symbol_beyond_ascii_is_served_like_any_other(
    tmp_path: Path, name: str, symbol: str, frame: bytes
) -> None:
    venue = VENUES[name]
    player = a_player(tmp_path, **{name: [frame]})

    async with simulating(player) as url, connect(venue.stream_url(url)) as socket:
        assert (await status(url))["venues"] == {name: [symbol]}
        await subscribe(socket, venue, symbol)
        received: list[bytes] = []
        async with asyncio.timeout(WITHIN_S):
            while not any(b"trade_id" in each or b'"t":1' in each for each in received):
                received.append(await socket.recv(decode=False))

    assert frame in received[-1]


@pytest.mark.parametrize("path", ["/stream?streams=币安人生usdt@trade", "/ws/币安人生usdt@trade"])
async def test_a_url_may_name_a_stream_beyond_ascii(tmp_path: Path, path: str) -> None:
    frame = _binance("币安人生USDT", raw=True)
    (tmp_path / "binance_made").write_bytes(b"1 %b\n" % frame)
    recordings = [recording_of(tmp_path / "binance_made")]

    async with simulating(Player(recordings, survey(recordings), None)) as url, connect(url + path) as socket:
        async with asyncio.timeout(WITHIN_S):
            assert frame in await socket.recv(decode=False)


def test_a_frame_that_breaks_off_before_its_symbol_hides_no_spelling(tmp_path: Path) -> None:
    whole = _binance("ẞUSDT")
    (tmp_path / "binance_made").write_bytes(b"1 %b\n2 %b\n" % (whole[:30], whole))

    assert "ẞUSDT" in survey([recording_of(tmp_path / "binance_made")]).symbols["binance"]
