"""The demo: the platform over a simulated market, and a tour that breaks things and says what happens."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any, Final

import click
import httpx
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from k2_core import clock
from k2_core.errors import PartError
from k2_core.settings import Catalog, Settings
from k2_feeds.handover import request_handover
from k2_feeds.simulator.control import ask
from k2_stack import ports, run, stack_state
from k2_stack.iceberg_metadata import read_tables
from k2_stack.trade_sources import Source

_LOOK_S: Final = 0.5
_PATIENCE_S: Final = 300.0
_DROPPED: Final = 20
_PIPE_WIDTH: Final = 200
_INDENT: Final = 8
SHARED: Final = (
    *("K2_KAFKA", "K2_KAFKA__BOOTSTRAP_SERVERS", "K2_REGISTRY", "K2_REGISTRY__URL"),
    *("K2_CATALOG", "K2_CATALOG__URI", "K2_CATALOG__WAREHOUSE", "K2_CATALOG__NAMESPACE", "K2_CATALOG__PROPERTIES"),
)
"""What may name a broker, a registry or a lake of the user's own; an empty variable counts as unset."""


def demo(own: Settings, rate: float, *, keep: bool) -> None:
    """Start the demo's platform beside the one of ``own``, take the tour, and end it unless it is to be kept."""
    settings = beside(own)
    run.detached(settings, Source("simulator", rate=rate), **dict.fromkeys(SHARED, ""))
    try:
        Tour(settings).take()
    finally:
        if not keep:
            click.echo(run.end(settings))


