"""A recording becomes candles: the whole path under the command that users type, judged by the venue's own klines."""

import csv
import gzip
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from k2_core.lake.catalog import open_catalog
from k2_core.settings import Ports
from tests.integration.whole_platform import Platform, eventually

pytestmark = [pytest.mark.integration]

RECORDING = "binance_spot_btcusdt_2024-08-08_2355.jsonl.gz"
KLINES = "binance_spot_btcusdt_klines_1m.csv"
WHOLE, HOLED, OTHER = "BTCUSDT", "ETHUSDT", "PEPEFDUSD"
OTHERS_LINES = 3_000
ABOVE_SILVER = ("gold_trades", "candles")
FULL_MINUTES = 10


def trade_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    with gzip.open(path) as lines:
        for line in lines:
            frame = json.loads(line.split(b" ", 1)[1])
            if frame["stream"].endswith("@trade"):
                yield line, frame["data"]


@dataclass
class Played:
    """A platform that plays what a venue sent, and beside it the same under other symbols: with a hole, and a part."""

    platform: Platform
    files: list[str]
    trades: dict[str, list[dict[str, Any]]]

    def await_played(self, times: int) -> None:
        """Wait until silver has the files' trades ``times`` times, gold has seen them, and candles have each once."""
        eventually(lambda: self._drained(times), self.platform.status)
        eventually(self._in_candles, self.platform.status)

    def _drained(self, times: int) -> bool:
        status, trades = self.platform.status(), sum(map(len, self.trades.values()))
        behind = sum(status["lag"].values()) + sum(status["layers"][each]["lag"] or 0 for each in ABOVE_SILVER)
        return status["tables"]["silver_binance_trades"] == times * trades and behind == 0

    def _in_candles(self) -> bool:
        counts = {symbol: sum(each["trade_count"] for each in self.candles(symbol)["data"]) for symbol in self.trades}
        return counts == {symbol: len(trades) for symbol, trades in self.trades.items()}

    def candles(self, symbol: str) -> dict[str, Any]:
        return self.platform.api(f"/v1/ohlcv/1m?symbol={symbol}")


