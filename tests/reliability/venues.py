"""The simulated venues, their feed and a lake, each in processes that a test may break; and what came of it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa

from k2_assets.drain.drain_loop import drain
from k2_assets.gold.refresh_rows import GoldRefresh
from k2_assets.lake.lake_resource import Lake
from k2_core.lake import tables
from k2_core.lake.catalog import ensure_tables, open_catalog
from k2_core.settings import Settings, child_environment
from k2_core.venues import VENUES
from tests.loopback import http
from tests.reliability.truth import Outcome, Truth, gaps_of
from tests.reliability.waiting import wait_until

NAMESPACE = "market_data"


@dataclass
class Venues:
    """A market of all venues, fed into a lake.

    Args:
        settings: home, ports, Kafka and registry of the platform.
        rate: trades a second of all venues together.
        variables: more settings of the processes, such as ``K2_FEEDS__SILENCE_S``.
        market_port: where the feed finds the venues, if something stands between; otherwise the simulator itself.
    """

    settings: Settings
    rate: float
    variables: dict[str, str] = field(default_factory=dict)
    market_port: int = 0
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def close(self) -> None:
        """Kill what a test that failed has left running."""
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    @property
    def truth_folder(self) -> Path:
        """Where the simulator writes what the market did."""
        return self.settings.home / "truth"

    @contextmanager
    def market(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run the simulator; its files are complete when the block is over."""
        ports = ("--port", str(self.settings.ports.simulator), "--rate", str(self.rate))
        process = self._start("simulate", *ports, "--truth", str(self.truth_folder), *arguments)
        try:
            wait_until(lambda: self._page(self.settings.ports.simulator, "/status") is not None, self._said)
            yield process
        finally:
            end(process)

    def start_feed(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the feed of all venues, and wait until every one is connected."""
        process = self._start("run", *arguments)
        wait_until(lambda: process.poll() is not None or self.is_connected(), self._said)
        assert process.poll() is None, self._said()
        return process

    def is_connected(self) -> bool:
        """Tell whether the feed says that all venues are connected."""
        return bool(self.health().get("connected"))

    def health(self) -> dict[str, Any]:
        """Return the feed's /health; empty while there is none."""
        return self._page(self.settings.ports.feed_health, "/health") or {}

    def inject(self, fault: str, venue: str, *arguments: str) -> None:
        """Have the simulator inject a fault."""
        command = ("fault", fault, venue, "--port", str(self.settings.ports.simulator), *arguments)
        done = subprocess.run(self._command(*command), env=self._environment(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def drain(self) -> None:
        """Drain everything that Kafka holds."""
        stop, lanes, topics = threading.Event(), {}, len(VENUES) * len(tables.DATA) + 1
        ensure_tables(open_catalog(self.settings), NAMESPACE, tables.all_tables(tuple(VENUES)))
        quiet_since = time.monotonic()  # noqa: TID251
        for lane, committed in drain(Lake(self.settings), VENUES.values(), "the test's", stop):
            lanes[lane.reader.topic.name] = lane
            if committed is not None or any(each.rows or each.committing_s for each in lanes.values()):
                quiet_since = time.monotonic()  # noqa: TID251
            lag = sum(each.reader.lag(each.layers.vector("bronze")) for each in lanes.values())
            if len(lanes) == topics and lag == 0 and time.monotonic() - quiet_since > 1:  # noqa: TID251
                stop.set()

    def refine(self) -> None:
        """Bring gold up to all that silver holds."""
        catalog = open_catalog(self.settings)
        for data in tables.DATA:
            silver = tuple(tables.silver(venue, data).name for venue in VENUES)
            days = {each.date() for name in silver for each in self.rows(name, "timestamp")["timestamp"].to_pylist()}
            for day in sorted(days):
                GoldRefresh(catalog, NAMESPACE, silver, day, data).take_in_news()

    def rows(self, table: str, *columns: str) -> pa.Table:
        """Return columns of a table."""
        return open_catalog(self.settings).load_table((NAMESPACE, table)).scan(selected_fields=columns).to_arrow()

    def events(self) -> list[dict[str, Any]]:
        """Return what the feeds recorded, in order of time."""
        columns = ("at_ns", "venue", "kind", "symbol", "details")
        return sorted(self.rows("bronze_feed_events", *columns).to_pylist(), key=lambda event: event["at_ns"])

    def compare(self) -> Outcome:
        """Hold gold against what the market did."""
        columns = ("exchange", "symbol", "trade_id", "price", "quantity", "side", "timestamp")
        gold = self.rows("gold_crypto_trades", *columns).to_pylist()
        return Truth(self.truth_folder).compare(gold, gaps_of(self.events()))

    def assert_quotes_are_the_truth(self) -> None:
        """Hold gold's quotes against what the market did."""
        columns = ("exchange", "symbol", "source_sequence", "timestamp", "bid_price", "bid_quantity", "ask_price")
        gold = self.rows("gold_crypto_quotes", *columns, "ask_quantity").to_pylist()
        assert Truth(self.truth_folder).assert_quotes(gold)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        log = self.settings.home / "logs" / f"{arguments[0]}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                self._command(*arguments),
                env=self._environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "k2_stack", "feed", *arguments]

    def _environment(self) -> dict[str, str]:
        port = self.market_port or self.settings.ports.simulator
        made = {f"K2_PORTS__{name.upper()}": str(value) for name, value in self.settings.ports}
        for venue in VENUES:
            made[f"K2_FEEDS__{venue.upper()}__URL"] = f"ws://127.0.0.1:{port}"
            made[f"K2_FEEDS__{venue.upper()}__REST_URL"] = f"http://127.0.0.1:{port}"
        return child_environment(
            K2_HOME=str(self.settings.home),
            K2_KAFKA__BOOTSTRAP_SERVERS=self.settings.bootstrap_servers,
            K2_REGISTRY__URL=self.settings.registry_url,
            **made,
            **self.variables,
        )

    def _said(self) -> str:
        folder = self.settings.home / "logs"
        return json.dumps(self.health()) + "".join(log.read_text()[-3000:] for log in folder.glob("*.log"))

    def _page(self, port: int, path: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = http.get(f"http://127.0.0.1:{port}{path}", timeout=5).json()
        except (httpx.HTTPError, ValueError):
            return None
        return found


def end(process: subprocess.Popen[bytes]) -> int:
    """End a process as a user does, and return its exit status."""
    process.terminate()
    try:
        return process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
