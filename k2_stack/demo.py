"""The demo: the platform over a simulated market, and a tour that breaks things and reports what happens."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any, Final

import click
import httpx
from rich.padding import Padding
from rich.text import Text

from k2_core import clock
from k2_core.errors import PartError
from k2_core.settings import Catalog, Settings
from k2_feeds.handover import request_handover
from k2_feeds.simulator.control import ask
from k2_stack import ports, run, stack_state
from k2_stack.iceberg_metadata import read_tables
from k2_stack.terminal import open_console
from k2_stack.trade_sources import Source

_LOOK_S: Final = 0.5
_PATIENCE_S: Final = 300.0
_DROPPED: Final = 20
_INDENT: Final = 8
SHARED: Final = (
    *("K2_KAFKA", "K2_KAFKA__BOOTSTRAP_SERVERS", "K2_REGISTRY", "K2_REGISTRY__URL"),
    *("K2_CATALOG", "K2_CATALOG__URI", "K2_CATALOG__WAREHOUSE", "K2_CATALOG__NAMESPACE", "K2_CATALOG__PROPERTIES"),
)
"""What may name a broker, a registry or a lake of the user's own; an empty variable counts as unset."""


def demo(own: Settings, rate: float, *, keep: bool) -> None:
    """Start the demo's platform beside the one of ``own``, take the tour, and end the platform unless ``keep``."""
    settings = beside(own)
    run.detached(settings, Source("simulator", rate=rate), **dict.fromkeys(SHARED, ""))
    try:
        Tour(settings).take()
    finally:
        if not keep:
            click.echo(run.end(settings))


def beside(own: Settings) -> Settings:
    """Return the settings of the demo's platform, which shares nothing with the platform of ``own``.

    It has a home of its own, its own broker, registry, catalog and warehouse, and free ports where others are taken.
    """
    home = own.home.with_name(f"{own.home.name}-demo")
    return own.model_copy(
        update={
            "home": home,
            "ports": ports.free_beside(own.ports),
            "kafka": own.kafka.model_copy(update={"bootstrap_servers": None}),
            "registry": own.registry.model_copy(update={"url": None}),
            "catalog": Catalog(),
        }
    )