def beside(own: Settings) -> Settings:
    """Return the settings of the demo's platform: nothing of it is shared with the platform of ``own``.

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


class Tour:
    """The stations of the tour, in their order.

    Args:
        settings: of a platform that runs.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = _PIPE_WIDTH
        self._client = httpx.Client(timeout=10, trust_env=False)
        self._began = clock.monotonic()

    def take(self) -> None:
        """Take it from the first frame to the last count.

        Raises:
            PartError: something that was to happen did not, within five minutes.
        """
        for station in (self._frames, self._candle, self._drop, self._disconnect, self._malformed):
            station()
        for station in (self._handover, self._kill, self._incomplete, self._count):
            station()

    def _frames(self) -> None:
        self._say(
            "Three venues send trades and quotes. The feed stamps every frame and hands it to Kafka, byte for byte."
        )
        found = self._await("the first frames", lambda: self._venues(lambda venue: venue["messages"] > 0))
        self._tell(", ".join(f"{name} {venue['messages']:,} frames" for name, venue in found.items()))

    def _candle(self) -> None:
        self._say("The drain moves Kafka into bronze and silver every 10 s; gold and candles follow by themselves.")
        candle = self._await("the first candle", lambda: next(iter(self._candles()), None))
        self._tell(_spelled(candle))

    def _drop(self) -> None:
        self._say(f"Now Binance loses {_DROPPED} trades of BTCUSDT on their way to us.")
        before = self._of("binance", "gaps")
        self._inject("drop", "binance", symbol="BTCUSDT", channel="trades", count=_DROPPED)
        self._await("the feed to notice", lambda: self._of("binance", "gaps") > before)
        self._tell("Ids of trades rise by one: the feed has noticed the hole, counted it and recorded it as a gap.")

    def _disconnect(self) -> None:
        self._say("Kraken's connection breaks in the middle of a frame.")
        before = self._of("kraken", "reconnects")
        self._inject("disconnect", "kraken")
        self._await("a new connection", lambda: self._reconnected("kraken", before))
        self._tell("Connected again. The venue repeats its last trades on subscribing; gold keeps each once.")

    def _malformed(self) -> None:
        self._say("Coinbase sends a frame that is no JSON, between good ones.")
        self._inject("malformed", "coinbase")
        self._await("the drain to judge it", lambda: self._rows().get("silver_coinbase_rejected", 0) > 0)
        self._tell("It stands in silver_coinbase_rejected with its reason and its bytes: k2-query rejected shows it.")

    def _handover(self) -> None:
        self._say("A new version of the feed is deployed: a successor subscribes first, then the old process ends.")
        before = self._pid("feed")
        request_handover(self._settings, "binance")
        self._await("the successor", lambda: self._pid("feed") not in {None, before} and self._connected())
        self._tell(
            f"pid {before} has handed over to pid {self._pid('feed')}; both fed for a moment, none missed a trade."
        )

    def _kill(self) -> None:
        self._say("kill -9 of the feed.")
        before = self._pid("feed")
        assert before  # noqa: S101  # the handover has just waited for it
        os.kill(before, signal.SIGKILL)
        self._await(
            "the supervisor to start it again", lambda: self._pid("feed") not in {None, before} and self._connected()
        )
        gaps = self._await("the gap to be known", self._gaps)
        self._tell(f"It knows from Kafka where it stood: {gaps} gaps are recorded for what was sent meanwhile.")

    def _incomplete(self) -> None:
        self._say(
            "A candle is complete when ids prove it. Those of the minutes with lost trades say that they are not."
        )
        candle = self._await(
            "such a candle", lambda: next((c for c in self._candles() if c["missing_trades"] > 0), None)
        )
        self._tell(_spelled(candle))

    def _count(self) -> None:
        rows = self._rows()
        self._say("What the lake holds now:")
        for name, count in rows.items():
            if count:
                self._tell(f"{name:28}{count:>9,}")

    def _say(self, text: str) -> None:
        self._console.print(f"\n{clock.monotonic() - self._began:4.0f} s  {text}", style="bold", markup=False)

    def _tell(self, text: str) -> None:
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

    def _inject(self, fault: str, venue: str, **details: object) -> None:
        ask(self._settings.ports.simulator, {"fault": fault, "venue": venue, **details})

    def _feed(self) -> dict[str, dict[str, Any]]:
        """Return what the feed says of each venue; nothing while it does not answer."""
        found: dict[str, dict[str, Any]] = self._get(f"http://127.0.0.1:{self._settings.ports.feed_health}/health")[
            "venues"
        ]
        return found

    def _venues(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, dict[str, Any]] | None:
        found = self._feed()
        return found if found and all(map(holds, found.values())) else None

    def _of(self, venue: str, count: str) -> int:
        return int(self._feed().get(venue, {}).get(count, 0))

    def _connected(self) -> bool:
        return self._venues(lambda venue: venue["connected"]) is not None

    def _reconnected(self, venue: str, before: int) -> bool:
        found = self._feed().get(venue)
        return bool(found and found["reconnects"] > before and found["connected"])

    def _gaps(self) -> int:
        return sum(venue["gaps"] for venue in self._feed().values())

    def _candles(self) -> list[dict[str, Any]]:
        path = "/v1/ohlcv/1m?symbol=BTCUSDT&exchange=binance&limit=20"
        key = self._settings.api.key.get_secret_value()
        found: list[dict[str, Any]] = self._get(f"http://127.0.0.1:{self._settings.ports.api}{path}", key)["data"]
        return found

    def _get(self, url: str, key: str = "") -> dict[str, Any]:
        try:
            answer = self._client.get(url, headers={"X-API-Key": key})
            found: dict[str, Any] = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return {"venues": {}, "data": []}
        return found

    def _rows(self) -> dict[str, int]:
        return {name: table.rows for name, table in read_tables(self._settings).items()}

    def _pid(self, part: str) -> int | None:
        now = stack_state.read(self._settings)
        found = now.part(part) if now else None
        return found.pid if found else None


def _spelled(candle: dict[str, Any]) -> str:
    missing = f"not complete: {candle['missing_trades']} trades are missing"
    open_still = missing if candle["missing_trades"] else "not proved yet: the trade that closes it has not been seen"
    proved = "complete" if candle["is_complete"] else open_still
    prices = " ".join(f"{name} {candle[f'{name}_price']}" for name in ("open", "high", "low", "close"))
    return f"{candle['symbol']} {candle['window_start'][:16]}: {prices} volume {candle['volume']} ({proved})"
