"""How long the API takes for the last 100 trades of a symbol, and for 1,000 candles, on a lake of small files.

Run it with ``.venv/bin/python benchmarks/api.py``; it builds its lake in a temporary folder. Requests go over a real
socket to the server that ``k2 api`` runs, one after another, and then from ten clients at once.
"""

import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow

from k2_core.clock import from_us, monotonic, to_us
from k2_core.lake.catalog import ensure_tables, open_catalog
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import GOLD_OHLCV_1M, GOLD_TRADES, all_tables
from k2_core.settings import Settings, child_environment
from k2_core.trades import message_id

TRADES, FILES, SYMBOLS = 1_000_000, 200, ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT")
START_US = 1_723_161_300_000_000
STEP_US = 60_000
REQUESTS = 300
QUESTIONS = {
    "last 100 trades of a symbol": "/v1/trades?symbol=BTCUSDT",
    "last 100 trades of all symbols": "/v1/trades",
    "1,000 candles of a symbol": "/v1/ohlcv/1m?symbol=BTCUSDT",
    "100 trades from a time on": "/v1/trades?symbol=ETHUSDT&order=asc&start_time=2024-08-09T08:00:00Z",
    "10,000 trades of a symbol": "/v1/trades?symbol=BTCUSDT&limit=10000",
    "symbols": "/v1/symbols",
    "instruments": "/v1/instruments",
    "stats": "/v1/stats",
    "snapshots": "/v1/snapshots",
}