class RunningPlatform:
    """A platform to watch and to break. A part that does not answer has no venues, and no candles."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = httpx.Client(timeout=10, trust_env=False)

    def venues(self) -> dict[str, dict[str, Any]]:
        """Return what the feed reports of each venue."""
        found: dict[str, dict[str, Any]] = self._get(f"http://127.0.0.1:{self._settings.ports.feed_health}/health")
        return found.get("venues", {})

    def count_of(self, venue: str, what: str) -> int:
        return int(self.venues().get(venue, {}).get(what, 0))

    def candles(self) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{self._settings.ports.api}/v1/ohlcv/1m?symbol=BTCUSDT&exchange=binance&limit=20"
        found: list[dict[str, Any]] = self._get(url, self._settings.api.key.get_secret_value()).get("data", [])
        return found

    def rows(self) -> dict[str, int]:
        return {name: table.rows for name, table in read_tables(self._settings).items()}

    def pid_of(self, part: str) -> int | None:
        now = stack_state.read(self._settings)
        found = now.part(part) if now else None
        return found.pid if found else None

    def connected_successor_of(self, before: int | None) -> int | None:
        """Return the pid of the feed once it is another process than ``before`` and all its venues are connected."""
        pid = self.pid_of("feed")
        if pid == before:
            return None
        venues = self.venues()
        return pid if venues and all(venue["connected"] for venue in venues.values()) else None

    def inject(self, fault: str, venue: str, **details: object) -> None:
        """Have the simulator do something wrong."""
        ask(self._settings.ports.simulator, {"fault": fault, "venue": venue, **details})

    def _get(self, url: str, key: str = "") -> dict[str, Any]:
        try:
            answer = self._client.get(url, headers={"X-API-Key": key})
            found: dict[str, Any] = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return {}
        return found


class Tour:
    """The stations of the tour. Each prints what happens now, waits until it has happened, and prints what came of it.

    Args:
        settings: of a platform that runs.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._platform = RunningPlatform(settings)
        self._console = open_console()
        self._began = clock.monotonic()

    def take(self) -> None:
        """Take the tour from the first frame to the last count.

        Raises:
            PartError: something that was to happen did not, within five minutes.
        """
        platform = self._platform
        self._title(
            "Three venues send trades and quotes. The feed stamps every frame and hands it to Kafka, byte for byte."
        )
        venues = self._await(
            "the first frames",
            lambda: (found := platform.venues()) and all(venue["messages"] > 0 for venue in found.values()) and found,
        )
        self._line(", ".join(f"{name} {venue['messages']:,} frames" for name, venue in venues.items()))

        self._title("The drain moves Kafka into bronze and silver every 10 s; gold and candles follow by themselves.")
        self._line(_spelled(self._await("the first candle", lambda: next(iter(platform.candles()), None))))

        self.break_connections()
        self.replace_and_kill_feed()
        rows = platform.rows()
        self._title("What the lake holds now:")
        for name, count in rows.items():
            if count:
                self._line(f"{name:28}{count:>9,}")

    def break_connections(self) -> None:
        platform = self._platform
        self._title(f"Now Binance loses {_DROPPED} trades of BTCUSDT on their way to us.")
        gaps = platform.count_of("binance", "gaps")
        # Nothing breaks but the numbering: only ids can prove that these trades are missing.
        platform.inject("drop", "binance", symbol="BTCUSDT", channel="trades", count=_DROPPED)
        self._await("the feed to notice", lambda: platform.count_of("binance", "gaps") > gaps)
        self._line("Ids of trades rise by one: the feed has noticed the hole, counted it and recorded it as a gap.")

        self._title("Kraken's connection breaks in the middle of a frame.")
        reconnects = platform.count_of("kraken", "reconnects")
        platform.inject("disconnect", "kraken")
        self._await(
            "a new connection",
            lambda: platform.count_of("kraken", "reconnects") > reconnects and platform.count_of("kraken", "connected"),
        )
        self._line("Connected again. The venue repeats its last trades on subscribing; gold keeps each once.")

        self._title("Coinbase sends a frame that is not JSON, between good ones.")
        platform.inject("malformed", "coinbase")
        self._await("the drain to judge it", lambda: platform.rows().get("silver_coinbase_rejected", 0) > 0)
        self._line("silver_coinbase_rejected holds it with its reason and its bytes: k2-query rejected shows it.")

    def replace_and_kill_feed(self) -> None:
        self._title("A new version of the feed is deployed: a successor subscribes first, then the old process ends.")
        before = self._platform.pid_of("feed")
        request_handover(self._settings, "binance")
        # `k2 feed handover` does the same.
        after = self._await("the successor", lambda: self._platform.connected_successor_of(before))
        self._line(f"pid {before} has handed over to pid {after}; both fed for a moment, none missed a trade.")

        self._title("kill -9 of the feed.")
        before = self._platform.pid_of("feed")
        assert before  # noqa: S101  # the hand-over has just waited for it
        os.kill(before, signal.SIGKILL)
        self._await("the supervisor to start it again", lambda: self._platform.connected_successor_of(before))
        gaps = self._await(
            "the gap to be known", lambda: sum(venue["gaps"] for venue in self._platform.venues().values())
        )
        self._line(f"It reads in Kafka where it had stopped: {gaps} gaps are recorded for what was sent meanwhile.")

        self._title("A candle is complete when ids prove it. Those of the minutes with lost trades are marked as not.")
        candle = self._await(
            "such a candle",
            lambda: next((each for each in self._platform.candles() if each["missing_trades"] > 0), None),
        )
        self._line(_spelled(candle))

    def _title(self, text: str) -> None:
        self._console.print(f"\n{clock.monotonic() - self._began:4.0f} s  {text}", style="bold")

    def _line(self, text: str) -> None:
        self._console.print(Padding(Text(text), (0, 0, 0, _INDENT)))

    def _await(self, what: str, found: Callable[[], Any]) -> Any:
        """Ask until there is an answer, and return it."""
        deadline = clock.monotonic() + _PATIENCE_S
        with self._console.status(f"waiting for {what}"):
            while clock.monotonic() < deadline:
                if answer := found():
                    return answer
                time.sleep(_LOOK_S)
        msg = f"the demo waited {_PATIENCE_S:.0f} s for {what}: see `k2 status` and {self._settings.home / 'logs'}."
        raise PartError(msg)


def _spelled(candle: dict[str, Any]) -> str:
    missing = f"not complete: {candle['missing_trades']} trades are missing"
    open_still = missing if candle["missing_trades"] else "not proved yet: the trade that closes it has not been seen"
    proved = "complete" if candle["is_complete"] else open_still
    prices = " ".join(f"{name} {candle[f'{name}_price']}" for name in ("open", "high", "low", "close"))
    return f"{candle['symbol']} {candle['window_start'][:16]}: {prices} volume {candle['volume']} ({proved})"