@pytest.fixture(scope="module")
def played(
    tmp_path_factory: pytest.TempPathFactory, free_ports: Callable[[], Ports], recordings: Path
) -> Iterator[Played]:
    folder, path = tmp_path_factory.mktemp("played"), recordings / RECORDING
    lines = list(trade_lines(path))
    whole = [data for _, data in lines]
    minute = [data["t"] for data in whole if data["T"] // 60_000 == 1723161660000 // 60_000]
    dropped = minute[len(minute) // 2]
    holed = [line for line, data in lines if data["t"] != dropped]
    other = [line for line, _ in lines[:OTHERS_LINES]]
    files = [str(path), renamed(holed, HOLED, folder), renamed(other, OTHER, folder)]
    trades = {
        WHOLE: whole,
        HOLED: [data for data in whole if data["t"] != dropped],
        OTHER: whole[:OTHERS_LINES],
    }
    platform = Platform(folder / "home", free_ports())
    found = Played(platform, files, trades)
    with platform.up("--source", "recording", *files, "--speed", "max"):
        found.await_played(1)
        yield found


def renamed(lines: list[bytes], symbol: str, folder: Path) -> str:
    """Write lines of the recording under another symbol, as plain text."""
    file = folder / f"binance_{symbol.lower()}.jsonl"
    text = b"".join(lines).replace(WHOLE.encode(), symbol.encode())
    file.write_bytes(text.replace(WHOLE.lower().encode(), symbol.lower().encode()))
    return str(file)


def rows_of(platform: Platform, table: str, *columns: str) -> list[tuple[Any, ...]]:
    catalog = open_catalog(platform.settings)
    rows = catalog.load_table(("market_data", table)).scan(selected_fields=columns).to_arrow()
    return list(zip(*(rows[name].to_pylist() for name in columns), strict=True))


def test_recording_becomes_the_venues_own_candles(played: Played, recordings: Path) -> None:
    sent, platform = played.trades[WHOLE], played.platform
    ids = [data["t"] for data in sent]

    gold = platform.trades(WHOLE)
    symbols = platform.api("/v1/symbols")

    assert [int(trade["trade_id"]) for trade in gold] == ids
    assert [(Decimal(t["price"]), Decimal(t["quantity"])) for t in gold] == [
        (Decimal(data["p"]), Decimal(data["q"])) for data in sent
    ]
    channels = Counter(channel for (channel,) in rows_of(platform, "bronze_binance_trades", "channel"))
    assert channels["trade"] == sum(map(len, played.trades.values()))
    assert set(channels) == {"trade", "control"}
    silver = rows_of(platform, "silver_binance_trades", "symbol", "source_sequence")
    assert Counter(number for symbol, number in silver if symbol == WHOLE) == Counter(ids)
    assert [each["symbol"] for each in symbols["data"]] == [WHOLE, HOLED, OTHER]
    assert_candles_are_the_venues(played.candles(WHOLE)["data"], recordings / KLINES)


def test_five_minutes_are_the_right_five_of_the_venues_klines(played: Played, recordings: Path) -> None:
    """23:55 to 00:00 and 00:00 to 00:05 lie whole in the recording, the windows around them in part."""
    with (recordings / KLINES).open() as file:
        venue = list(csv.DictReader(file))

    def of(interval: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = played.platform.api(f"/v1/ohlcv/{interval}?symbol={WHOLE}")["data"]
        return found

    def has_all(interval: str) -> bool:
        return sum(each["trade_count"] for each in of(interval)) == len(played.trades[WHOLE])

    for interval in ("5m", "15m", "30m", "1h", "1d"):
        eventually(partial(has_all, interval), played.platform.status)
    candles = of("5m")
    assert [candle["is_complete"] for candle in candles] == [False, True, True, False]
    for candle in candles[1:-1]:
        start, end = candle["window_start"][:19] + "Z", candle["window_end"][:19] + "Z"
        five = [row for row in venue if start <= row["open_time"] < end]
        assert len(five) == 5
        assert Decimal(candle["open_price"]) == Decimal(five[0]["open"])
        assert Decimal(candle["close_price"]) == Decimal(five[-1]["close"])
        assert Decimal(candle["high_price"]) == max(Decimal(row["high"]) for row in five)
        assert Decimal(candle["low_price"]) == min(Decimal(row["low"]) for row in five)
        assert Decimal(candle["volume"]) == sum(Decimal(row["volume"]) for row in five)
    for wider in ("15m", "30m", "1h", "1d"):
        before, after = of(wider)
        assert (before["missing_trades"], after["missing_trades"]) == (0, 0)


def test_dropped_trade_marks_its_candle_and_no_other(played: Played) -> None:
    answer, others = played.candles(HOLED), played.candles(OTHER)["data"]

    inner = answer["data"][1:-1]
    assert [c["window_start"][:16] for c in inner if not c["is_complete"]] == ["2024-08-09T00:01"]
    assert sum(candle["missing_trades"] for candle in inner) == 1
    assert answer["meta"]["completeness"]["status"] == "partial"
    assert answer["meta"]["completeness"]["missing_trades"] == 1
    assert [candle["is_complete"] for candle in others] == [False, *[True] * (len(others) - 2), False]


def test_the_same_recording_once_more_changes_nothing_in_gold(played: Played) -> None:
    """The simulator is killed; the one that replaces it plays the files again."""
    gold, candles = played.platform.trades(WHOLE), played.candles(WHOLE)
    os.kill(played.platform.pid("simulator"), signal.SIGKILL)

    played.await_played(2)

    again = played.candles(WHOLE)
    assert played.platform.trades(WHOLE) == gold
    assert again["data"] == candles["data"]
    assert again["meta"]["snapshot_id"] == candles["meta"]["snapshot_id"]


def assert_candles_are_the_venues(candles: list[dict[str, Any]], klines: Path) -> None:
    with klines.open() as file:
        venue = {row["open_time"]: row for row in csv.DictReader(file)}
    assert [candle["is_complete"] for candle in candles] == [False, *[True] * FULL_MINUTES, False]
    assert [candle["missing_trades"] for candle in candles] == [0] * (FULL_MINUTES + 2)
    for candle in candles[1:-1]:
        kline = venue[candle["window_start"][:19] + "Z"]
        ours = [Decimal(candle[f"{name}_price"]) for name in ("open", "high", "low", "close")]
        assert ours == [Decimal(kline[name]) for name in ("open", "high", "low", "close")]
        assert Decimal(candle["volume"]) == Decimal(kline["volume"])
