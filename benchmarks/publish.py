"""Frames encoded and acknowledged per second by the feed's publishing path, on a real broker on the same machine.

    python benchmarks/publish.py [--frames 500000] [--runs 7] [--profile] [--socket [--asyncio]]

The path is the one the feed runs for every frame (k2_feeds.feed.Feed.take): route, gap check, envelope, produce; a run
ends when Kafka has acknowledged the last frame (idempotent, acks=all, lz4). Frames are the simulator's, of three
symbols in combined streams, about 170 bytes each, in the order a venue would send them.

With --socket the frames also travel through the WebSocket: the simulator's player, in a process of its own, at full
speed, then the feed's own connection.
"""

import argparse
import asyncio
import cProfile
import platform
import pstats
import statistics
import subprocess
import sys
import time
from pathlib import Path

import uvloop
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from real_parts import machine, real_parts

from k2_core import clock, topics
from k2_core.settings import Feeds, Settings
from k2_core.venues import binance
from k2_feeds.feed import Feed
from k2_feeds.kafka.provision import Provisioned, ensure_topic
from k2_feeds.kafka.publisher import Publisher
from k2_feeds.simulator import binance as simulated
from k2_feeds.simulator.market import Market
from k2_feeds.simulator.simulated_listings import listing_of
from k2_feeds.socket.connection import Connection

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT")


def made_frames(count: int) -> list[bytes]:
    start_us = clock.now_us()
    market = Market(7, tuple(map(listing_of, SYMBOLS)), 20_000, start_us, quotes_per_trade=0)
    moments = [start_us + second * 1_000_000 for second in range(count // 20_000 + 2)]
    batches = ((batch, moment) for moment in moments for batch in market.due(moment))
    made = [message for batch, moment in batches for message in simulated.messages(batch, moment)]
    return [b'{"stream":"%b","data":%b}' % (each.streams[0].encode(), each.body) for each in made[:count]]


def publish(feed: Feed, publisher: Publisher, frames: list[bytes]) -> None:
    take, now_ns = feed.open("one").take, clock.now_ns
    for frame in frames:
        take(now_ns(), frame)
        if feed.full:
            while not publisher.retry():
                publisher.poll(0.005)
    left = publisher.flush(120)
    assert left == 0, f"{left} frames were not acknowledged"


def provisioned(settings: Settings, topic: str) -> Provisioned:
    return Provisioned(topic, topic, settings.kafka.topic_partitions, {topic: 1}, 2)


def one_run(settings: Settings, topic: str, frames: list[bytes]) -> float:
    publisher = Publisher(settings.bootstrap_servers)
    feed = Feed(binance, provisioned(settings, topic), publisher)
    before = sum(end_offsets(settings, topic))
    began = time.perf_counter()
    publish(feed, publisher, frames)
    took = time.perf_counter() - began
    assert feed.finish(30) == 0
    assert sum(end_offsets(settings, topic)) - before == len(frames)
    assert feed.gaps_found.total() == 0
    return took


def end_offsets(settings: Settings, topic: str) -> list[int]:
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers, "log_level": 0})
    latest = {TopicPartition(topic, p): OffsetSpec.latest() for p in range(settings.kafka.topic_partitions)}
    for _ in range(50):
        try:
            answers = admin.list_offsets(latest, request_timeout=20).values()
            return [future.result(timeout=30).offset for future in answers]
        except KafkaException:  # a topic that was just made has no leader for a moment
            time.sleep(0.2)
    raise AssertionError(f"{topic} has no leader")


def socket_run(settings: Settings, topic: str, recording: Path, count: int, plain: bool) -> float:
    code = "from k2_feeds.feed_commands import feed; feed()"
    port = str(settings.ports.simulator)
    arguments = ["simulate", "--recording", f"binance={recording}", "--speed", "max", "--port", port]
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.DEVNULL) as simulator:
        try:
            with asyncio.Runner(loop_factory=None if plain else uvloop.new_event_loop) as runner:
                return runner.run(_through_socket(settings, topic, port, count))
        finally:
            simulator.terminate()


async def _through_socket(settings: Settings, topic: str, port: str, count: int) -> float:
    publisher = Publisher(settings.bootstrap_servers)
    feed = Feed(binance, provisioned(settings, topic), publisher)
    feeds = Feeds(backoff_first_s=0.2)
    connection = Connection(binance, f"ws://127.0.0.1:{port}", SYMBOLS, feeds, feed)
    running, tending = asyncio.create_task(connection.run()), asyncio.create_task(_tend(feed))
    while not feed.messages:  # noqa: ASYNC110  # an event in the measured path would cost time
        await asyncio.sleep(0.001)
    began = time.perf_counter()
    while feed.messages < count:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    left = publisher.flush(60)
    took = time.perf_counter() - began
    assert left == 0
    connection.stop()
    await running
    tending.cancel()
    assert feed.drops.total == 0
    assert feed.finish(30) == 0
    assert feed.gaps_found.total() == 0
    return took


async def _tend(feed: Feed) -> None:
    while True:
        feed.tend()
        await asyncio.sleep(0.1)


def show(name: str, seconds: list[float], frames: int, size: int) -> None:
    rates = sorted(frames / each for each in seconds)
    slowest = rates[0] if len(rates) < 100 else rates[len(rates) // 100]
    print(
        f"{name}: n={len(rates)} runs of {frames:,} frames ({size / 1e6:.0f} MB), frames/s: "
        f"median {statistics.median(rates):,.0f}, slowest (p99) {slowest:,.0f}, fastest {rates[-1]:,.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=500_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--socket", action="store_true")
    parser.add_argument("--asyncio", action="store_true", help="with --socket: asyncio's own loop instead of uvloop")
    asked = parser.parse_args()
    frames = made_frames(asked.frames)
    size = sum(map(len, frames))
    with real_parts() as settings:
        topic = topics.raw_topic("crypto", "trades", "binance")
        admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers, "log_level": 0})
        ensure_topic(admin, topic, settings)
        ensure_topic(admin, topics.FEED_EVENTS, settings)
        one_run(settings, topic, frames)
        cpu_before = time.process_time()
        show("publish", [one_run(settings, topic, frames) for _ in range(asked.runs)], len(frames), size)
        cpu_us = (time.process_time() - cpu_before) / (len(frames) * asked.runs) * 1e6
        print(f"         {cpu_us:.2f} µs of this process's CPU a frame, librdkafka's threads with it")
        if asked.profile:
            with cProfile.Profile() as profile:
                one_run(settings, topic, frames)
            pstats.Stats(profile).sort_stats("tottime").print_stats(14)
        if asked.socket:
            recording = settings.home / "frames"
            recording.write_bytes(b"".join(b"%d %b\n" % (n, frame) for n, frame in enumerate(frames, 1)))
            seconds = [socket_run(settings, topic, recording, len(frames), asked.asyncio) for _ in range(asked.runs)]
            loop = "asyncio" if asked.asyncio else "uvloop"
            show(f"socket to acknowledged ({loop})", seconds, len(frames), size)
    print(f"         {machine()}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
