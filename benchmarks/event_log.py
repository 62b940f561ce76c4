"""What 10,000 materializations do to Dagster's storage and pages, before and after a purge.

``python benchmarks/event_log.py`` writes runs like those of a drain and of gold into a fresh Dagster home, as a
platform does in about nine hours, then purges it as maintenance does, and asks a real webserver what its pages ask.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import dagster as dg
import httpx
from real_parts import machine

from k2_assets.maintenance.event_log import purge
from k2_core import clock
from k2_core.settings import Dagster, child_environment

DAYS = ("2024-08-07", "2024-08-08", "2024-08-09")
DRAINED = ("bronze_binance_trades", "silver_binance_rejected", "silver_binance_trades")
GOLD = ("gold_crypto_trades", "gold_ohlcv_1m")
REPORTS = 60  # of a drain in its quarter of an hour
GOLD_RUNS = 45  # in the same time
QUESTIONS = {
    "asset graph": """{ assetNodes { assetKey { path } latestMaterializationByPartition(partitions: ["2024-08-09"]) {
        timestamp } partitionStats { numMaterialized numFailed numPartitions } assetMaterializations(limit: 1) {
        runId timestamp } assetChecksOrError { ... on AssetChecks { checks { name executionForLatestMaterialization {
        status } } } } } }""",
    "runs": """{ runsOrError(limit: 25) { ... on Runs { results { runId status tags { key value } } } } }""",
    "days of silver": """{ assetNodeOrError(assetKey: {path: ["silver_binance_trades"]}) { ... on AssetNode {
        assetPartitionStatuses { __typename ... on TimePartitionStatuses { ranges { startKey endKey status } } }
        assetMaterializations(limit: 100) { timestamp } } } }""",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--materializations", type=int, default=10_000)
    parser.add_argument("--asked", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as folder:
        home = Path(folder)
        root = Path(__file__).parents[1]
        (home / "dagster.yaml").write_text((root / "dagster.yaml").read_text())
        with dg.DagsterInstance.from_config(folder) as instance:
            runs, materializations = fill(instance, arguments.materializations)
            print(f"{runs} runs, {materializations} materializations")
            report("before", home, arguments.asked)
            began = time.perf_counter()
            purged = purge(instance, Dagster(), clock.now() + timedelta(hours=3))
            print(f"purged in {time.perf_counter() - began:.1f} s: {purged}")
            report("after", home, arguments.asked)
    print(machine())


def fill(instance: dg.DagsterInstance, wanted: int) -> tuple[int, int]:
    """Write runs until there are as many materializations; return how many runs and materializations there are."""
    runs = written = 0
    drain, gold = a_job("main_drain", DRAINED, REPORTS), a_job("gold", GOLD, 1)
    while written < wanted:
        day = DAYS[min(len(DAYS) - 1, written * len(DAYS) // wanted)]
        tags = {"dagster/sensor_name": "main_feed_sensor", "day": day}
        written += REPORTS * len(DRAINED) + GOLD_RUNS * len(GOLD)
        for job in (drain, *[gold] * GOLD_RUNS):
            job.execute_in_process(instance=instance, tags=tags)
            runs += 1
    return runs, written


def a_job(name: str, assets: tuple[str, ...], reports: int) -> dg.JobDefinition:
    """Make a job that reports materializations with metadata as large as a drain's."""

    @dg.op
    def work(context: dg.OpExecutionContext) -> None:
        for number in range(reports):
            context.log.info("%d frames in %.2f s", number, 0.1)
            for asset in assets:
                metadata = {
                    "rows": number,
                    "offsets": {f"market.crypto.trades.binance.raw-{i}": number for i in range(4)},
                    "lag (messages)": 0,
                    "slowest commit (s)": 0.1,
                }
                day = context.run.tags["day"]
                context.log_event(dg.AssetMaterialization(asset, partition=day, metadata=metadata))
            if len(assets) == len(DRAINED):
                check = dg.AssetCheckEvaluation(
                    asset_key=dg.AssetKey(assets[-1]), check_name="schema_and_ranges", passed=True
                )
                context.log_event(check)  # type: ignore[arg-type]  # it takes evaluations of checks too

    @dg.job(name=name, executor_def=dg.in_process_executor)
    def job() -> None:
        work()

    return job


def report(when: str, home: Path, asked: int) -> None:
    files = [path for path in home.rglob("*") if path.is_file()]
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    index_mb = (home / "history" / "runs" / "index.db").stat().st_size / 1e6
    print(f"{when}: {size_mb:,.1f} MB in {len(files):,} files, of which the index {index_mb:.1f} MB")
    with a_webserver(home) as url:
        for name, query in QUESTIONS.items():
            took = [ask(url, query) for _ in range(asked)]
            print(f"{when}: {name}: n = {asked}, median {statistics.median(took):.0f} ms, slowest {max(took):.0f} ms")


def ask(url: str, query: str) -> float:
    began = time.perf_counter()
    answer = httpx.post(url, json={"query": query}, timeout=120, trust_env=False).json()
    assert "errors" not in answer, answer
    return (time.perf_counter() - began) * 1000


@contextmanager
def a_webserver(home: Path) -> Iterator[str]:
    port = "38123"
    command = [str(Path(sys.executable).with_name("dagster-webserver")), "-h", "127.0.0.1", "-p", port]
    environment = child_environment(DAGSTER_HOME=str(home), K2_HOME=str(home / "k2"), DAGSTER_DISABLE_TELEMETRY="1")
    process = subprocess.Popen(
        [*command, "-m", "k2_assets.definitions"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}/graphql"
    try:
        while not _answers(url):
            assert process.poll() is None
            time.sleep(0.5)
        yield url
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def _answers(url: str) -> bool:
    try:
        found = httpx.post(url, json={"query": "{ assetNodes { id } }"}, timeout=60, trust_env=False).json()
    except httpx.TransportError:
        return False
    return bool(found.get("data", {}).get("assetNodes"))


if __name__ == "__main__":
    main()
