"""A lake whose every frame follows from its offset, and what the children of the rebuild's crash suite do to it."""

import itertools
import os
import signal
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from k2_assets.gold.gold_day import GoldDay
from k2_assets.lake.lake_resource import Lake
from k2_assets.silver.rebuild_day import rebuild_day
from k2_assets.topic_tables.frame_tables import Layers
from k2_core.errors import CommitConflict, MalformedFrame
from k2_core.lake.tables import GOLD_OHLCV_1M, GOLD_TABLES, GOLD_TRADES
from k2_core.offsets import Offsets
from k2_core.trades import VenueTrade
from k2_core.venues import binance
from k2_core.venues.venue_protocol import Venue
from tests.assets.drained import SILVER, DrainedLake, KnownSchemas, received
from tests.assets.frames import NOON_MS, TOPIC, a_frame
from tests.assets.lakes import DAY
from tests.venue_builder import a_venue

HOUR_MS: Final = 3_600_000
MIDNIGHT_MS: Final = NOON_MS + 12 * HOUR_MS
NEXT: Final = DAY + timedelta(days=1)
PARTITIONS: Final = (0, 1)
CUT_OFF, CONTROL, BAD = 0, 1, 2
_KINDS: Final = 7
_BATCH: Final = 10
PARSERS: Final = ("plain", "other")
Place = tuple[int, int]


def message(partition: int, offset: int) -> bytes:
    """Return the Kafka value at a place: a trade of this day or the next, poison, or a reply."""
    number = 2 * offset + partition
    moment_ms = MIDNIGHT_MS + (-HOUR_MS if number % 3 else 0) + 500 * number
    kind = offset % _KINDS
    if kind == CUT_OFF:
        return received(b'{"cut off": %d, "T": %d' % (number, moment_ms), MIDNIGHT_MS + 2 * HOUR_MS)
    if kind == CONTROL:
        return received(b'{"result":null,"id":1}', MIDNIGHT_MS + 2 * HOUR_MS)
    frame = a_frame(number, s=symbol_of(number), T=moment_ms, p="-1" if kind == BAD else str(100 + number % 9))
    return received(frame, MIDNIGHT_MS + 2 * HOUR_MS)


def symbol_of(number: int) -> str:
    """One for each day: a venue's ids rise with time, and completeness is proved by that."""
    return "BTCUSDT" if number % 3 else "ETHUSDT"


def parse_otherwise(payload: bytes) -> Any:
    """Another parser: it reads what is cut off, refuses every eleventh trade, and halves the prices of others."""
    if payload.startswith(b'{"cut off"'):
        number, moment_ms = (int(part.rpartition(b":")[2]) for part in payload.split(b","))
        return [VenueTrade(symbol_of(number), str(number), number, "77", "1", moment_ms * 1000, None, "BUY")]
    found = binance.parse(payload)
    if found and isinstance(found[0], VenueTrade):
        if found[0].sequence % 11 == 0:
            raise MalformedFrame("unknown_event", "an eleventh")
        if found[0].sequence % 5 == 0 and found[0].price != "-1":
            fields = {name: getattr(found[0], name) for name in found[0].__struct_fields__}
            return [VenueTrade(**fields | {"price": "50"})]
    return found


def venue_of(parser: str) -> Venue:
    return a_venue(parse=parse_otherwise) if parser == "other" else binance


def is_trade(parser: str, place: Place) -> bool:
    partition, offset = place
    if offset % _KINDS == CUT_OFF:
        return parser == "other"
    eleventh = (2 * offset + partition) % 11 == 0
    return offset % _KINDS > BAD and not (parser == "other" and eleventh)


@dataclass(frozen=True)
class Held:
    """What a comparison found."""

    rows: int
    lost: int
    doubled: int


class RebuiltLake(DrainedLake):
    """A lake that is drained of :func:`message`, place by place."""

    def drain_more(self, count: int) -> None:
        """Drain ``count`` more messages of each partition, as a drain that begins: what a crash left comes first."""
        layers = Layers(self.catalog, self.namespace, binance)
        layers.catch_up(KnownSchemas(), lambda _: None)
        for partition in PARTITIONS:
            first = self.vector().get(TOPIC.topic_id, partition) or 0
            values = [message(partition, first + number) for number in range(count)]
            self.drain(*values, partition=partition)

    def vector(self) -> Offsets:
        return Offsets.from_properties(self.table(SILVER).properties)

    def places(self, *, trades_of: str | None = None) -> Counter[Place]:
        """Return every place below the vector that is no reply; only those that a parser makes a trade of."""
        below = {partition: offset for (_, partition), offset in self.vector().items()}
        every = [(partition, offset) for partition, end in below.items() for offset in range(end)]
        kept = [place for place in every if place[1] % _KINDS != CONTROL]
        return Counter(place for place in kept if trades_of is None or is_trade(trades_of, place))

    def standing(self, spec: Any) -> Counter[Place]:
        return Counter((partition, offset) for _, partition, offset in self.frames(spec).elements())


def drain_on(home: Path) -> None:
    """Drain until SIGTERM."""
    lake, stop = RebuiltLake(home), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.wait(1.0):
        try:
            lake.drain_more(_BATCH)
        except CommitConflict as error:
            print("again:", error, os.getpid(), flush=True)  # noqa: T201


def rebuild(home: Path, day: date, parser: str) -> None:
    lake = RebuiltLake(home)
    rebuild_day(lake.catalog, lake.namespace, venue_of(parser), day, KnownSchemas())


def replace_gold(home: Path, day: date) -> None:
    RebuiltLake(home).trades_refresh(day).replace_day()


def follow_gold(home: Path, day: date) -> None:
    RebuiltLake(home).trades_refresh(day).take_in_news()


def recompute_candles(home: Path, day: date) -> None:
    RebuiltLake(home).candles_refresh(day).replace_day()


def follow_candles(home: Path, day: date) -> None:
    RebuiltLake(home).candles_refresh(day).take_in_news()


def backfill(home: Path, days: Sequence[date]) -> None:
    """Rebuild silver, trades and candles of days as backfills do, with one parser after the other, until killed."""
    lake = RebuiltLake(home)
    GOLD_TABLES[GOLD_TRADES.name] = replace(GOLD_TRADES, made_from=(SILVER.name,))
    for parser in itertools.cycle(PARSERS):
        for day in days:
            rebuild_day(lake.catalog, lake.namespace, venue_of(parser), day, KnownSchemas())
            for table in (GOLD_TRADES.name, GOLD_OHLCV_1M.name):
                GoldDay(Lake(lake.settings), table, day).rebuild()