def trades(first: int, count: int) -> dict[str, list[object]]:
    """Return columns of trades, the symbols in turn, ids contiguous per symbol, 60 ms apart."""
    numbers = range(first, first + count)
    symbols = [SYMBOLS[number % len(SYMBOLS)] for number in numbers]
    ids = [number // len(SYMBOLS) for number in numbers]
    times = [from_us(START_US + number * STEP_US) for number in numbers]
    cents = np.random.default_rng(first).integers(5_000_000, 6_000_000, count)
    return {
        "message_id": [message_id("binance", symbol, str(each)) for symbol, each in zip(symbols, ids, strict=True)],
        "trade_id": [str(each) for each in ids],
        "symbol": symbols,
        "exchange": ["binance"] * count,
        "asset_class": ["crypto"] * count,
        "timestamp": times,
        "price": [Decimal(int(each)).scaleb(-2) for each in cents],
        "quantity": [Decimal(int(each) % 10_000 + 1).scaleb(-5) for each in cents],
        "currency": ["USDT"] * count,
        "side": ["BUY" if each % 2 else "SELL" for each in cents],
        "trade_conditions": [[]] * count,
        "source_sequence": ids,
        "ingestion_timestamp": times,
        "platform_sequence": list(numbers),
        "vendor_data": [{"E": "1723161300000"}] * count,
    }


def candles(first_minute: int, count: int) -> dict[str, list[object]]:
    """Return columns of complete candles of every symbol."""
    start = from_us(START_US)
    opens = [start + timedelta(minutes=first_minute + step) for step in range(count) for _ in SYMBOLS]
    rows = len(opens)
    constant = {
        "exchange": "binance", "open_price": Decimal("61837.63"), "high_price": Decimal(61900),
        "low_price": Decimal("61800.5"), "close_price": Decimal("61850.01"), "volume": Decimal("12.34567"),
        "quote_volume": Decimal("763421.123456789"), "trade_count": 250, "vwap": Decimal("61837.123456789012"),
        "first_trade_id": "3735683259", "last_trade_id": "3735683509", "is_complete": True, "missing_trades": 0,
    }  # fmt: skip
    return {name: [value] * rows for name, value in constant.items()} | {
        "symbol": list(SYMBOLS) * count,
        "window_start": opens,
        "window_end": [each + timedelta(minutes=1) for each in opens],
        "window_date": [each.date() for each in opens],
        "created_at": opens,
        "updated_at": opens,
    }


def build(settings: Settings) -> None:
    """Fill gold with FILES commits of trades, and with candles in half as many."""
    catalog = open_catalog(settings)
    ensure_tables(catalog, settings.catalog.namespace, all_tables(("binance",)))
    share = TRADES // FILES
    minutes = TRADES * STEP_US // 60_000_000 // (FILES // 2)
    for step in range(FILES):
        append(
            catalog.load_table((settings.catalog.namespace, GOLD_TRADES.name)), GOLD_TRADES, trades(step * share, share)
        )
        if step % 2:
            table = catalog.load_table((settings.catalog.namespace, GOLD_OHLCV_1M.name))
            append(table, GOLD_OHLCV_1M, candles(step // 2 * minutes, minutes))


def append(table: object, spec: TableSpec, columns: dict[str, list[object]]) -> None:
    schema = schema_to_pyarrow(spec.schema, include_field_ids=False)
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    table.append(pa.Table.from_arrays(arrays, schema=schema))  # type: ignore[attr-defined]


@contextmanager
def served(settings: Settings):  # type: ignore[no-untyped-def]
    """Run ``k2 api`` on a free port; yield a client and the server's pid."""
    port = free_port()
    environment = child_environment(K2_HOME=str(settings.home), K2_PORTS__API=str(port))
    log = (settings.home / "api.log").open("w")
    command = [sys.executable, "-c", "from k2_api.api_command import api; api()"]
    server = subprocess.Popen(command, env=environment, stderr=log, start_new_session=True)
    headers = {"X-API-Key": settings.api.key.get_secret_value()}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
            until_ready(client)
            yield client, server.pid
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)
        log.close()


def until_ready(client: httpx.Client) -> None:
    for _ in range(600):
        try:
            if client.get("/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise SystemExit("the API did not become ready within 30 s")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def took_ms(ask: Callable[[], httpx.Response]) -> float:
    started = monotonic()
    answer = ask()
    assert answer.status_code == 200, answer.text
    return (monotonic() - started) * 1000


def report(name: str, times: list[float], extra: str = "") -> None:
    p99 = sorted(times)[max(0, int(len(times) * 0.99) - 1)]
    print(f"{name:44} n={len(times):5}  median={statistics.median(times):8.2f} ms  p99={p99:8.2f} ms  {extra}")


def rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        started = monotonic()
        build(settings)
        data = list(Path(folder).rglob("*.parquet"))
        megabytes = sum(file.stat().st_size for file in data) / 1e6
        reach = from_us(START_US + TRADES * STEP_US) - from_us(START_US)
        print(f"machine: {platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}")
        print(f"data: {TRADES:,} trades over {reach}, {len(data)} files, {megabytes:.0f} MB, "
              f"built in {monotonic() - started:.0f} s; {len(SYMBOLS)} symbols, mixed in every file")  # fmt: skip
        with served(settings) as (client, pid):
            measure(client, pid)


def measure(client: httpx.Client, pid: int) -> None:
    for name, path in QUESTIONS.items():
        report(f"first request: {name}", [took_ms(lambda path=path: client.get(path))])
    for name, path in QUESTIONS.items():
        times = [took_ms(lambda path=path: client.get(path)) for _ in range(REQUESTS)]
        report(name, times, f"{len(client.get(path).content):,} bytes")
    with ThreadPoolExecutor(10) as pool:
        for name in ("last 100 trades of a symbol", "1,000 candles of a symbol"):
            started = monotonic()
            path = QUESTIONS[name]
            times = list(pool.map(lambda _, path=path: took_ms(lambda: client.get(path)), range(1000)))
            report(f"10 clients: {name}", times, f"{1000 / (monotonic() - started):.0f} requests/s")
    print(f"the server's memory afterwards: {rss_mb(pid):.0f} MB")


if __name__ == "__main__":
    assert to_us(from_us(START_US)) == START_US
    main()
