"""A recording becomes candles: the whole path under the command that users type, judged by the venue's own klines."""

import csv
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from k2_core.catalog import open_catalog
from k2_core.settings import Ports, Settings
from tests.integration.whole_platform import Platform, eventually

pytestmark = pytest.mark.integration

RECORDING = "binance_spot_btcusdt_2024-08-08_2355.jsonl.gz"
KLINES = "binance_spot_btcusdt_klines_1m.csv"
FULL_MINUTES = 10


def trade_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    with gzip.open(path) as lines:
        for line in lines:
            frame = json.loads(line.split(b" ", 1)[1])
            if frame["stream"].endswith("@trade"):
                yield line, frame["data"]


@pytest.fixture
def platform(tmp_path: Path, free_ports: Callable[[], Ports]) -> Platform:
    return Platform(tmp_path / "home", free_ports())


def drained(platform: Platform, trades: int) -> None:
    """Wait until silver holds ``trades`` rows, gold's candles follow it, and nothing lags."""

    def is_drained() -> bool:
        status = platform.status()
        tables = status["tables"]
        return tables["silver_binance_trades"] == trades and sum(status["lag"].values()) == 0

    eventually(is_drained, platform.status)


def count_of_candles(platform: Platform, symbol: str) -> int:
    return sum(candle["trade_count"] for candle in platform.api(f"/v1/ohlcv/1m?symbol={symbol}")["data"])


def rows_of(platform: Platform, table: str, *columns: str) -> list[tuple[Any, ...]]:
    catalog = open_catalog(Settings(home=platform.home))
    rows = catalog.load_table(("market_data", table)).scan(selected_fields=columns).to_arrow()
    return list(zip(*(rows[name].to_pylist() for name in columns), strict=True))


def test_recording_becomes_the_venues_own_candles(platform: Platform, recordings: Path) -> None:
    path = recordings / RECORDING
    sent = [data for _, data in trade_lines(path)]
    ids = [data["t"] for data in sent]
    with platform.up("--source", "recording", str(path), "--speed", "max"):
        drained(platform, len(sent))
        eventually(lambda: count_of_candles(platform, "BTCUSDT") == len(sent), platform.status)
        first = platform.api("/v1/ohlcv/1m?symbol=BTCUSDT")
        gold = platform.trades("BTCUSDT")
        symbols = platform.api("/v1/symbols")

    assert [int(trade["trade_id"]) for trade in gold] == ids
    assert [(Decimal(t["price"]), Decimal(t["quantity"])) for t in gold] == [
        (Decimal(data["p"]), Decimal(data["q"])) for data in sent
    ]
    channels = Counter(channel for (channel,) in rows_of(platform, "bronze_binance_trades", "channel"))
    assert channels["trade"] == len(sent)
    assert set(channels) == {"trade", "control"}
    assert Counter(i for (i,) in rows_of(platform, "silver_binance_trades", "source_sequence")) == Counter(ids)
    assert [each["symbol"] for each in symbols["data"]] == ["BTCUSDT"]
    assert_candles_are_the_venues(first["data"], recordings / KLINES)

    with platform.up("--source", "recording", str(path), "--speed", "max"):  # the same once more
        drained(platform, 2 * len(sent))
        second = platform.api("/v1/ohlcv/1m?symbol=BTCUSDT")
        assert platform.trades("BTCUSDT") == gold
    assert second["data"] == first["data"]
    assert second["meta"]["snapshot_id"] == first["meta"]["snapshot_id"]


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


def test_dropped_trade_marks_its_candle_and_no_other(platform: Platform, recordings: Path, tmp_path: Path) -> None:
    lines = list(trade_lines(recordings / RECORDING))
    minute = [data["t"] for _, data in lines if data["T"] // 60_000 == 1723161660000 // 60_000]
    dropped = minute[len(minute) // 2]
    holed = tmp_path / "binance_holed.jsonl.gz"
    with gzip.open(holed, "wb", compresslevel=1) as file:
        file.writelines(line for line, data in lines if data["t"] != dropped)
    other = tmp_path / "binance_other.jsonl"  # another symbol, plain text
    other_lines = [line for line, _ in lines[:3000]]
    other.write_bytes(b"".join(other_lines).replace(b"BTCUSDT", b"PEPEFDUSD").replace(b"btcusdt", b"pepefdusd"))

    with platform.up("--source", "recording", str(holed), str(other), "--speed", "max"):
        drained(platform, len(lines) - 1 + len(other_lines))
        eventually(lambda: count_of_candles(platform, "BTCUSDT") == len(lines) - 1, platform.status)
        eventually(lambda: count_of_candles(platform, "PEPEFDUSD") == len(other_lines), platform.status)
        answer = platform.api("/v1/ohlcv/1m?symbol=BTCUSDT")
        others = platform.api("/v1/ohlcv/1m?symbol=PEPEFDUSD")["data"]

    inner = answer["data"][1:-1]
    assert [c["window_start"][:16] for c in inner if not c["is_complete"]] == ["2024-08-09T00:01"]
    assert sum(candle["missing_trades"] for candle in inner) == 1
    assert answer["meta"]["completeness"]["status"] == "partial"
    assert answer["meta"]["completeness"]["missing_trades"] == 1
    assert [candle["is_complete"] for candle in others] == [False, *[True] * (len(others) - 2), False]
