"""Kafka → bronze + silver committed, from a backlog: messages a second on a real broker and registry.

    python benchmarks/drain.py [--messages 2000000] [--runs 3] [--poison 0.01] [--profile]

The backlog is made of the frames of the simulator's kind, 4 partitions, written through the feed's envelope encoder.
A run ends when every message stands in bronze and in silver or rejected; the rows are counted in the tables.
"""

import argparse
import cProfile
import pstats
import statistics
import threading
import time
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from real_parts import machine, real_parts

from k2_assets.drain.drain import drain
from k2_core import topics
from k2_core.catalog import open_catalog
from k2_core.raw_frame import Encoder
from k2_core.registry import Registry
from k2_core.settings import Drain, Settings

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT")
TOPIC = topics.raw_topic("crypto", "trades", "binance")


def frame(symbol: str, trade_id: int, now_ms: int) -> bytes:
    price = f"{60_000 + trade_id % 977}.{trade_id % 100:02d}000000"
    return (
        f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":{now_ms + 1},"s":"{symbol}","t":{trade_id},'
        f'"p":"{price}","q":"0.{trade_id % 99_999 + 1:05d}000","T":{now_ms},"m":{"true" if trade_id % 3 else "false"},'
        f'"M":true}}}}'
    ).encode()


def fill(settings: Settings, messages: int, poison: float) -> int:
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    admin.create_topics([NewTopic(TOPIC, 4, 1, config=topics.topic_settings(7))])[TOPIC].result()
    with Registry(settings.registry_url) as registry:
        schema_id = registry.register(topics.subject(TOPIC), topics.raw_frame_schema())
    encoder = Encoder(schema_id, "binance", "00000000-0000-4000-8000-000000000000")
    producer = Producer(
        {"bootstrap.servers": settings.bootstrap_servers, "linger.ms": 50, "compression.type": "lz4", "acks": "all"}
    )
    now_ns = time.time_ns()  # noqa: TID251
    every = int(1 / poison) if poison else 0
    size = 0
    for index in range(messages):
        place = index % len(SYMBOLS)
        received = now_ns + index * 1000
        payload = frame(SYMBOLS[place], index // len(SYMBOLS), received // 1_000_000)
        if every and index % every == 0:
            payload = payload[:-10]
        value = encoder.encode(received, index, "trade", SYMBOLS[place], payload)
        size += len(value)
        while True:
            try:
                producer.produce(TOPIC, value, SYMBOLS[place].encode(), partition=place)
                break
            except BufferError:
                producer.poll(0.1)
        if index % 10_000 == 0:
            producer.poll(0)
    producer.flush()
    return size


def drain_once(settings: Settings, messages: int) -> float:
    """Drain until every message is read; the end of the run commits the rest without waiting for the interval."""
    stop = threading.Event()
    done = 0
    began = time.perf_counter()
    for lane, committed in drain(settings, "benchmark", stop):
        if committed is not None:
            done += committed.batch.bronze.num_rows
            print(f"  {done:>9,} committed, the last commit took {committed.seconds:.2f} s", flush=True)
        if lane.read >= messages:
            stop.set()
    return time.perf_counter() - began


def rows(settings: Settings) -> dict[str, int]:
    catalog = open_catalog(settings)
    names = ("bronze_binance_trades", "silver_binance_trades", "silver_binance_rejected")
    tables = {name: catalog.load_table(("market_data", name)) for name in names}
    return {name: int(table.current_snapshot().summary["total-records"]) for name, table in tables.items()}  # type: ignore[union-attr,index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--poison", type=float, default=0.0)
    parser.add_argument("--profile", action="store_true", help="cProfile of the reading thread; costs speed")
    options = parser.parse_args()
    with real_parts(registry=True) as parts:
        size = fill(parts, options.messages, options.poison)
        rates = [measure(parts, parts.home / f"run{run}", options) for run in range(options.runs)]
    print(
        f"drain: n={options.runs} median={statistics.median(rates):,.0f} msg/s "
        f"min={min(rates):,.0f} max={max(rates):,.0f}; {options.messages:,} messages, {size / 1e6:.0f} MB in Kafka, "
        f"poison {options.poison:.0%}; {machine()}"
    )


def measure(parts: Settings, home: Path, options: argparse.Namespace) -> float:
    settings = parts.model_copy(update={"home": home, "drain": Drain(work_minutes=30)})
    profile = cProfile.Profile()
    if options.profile:
        profile.enable()
    cpu = time.process_time()
    seconds = drain_once(settings, options.messages)
    cpu = time.process_time() - cpu
    profile.disable()
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    counted = rows(settings)
    parsed = counted["silver_binance_trades"] + counted["silver_binance_rejected"]
    assert counted["bronze_binance_trades"] == parsed == options.messages, counted
    cost = f"{cpu / options.messages * 1e6:.1f} µs of CPU a message in the drain, all threads"
    print(f"run: {options.messages / seconds:,.0f} msg/s, {cost}; {counted}", flush=True)
    return float(options.messages / seconds)


if __name__ == "__main__":
    main()
