"""How fresh a running platform is, and how much memory and CPU it needs: watch it for some minutes.

    k2 up --detach --source simulator --rate 1000
    python benchmarks/freshness.py --minutes 20

Trade → silver: for every row that a new silver snapshot adds, the time at which the catalog pointed to that snapshot
less the trade's event time (simulator and platform share a clock). Trade → API: the time at which the API first served
a trade, less its event time. Candle: the time at which the API first served the candle with is_complete true, less the
end of its minute. Memory: of each part, as k2 status counts it. CPU: of all processes of the home, by part, in cores.
Event log: what Dagster's storage got, by the events' own size. With --only-cpu nobody asks the platform anything, and
only CPU and event log are measured.
"""

import argparse
import csv
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil

from k2_assets.lake.source_files import live_files, read_files
from k2_core.lake.catalog import open_catalog
from k2_core.settings import Settings, load_settings

POLL_S = 0.1
MEMORY_EVERY_S = 15


def watch_silver(settings: Settings, until: float, latencies: list[np.ndarray], stamps: list[float]) -> None:
    catalog, known = open_catalog(settings), None
    while time.time() < until:  # noqa: TID251
        table = catalog.load_table((settings.catalog.namespace, "silver_binance_trades"))
        seen_at = time.time()  # noqa: TID251
        snapshot = table.current_snapshot()
        sequence = snapshot.sequence_number or 0 if snapshot else 0
        if known is not None and sequence > known:
            files = [each for each in live_files(table, "timestamp") if each.sequence > known]
            events = read_files(table, files, ("timestamp",))["timestamp"].to_physical().to_numpy()
            latencies.append(seen_at - events / 1e6)
            stamps.append(seen_at)
        known = sequence
        time.sleep(POLL_S)


def watch_trades(settings: Settings, until: float, latencies: list[float]) -> None:
    newest: dict[str, int] = {}
    while time.time() < until:  # noqa: TID251
        for symbol in settings.feeds.binance.symbols[:2]:
            trades = get(settings, f"/v1/trades?symbol={symbol}&exchange=binance&limit=1000")
            now, known = time.time(), newest.get(symbol)  # noqa: TID251
            ids = {int(trade["trade_id"]): datetime.fromisoformat(trade["timestamp"]).timestamp() for trade in trades}
            if known is not None:
                latencies += [now - at for number, at in ids.items() if number > known]
            newest[symbol] = max(ids, default=0)
        time.sleep(0.5)


def watch_candles(settings: Settings, until: float, complete_at: dict[tuple[str, str], float]) -> None:
    started = time.time()  # noqa: TID251
    while time.time() < until:  # noqa: TID251
        for symbol in settings.feeds.binance.symbols[:3]:
            for candle in get(settings, f"/v1/ohlcv/1m?symbol={symbol}&limit=5"):
                end = datetime.fromisoformat(candle["window_end"]).timestamp()
                if candle["is_complete"] and end > started:
                    complete_at.setdefault((symbol, candle["window_end"]), time.time() - end)  # noqa: TID251
        time.sleep(0.5)


