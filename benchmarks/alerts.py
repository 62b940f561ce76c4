"""What a look of the alerts costs when there is nothing to send.

``python benchmarks/alerts.py`` fills a Dagster home with as many evaluations and ticks as a platform leaves in a day or
more, serves a feed's health, and looks as the sensor does: every third time at freshness and sensors too.
"""

import argparse
import json
import sqlite3
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import dagster as dg
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, InstigatorType, TickData, TickStatus
from pydantic import SecretStr
from real_parts import machine

from k2_assets.alerts.watcher import Watcher
from k2_assets.build_definitions import build_definitions
from k2_assets.kept_runs.heartbeat import WAITING, Heart
from k2_assets.kept_runs.kept_run import kept_runs
from k2_core import clock
from k2_core.settings import Alerts, Settings

SELDOM = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluations", type=int, default=20_000)
    parser.add_argument("--ticks", type=int, default=100_000)
    parser.add_argument("--looks", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as folder, ExitStack() as stack:
        home, dagster_home = Path(folder) / "k2", Path(folder) / "dagster"
        dagster_home.mkdir()
        instance = stack.enter_context(dg.DagsterInstance.local_temp(str(dagster_home)))
        url = stack.enter_context(a_feed())
        alerts = Alerts(urls=(SecretStr("json://127.0.0.1:9/nobody"),), feed_url=url)
        settings = Settings(home=home, alerts=alerts)
        for kept in kept_runs(settings):
            stack.enter_context(Heart(kept, "a-run")).progress(WAITING)
        repository = build_definitions(settings, date(2024, 8, 9)).get_repository_def()
        fill(instance, repository, dagster_home, arguments.evaluations, arguments.ticks)
        watcher = Watcher(settings)
        began, said = time.thread_time(), watcher.look(instance, repository)
        print(
            f"the first look, which reads {arguments.evaluations:,} evaluations: {time.thread_time() - began:.2f} s CPU"
        )
        print(f"it says: {said}")
        often, seldom = list[float](), list[float]()
        for number in range(arguments.looks):
            is_seldom = number % SELDOM == 0
            watcher._seldom_at = 0.0 if is_seldom else clock.monotonic() + 60  # noqa: SLF001  # instead of 30 s of waiting
            began = time.thread_time()
            watcher.look(instance, repository)
            (seldom if is_seldom else often).append((time.thread_time() - began) * 1000)
        for name, took in (("all looks", often + seldom), ("without sensors", often), ("with sensors", seldom)):
            median, mean = statistics.median(took), statistics.mean(took)
            p99 = sorted(took)[int(len(took) * 0.99)]
            print(f"{name}: n = {len(took)}, CPU of the thread: median {median:.1f} ms, mean {mean:.1f}, p99 {p99:.1f}")
    print(machine())


def fill(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, home: Path, evaluations: int, ticks: int
) -> None:
    """Write one event and one tick of each kind, and then copies of their rows."""
    for key in repository.asset_graph.asset_check_keys:
        evaluation = dg.AssetCheckEvaluation(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=True,
            partition="2024-08-09",
            description="All is well.",
        )
        kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION.value
        event = dg.DagsterEvent(kind, "gold_refine", event_specific_data=evaluation)
        instance.report_dagster_event(event, str(uuid.uuid4()))
    repository_origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("k2"), "__repository__")
    for sensor in repository.sensor_defs:
        origin = RemoteInstigatorOrigin(repository_origin, sensor.name)
        state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING)
        instance.add_instigator_state(state)
        tick = TickData(
            instigator_origin_id=state.instigator_origin_id,
            instigator_name=sensor.name,
            instigator_type=InstigatorType.SENSOR,
            status=TickStatus.SKIPPED,
            timestamp=clock.now_s(),
            selector_id=state.selector_id,
        )
        instance.create_tick(tick)
    multiply(home / "history" / "runs" / "index.db", "event_logs", evaluations)
    multiply(home / "schedules" / "schedules.db", "job_ticks", ticks)


def multiply(file: Path, table: str, rows: int) -> None:
    """Copy the rows of a table until there are so many, each a second older than the one before."""
    with closing(sqlite3.connect(file)) as connection, connection:
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "id"]
        columns = ", ".join(names)
        older = columns.replace("timestamp", "datetime(timestamp, '-' || n || ' seconds')", 1)
        (have,) = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()  # noqa: S608  # names of tables
        connection.execute(
            f"INSERT INTO {table} ({columns}) WITH RECURSIVE number (n) AS"  # noqa: S608  # names of tables
            f" (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {rows // have})"
            f" SELECT {older} FROM number, {table}"
        )


@contextmanager
def a_feed() -> Iterator[str]:
    """Serve the health of three venues with twelve symbols each."""
    symbols = [f"SYM{number}USDT" for number in range(12)]
    connection = {"symbols": symbols, "acknowledged": True, "silent": {}, "message": "connected"}
    venue = {"connected": True, "message": "connected", "symbols": symbols, "states": {}, "connections": [connection]}
    health = json.dumps({"venues": dict.fromkeys(("binance", "kraken", "coinbase"), venue)}).encode()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(health)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/health"
        finally:
            server.shutdown()


if __name__ == "__main__":
    main()
