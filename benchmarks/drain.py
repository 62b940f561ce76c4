"""Kafka → bronze + silver committed, from a backlog: messages a second on a real broker and registry.

    python benchmarks/drain.py [--messages 2000000] [--runs 3] [--poison 0.01] [--profile]

The backlog is made of the frames of the simulator's kind, 4 partitions, written through the feed's envelope encoder.
A run ends when every message is in bronze and in silver or rejected; the rows are counted in the tables.

With --poison a second topic holds the same frames, but for that share of them spoiled in every way that has a reason of
its own, one after the other. Clean and poisoned runs alternate, and the ratio of each pair is printed.
"""

import argparse
import cProfile
import pstats
import random
import shutil
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, cast

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from real_parts import machine, real_parts

from k2_assets.drain.drain_loop import drain
from k2_assets.lake.lake_resource import Lake
from k2_core import topics
from k2_core.lake.catalog import open_catalog
from k2_core.raw_frame import Encoder
from k2_core.registry import Registry
from k2_core.settings import Drain, Settings
from k2_core.venues import binance
from k2_core.venues.venue_protocol import Venue

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT")
CLEAN, POISONED = "binance", "binance_poisoned"

# How one frame, or its envelope, is spoiled; each gives another reason of rejection.
FRAME_FAULTS: tuple[Callable[[bytes], bytes], ...] = (
    lambda frame: frame[:-10],
    lambda frame: frame.replace(b'"e":"trade"', b'"e":"aggTrade"'),
    lambda frame: frame.replace(b'"q":', b'"x":'),
    lambda frame: frame.replace(b'"m":', b'"m":1,"x":'),
    lambda frame: frame.replace(b'"p":"', b'"p":"-'),
    lambda frame: frame.replace(b'"q":"0.', b'"q":"0.00000000","x":"'),
    lambda frame: frame.replace(b'"q":"0.', b'"q":"0.123456789'),
    lambda frame: frame.replace(b'"T":1', b'"T":9'),
    lambda frame: frame.replace(b'USDT","t"', b'XYZ","t"'),
)
ENVELOPE_FAULTS: tuple[Callable[[bytes], bytes], ...] = (
    lambda value: b"\1" + value[1:],
    lambda value: b"\0" + random.randrange(1 << 20, 1 << 31).to_bytes(4, "big") + value[5:],
    lambda value: value[:-1],
    lambda value: value + b"\0",
)


def frame(symbol: str, trade_id: int, now_ms: int) -> bytes:
    price = f"{60_000 + trade_id % 977}.{trade_id % 100:02d}000000"
    return (
        f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":{now_ms + 1},"s":"{symbol}","t":{trade_id},'
        f'"p":"{price}","q":"0.{trade_id % 99_999 + 1:05d}000","T":{now_ms},"m":{"true" if trade_id % 3 else "false"},'
        f'"M":true}}}}'
    ).encode()


class Run(NamedTuple):
    """Messages a second, and CPU time of the drain a message in µs, all its threads."""

    rate: float
    cpu_us: float


def venue_called(name: str) -> Venue:
    """Binance under another name: its topic and its tables are others."""
    return cast(Venue, SimpleNamespace(**vars(binance) | {"VENUE": name}))


def fill(settings: Settings, venue: str, messages: int, poison: float) -> int:
    topic = topics.raw_topic("crypto", "trades", venue)
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    admin.create_topics([NewTopic(topic, 4, 1, config=topics.topic_settings(7))])[topic].result()
    with Registry(settings.registry_url) as registry:
        schema_id = registry.register(topics.subject(topic), topics.raw_frame_schema())
    encoder = Encoder(schema_id, "binance", "00000000-0000-4000-8000-000000000000")
    producer = Producer(
        {"bootstrap.servers": settings.bootstrap_servers, "linger.ms": 50, "compression.type": "lz4", "acks": "all"}
    )
    now_ns = time.time_ns()  # noqa: TID251
    size = 0
    for index in range(messages):
        value = message(encoder, index, now_ns, spoiled(index, poison))
        size += len(value)
        while True:
            try:
                producer.produce(topic, value, SYMBOLS[index % 4].encode(), partition=index % 4)
                break
            except BufferError:
                producer.poll(0.1)
        if index % 10_000 == 0:
            producer.poll(0)
    producer.flush()
    return size