def get(settings: Settings, path: str) -> list[dict[str, str]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{settings.ports.api}{path}", headers={"X-API-Key": settings.api.key.get_secret_value()}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)["data"]  # type: ignore[no-any-return]


def watch_memory(until: float, memory: dict[str, list[float]]) -> None:
    k2 = Path(sys.executable).with_name("k2")
    while time.time() < until:  # noqa: TID251
        status = json.loads(
            subprocess.run([k2, "status", "--json"], capture_output=True, text=True, check=False).stdout
        )
        parts = {part["name"]: part["rss_mb"] or 0 for part in status["parts"]}
        for name, mb in {**parts, "all": sum(parts.values())}.items():
            memory[name].append(mb)
        time.sleep(MEMORY_EVERY_S)


def cpu_seconds(settings: Settings) -> dict[str, float]:
    """Return the CPU that each part has used, by the session of its processes."""
    k2 = Path(sys.executable).with_name("k2")
    status = json.loads(subprocess.run([k2, "status", "--json"], capture_output=True, text=True, check=False).stdout)
    parts = {part["pid"]: part["name"] for part in status["parts"] if part["pid"]}
    used: dict[str, float] = defaultdict(float)
    for process in psutil.process_iter():
        try:
            if process.environ().get("K2_HOME") != str(settings.home):
                continue
            name = parts.get(os.getsid(process.pid), "supervisor")
            times = process.cpu_times()
        except (psutil.Error, ProcessLookupError):
            continue
        used[name] += times.user + times.system + times.children_user + times.children_system
    return used


def event_log(settings: Settings, since: float) -> tuple[int, int]:
    """Return how many events Dagster has written since then, and their bytes; those of assets are in two files."""
    count = size = 0
    for file in (settings.home / "dagster").rglob("*.db"):
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'event_logs'").fetchone():
                asked = "SELECT count(*), coalesce(sum(length(event)), 0) FROM event_logs WHERE timestamp > ?"
                found = connection.execute(asked, (datetime.fromtimestamp(since, UTC).strftime("%F %T"),)).fetchone()
                count, size = count + found[0], size + found[1]
    return count, size


def line(name: str, values: np.ndarray) -> str:
    p50, p99 = np.percentile(values, [50, 99])
    return f"{name}: n={len(values):,} median={p50:.1f} s p99={p99:.1f} s max={values.max():.1f} s"


def watch(settings: Settings, minutes: float, samples_file: Path | None) -> None:
    """Measure freshness and memory for so long, and print them."""
    until = time.time() + minutes * 60  # noqa: TID251
    latencies: list[np.ndarray] = []
    stamps: list[float] = []
    complete_at: dict[tuple[str, str], float] = {}
    memory: dict[str, list[float]] = defaultdict(list)
    in_api: list[float] = []
    threads = [
        threading.Thread(target=watch_trades, args=(settings, until, in_api)),
        threading.Thread(target=watch_silver, args=(settings, until, latencies, stamps)),
        threading.Thread(target=watch_candles, args=(settings, until, complete_at)),
        threading.Thread(target=watch_memory, args=(until, memory)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trades = np.concatenate(latencies)
    print(f"{minutes:g} minutes, {len(trades) / minutes / 60:,.0f} trades/s, {len(stamps)} commits")
    print(f"longest time between two commits: {np.diff(stamps).max():.1f} s (the planned replacement of the drain)")
    print(line("trade → silver", trades))
    print(line("trade → served by the API", np.array(in_api)))
    print(line("minute's end → complete candle served", np.array(list(complete_at.values()))))
    print("memory, MB: part, first quarter's median, last quarter's median, max")
    for name, samples in memory.items():
        quarter = max(len(samples) // 4, 1)
        first, last = statistics.median(samples[:quarter]), statistics.median(samples[-quarter:])
        print(f"  {name:<18} {first:7.0f} {last:7.0f} {max(samples):7.0f}")
    if samples_file:
        with samples_file.open("w") as file:
            csv.writer(file).writerows([[name, *samples] for name, samples in memory.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--csv", type=Path, help="write the memory samples there")
    parser.add_argument("--only-cpu", action="store_true", help="ask nothing; measure CPU and event log alone")
    options = parser.parse_args()
    settings = load_settings()
    began, started, cpu = time.monotonic(), time.time(), cpu_seconds(settings)  # noqa: TID251
    if options.only_cpu:
        time.sleep(options.minutes * 60)
    else:
        watch(settings, options.minutes, options.csv)
    after, seconds = cpu_seconds(settings), time.monotonic() - began  # noqa: TID251
    cores = {name: (after[name] - cpu.get(name, 0.0)) / seconds for name in after}
    print(f"CPU, cores: all {sum(cores.values()):.2f} (dagster-code with all runs, drain and refine among them)")
    for name, each in sorted(cores.items(), key=lambda item: -item[1]):
        print(f"  {name:<18} {each:5.2f}")
    events, size = event_log(settings, started)
    a_day = 86_400 / seconds / 1e6
    print(f"Dagster's event log: {events:,} events, {size / 1e6:.2f} MB, which is {size * a_day:.0f} MB a day")


if __name__ == "__main__":
    main()
