"""Memory and CPU of the feed process over time: all venues of the simulator, trades and quotes, a real broker.

    python benchmarks/feed.py [--minutes 60] [--messages 2000]

The feed is `k2 feed run` as users run it; simulator and broker share the machine with it. Printed are the messages a
second that it took, what Kafka acknowledged, its CPU time, and its memory (RSS, a sample every 5 s) in the first and
the last quarter, with the slope of a regression over all samples and its R².
"""

import argparse
import statistics
import subprocess
import sys
import time
from typing import Any

import httpx
import numpy as np
import psutil
from real_parts import machine, real_parts

from k2_core.settings import Settings, child_environment
from k2_core.venues import VENUES

SAMPLE_S = 5.0
MESSAGES_PER_TRADE = 4.6  # the simulator's: orders of several trades, and its quotes
SETTLING_S = 30.0


def processes_of(settings: Settings, messages: int) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    ports = settings.ports
    variables = {
        "K2_HOME": str(settings.home),
        "K2_KAFKA__BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "K2_REGISTRY__URL": settings.registry_url,
        "K2_PORTS__FEED_HEALTH": str(ports.feed_health),
    }
    for venue in VENUES:
        variables[f"K2_FEEDS__{venue.upper()}__URL"] = f"ws://127.0.0.1:{ports.simulator}"
        variables[f"K2_FEEDS__{venue.upper()}__REST_URL"] = f"http://127.0.0.1:{ports.simulator}"
    command = [sys.executable, "-m", "k2_stack", "feed"]
    environment = child_environment(**variables)
    rate = ("--rate", f"{messages / MESSAGES_PER_TRADE:.0f}")
    market = subprocess.Popen([*command, "simulate", "--port", str(ports.simulator), *rate], env=environment)
    return market, subprocess.Popen([*command, "run"], env=environment)


def health(settings: Settings) -> dict[str, Any]:
    try:
        url = f"http://127.0.0.1:{settings.ports.feed_health}/health"
        found: dict[str, Any] = httpx.get(url, timeout=10, trust_env=False).json()
    except httpx.HTTPError:
        return {}
    return found


def measure(settings: Settings, feed: psutil.Process, seconds: float) -> None:
    while not health(settings).get("connected"):
        time.sleep(1)
    time.sleep(SETTLING_S)
    first, began, used = health(settings), time.perf_counter(), sum(feed.cpu_times()[:2])
    times, memory = [], []
    while (now := time.perf_counter() - began) < seconds:
        times.append(now / 3600)
        memory.append(feed.memory_info().rss / 1e6)
        time.sleep(SAMPLE_S)
    took, cpu_s, last = time.perf_counter() - began, sum(feed.cpu_times()[:2]) - used, health(settings)
    show(times, memory)
    messages, produced = (last[name] - first[name] for name in ("messages", "produced"))
    print(f"messages: {messages:,} in {took:,.0f} s, {messages / took:,.0f}/s; acknowledged {produced:,}")
    print(f"gaps {last['gaps']}, reconnects {last['reconnects']}")
    print(f"CPU of the feed: {cpu_s:,.0f} s, {cpu_s / took:.1%} of a core, {cpu_s / messages * 1e6:.1f} µs a message")
    print(machine())


def show(hours: list[float], memory: list[float]) -> None:
    quarter = max(len(memory) // 4, 1)
    slope = float(np.polyfit(hours, memory, 1)[0])
    fit = float(np.corrcoef(hours, memory)[0, 1]) ** 2
    ends = (statistics.median(memory[:quarter]), statistics.median(memory[-quarter:]))
    print(
        f"memory: n={len(memory)} samples, median of the first quarter {ends[0]:.1f} MB, of the last {ends[1]:.1f} MB,"
    )
    print(f"        at most {max(memory):.1f} MB; slope {slope:+.2f} MB/h, R² {fit:.2f}, leak score {slope * fit:+.2f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--messages", type=int, default=2_000, help="a second, about")
    asked = parser.parse_args()
    with real_parts(registry=True) as settings:
        market, feed = processes_of(settings, asked.messages)
        try:
            measure(settings, psutil.Process(feed.pid), asked.minutes * 60)
        finally:
            for each in (feed, market):
                each.terminate()
                each.wait()


if __name__ == "__main__":
    main()