def message(encoder: Encoder, index: int, now_ns: int, fault: int | None) -> bytes:
    symbol, received = SYMBOLS[index % 4], now_ns + index * 1000
    payload = frame(symbol, index // 4, received // 1_000_000)
    if fault is None:
        return encoder.encode(received, index, "trade", symbol, payload)
    kind = fault % (len(FRAME_FAULTS) + len(ENVELOPE_FAULTS))
    if kind < len(FRAME_FAULTS):
        return encoder.encode(received, index, "trade", symbol, FRAME_FAULTS[kind](payload))
    return ENVELOPE_FAULTS[kind - len(FRAME_FAULTS)](encoder.encode(received, index, "trade", symbol, payload))


def spoiled(index: int, poison: float) -> int | None:
    """Return the number of the poisoned message at ``index``; None for a good one."""
    number = int((index + 1) * poison)
    return number if number > int(index * poison) else None


def drain_once(settings: Settings, venue: Venue, messages: int) -> float:
    """Drain until every message is read; the end of the run commits the rest without waiting for the interval."""
    stop = threading.Event()
    done = 0
    began = time.perf_counter()
    for lane, committed in drain(Lake(settings), [venue], "benchmark", stop):
        if committed is not None:
            done += committed.batch.bronze.num_rows
            print(f"  {done:>9,} committed, the last commit took {committed.seconds:.2f} s", flush=True)
        if lane.read >= messages:
            stop.set()
    return time.perf_counter() - began


def rows(settings: Settings, venue: str) -> dict[str, int]:
    catalog = open_catalog(settings)
    names = (f"bronze_{venue}_trades", f"silver_{venue}_trades", f"silver_{venue}_rejected")
    tables = {name: catalog.load_table(("market_data", name)) for name in names}
    return {name: int(table.current_snapshot().summary["total-records"]) for name, table in tables.items()}  # type: ignore[union-attr,index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3, help="of each kind")
    parser.add_argument(
        "--poison", type=float, default=0.0, metavar="SHARE", help="share of bad messages, such as 0.01"
    )
    parser.add_argument("--profile", action="store_true", help="cProfile of the reading thread; costs speed")
    options = parser.parse_args()
    venues = {CLEAN: 0.0} | ({POISONED: options.poison} if options.poison else {})
    runs: dict[str, list[Run]] = {venue: [] for venue in venues}
    with real_parts(registry=True) as parts:
        sizes = {venue: fill(parts, venue, options.messages, share) for venue, share in venues.items()}
        for run in range(options.runs):
            for venue in list(venues)[:: -1 if run % 2 else 1]:  # each kind is first as often as the other
                runs[venue].append(measure(parts, venue, parts.home / f"{venue}-{run}", options))
    for venue, share in venues.items():
        tell([run.rate for run in runs[venue]], options.messages, sizes[venue], share)
    if options.poison:
        pairs = list(zip(runs[CLEAN], runs[POISONED], strict=True))
        print(f"with {options.poison:.1%} poison:")
        print(f"  speed {spread([bad.rate / clean.rate for clean, bad in pairs])} of clean")
        print(f"  CPU of the drain {spread([bad.cpu_us / clean.cpu_us for clean, bad in pairs])} of clean")


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.3f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"


def tell(rates: list[float], messages: int, size: int, poison: float) -> None:
    print(
        f"drain: n={len(rates)} median={statistics.median(rates):,.0f} msg/s "
        f"min={min(rates):,.0f} max={max(rates):,.0f}; {messages:,} messages, {size / 1e6:.0f} MB in Kafka, "
        f"poison {poison:.1%}; {machine()}"
    )


def measure(parts: Settings, venue: str, home: Path, options: argparse.Namespace) -> Run:
    settings = parts.model_copy(update={"home": home, "drain": Drain(work_minutes=30)})
    profile = cProfile.Profile()
    if options.profile:
        profile.enable()
    cpu = time.process_time()
    seconds = drain_once(settings, venue_called(venue), options.messages)
    cpu = time.process_time() - cpu
    profile.disable()
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    counted = rows(settings, venue)
    bad = int(options.messages * options.poison) if venue == POISONED else 0
    assert list(counted.values()) == [options.messages, options.messages - bad, bad], counted
    cost = f"{cpu / options.messages * 1e6:.1f} µs of CPU a message in the drain, all threads"
    print(f"run: {options.messages / seconds:,.0f} msg/s, {cost}; {counted}", flush=True)
    shutil.rmtree(home)
    return Run(options.messages / seconds, cpu / options.messages * 1e6)


if __name__ == "__main__":
    main()
