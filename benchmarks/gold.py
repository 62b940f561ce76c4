"""What gold costs: all candles of a large day at once, a million new trades, and ten seconds of trades on a large day.

Run it with ``.venv/bin/python benchmarks/gold.py``; it builds its lake in a temporary folder (about 1 GB for 20 million
trades). Each figure is the work of one process, by its own CPU time and by wall time.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from statistics import median

import polars as pl
import pyarrow as pa
from pyiceberg.catalog import Catalog
from real_parts import machine

from k2_assets.gold.gold_day import GoldDay
from k2_assets.lake.commits import arrow_schema
from k2_assets.lake.lake_resource import Lake
from k2_core import clock
from k2_core.lake.tables import CANDLES, GOLD_TRADES, silver_trades
from k2_core.settings import Settings

SILVER = silver_trades("binance")
DAY = date(2025, 3, 3)
START = datetime(2025, 3, 3, tzinfo=UTC)
BATCH = 1_000_000
_FIRST_STEPS = 20
OPEN_UNTIL_S = 80_000  # of the day's seconds; new trades follow


def trades(first_id: int, count: int, begin_s: float, seconds: float, symbols: int) -> pa.Table:
    """Return rows of silver with rising ids and times, symbol after symbol in turn."""
    number = pl.int_range(first_id, first_id + count, eager=True)
    micros = (begin_s * 1_000_000 + pl.int_range(0, count, eager=True) * (seconds * 1_000_000 / count)).cast(pl.Int64)
    time_us = (micros + int(START.timestamp()) * 1_000_000).cast(pl.Datetime("us", "UTC"))
    sequence = number // symbols
    name = "SYMBOL" + (number % symbols).cast(pl.String)
    frame = pl.DataFrame(
        {
            "message_id": "00000000-0000-0000-0000-" + number.cast(pl.String).str.zfill(12),
            "trade_id": sequence.cast(pl.String),
            "symbol": name + "USDT",
            "exchange": "binance",
            "asset_class": "crypto",
            "timestamp": time_us,
            "price": (1_000 + sequence % 977).cast(pl.Decimal(28, 12)),
            "quantity": (1 + sequence % 31).cast(pl.Decimal(28, 8)),
            "currency": "USDT",
            "side": "BUY",
            "source_sequence": sequence,
            "ingestion_timestamp": time_us,
            "platform_sequence": number,
            "kafka_topic": "topic",
            "topic_id": "topic-uuid",
            "kafka_partition": 0,
            "kafka_offset": number,
            "frame_index": 0,
            "received_ns": number,
        }
    )
    schema = arrow_schema(SILVER)
    columns = [
        frame[field.name].to_arrow().cast(field.type)
        if field.name in frame.columns
        else pa.array([[]] * count, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def append(catalog: Catalog, namespace: str, rows: pa.Table) -> None:
    catalog.load_table((namespace, SILVER.name)).append(rows)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the CPU and the wall seconds of a piece of work."""
    began, cpu = clock.monotonic(), time.process_time()
    work()
    return time.process_time() - cpu, clock.monotonic() - began


def report(name: str, measured: list[tuple[float, float]]) -> None:
    cpu, wall = (median(each) for each in zip(*measured, strict=True))
    print(f"{name}: {cpu:.2f} s of CPU, {wall:.2f} s (median, n={len(measured)})")


def large_day(home: Path, rows: int, symbols: int, steps: int) -> None:
    lake = Lake(Settings(home=home))
    catalog, namespace = lake.catalog(), lake.namespace
    seconds = OPEN_UNTIL_S / (rows / BATCH)
    for number in range(rows // BATCH):
        part = trades(number * BATCH, BATCH, number * seconds, seconds, symbols)
        append(catalog, namespace, part)
    took = timed(lambda: GoldDay(lake, GOLD_TRADES.name, DAY).take_in_news())
    report(f"{rows:,} trades of {symbols} symbols from silver into gold", [took])
    each = [timed(lambda spec=spec: GoldDay(lake, spec.name, DAY).take_in_news()) for spec in CANDLES]  # type: ignore[misc]
    for spec, found in zip(CANDLES, each, strict=True):
        report(f"  {spec.name} of them", [found])
    report(f"{rows:,} trades -> all timeframes", [(sum(cpu for cpu, _ in each), sum(wall for _, wall in each))])

    # What bounds the windows lies in small files after the first two minutes, as on a day that grows.
    chain: list[tuple[float, float]] = []
    for step in range(_FIRST_STEPS + steps):
        append(
            catalog,
            namespace,
            trades(rows + step * 10_000, 10_000, OPEN_UNTIL_S + step * 10, 10, symbols),
        )
        chain.append(
            timed(
                lambda: [
                    GoldDay(lake, name, DAY).take_in_news() for name in (GOLD_TRADES.name, *(c.name for c in CANDLES))
                ]
            )
        )
    report(f"10 s of 1,000 trades/s on a day of {rows:,}: trades and all timeframes", chain[_FIRST_STEPS:])

    begin_s, first = OPEN_UNTIL_S + len(chain) * 10, rows + len(chain) * 10_000
    append(catalog, namespace, trades(first, BATCH, begin_s, 5_000, symbols))
    report(
        f"{BATCH:,} new trades into gold's day of {rows:,}",
        [timed(lambda: GoldDay(lake, GOLD_TRADES.name, DAY).take_in_news())],
    )
    report(
        "  and all timeframes of them", [timed(lambda: [GoldDay(lake, c.name, DAY).take_in_news() for c in CANDLES])]
    )
    nothing = [timed(lambda: [GoldDay(lake, c.name, DAY).take_in_news() for c in CANDLES]) for _ in range(3)]
    report("  and once more, when nothing is new", nothing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", type=int, default=10 * BATCH, help="of the day; whole millions (default: %(default)s)"
    )
    parser.add_argument("--symbols", type=int, default=30)
    parser.add_argument("--steps", type=int, default=6, help="batches of 10 s (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as home:
        large_day(Path(home), options.rows, options.symbols, options.steps)
    print(machine())


if __name__ == "__main__":
    main()
