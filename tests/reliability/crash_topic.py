"""Topics of the crash suites: frames of several trades among poison and replies; lakes held against what was sent."""

from collections import Counter
from dataclasses import dataclass, field

from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import GOLD_OHLCV_1M, GOLD_TRADES
from k2_core.settings import Drain, Kafka, Registry, Settings
from tests.assets.by_hand import candles_by_hand, contents
from tests.assets.frames import NOON_MS, a_frame
from tests.assets.lakes import Row
from tests.assets.own_topic import BAD, CONTROL, TRADE, Origin, OwnTopic
from tests.reliability.lives import a_venue_of_several

# Frames by the trades that they carry, in order.
KINDS = (TRADE, TRADE, BAD, CONTROL, f"{TRADE}+{TRADE}+{TRADE}", f"{TRADE}+{BAD}+{TRADE}", f"{BAD}+{BAD}")
SYMBOLS = ("BTCUSDT", "ETHUSDT")
_TRADES_A_FRAME = 4
_FIRST_MS, _APART_MS = NOON_MS - 11 * 3_600_000, 50  # ids rise with time, as a venue's do
Key = tuple[str, str]


@dataclass(frozen=True)
class Compared:
    """What a comparison of multisets found."""

    rows: int = 0
    lost: int = 0
    doubled: int = 0

    def __add__(self, other: "Compared") -> "Compared":
        return Compared(self.rows + other.rows, self.lost + other.lost, self.doubled + other.doubled)

    def counts(self) -> dict[str, int]:
        """Return them as the page of reliability wants them."""
        return {"compared": self.rows, "lost": self.lost, "doubled": self.doubled}


def compare(must_stand: Counter[Origin] | Counter[Key], stands: Counter[Origin] | Counter[Key]) -> Compared:
    """Count the rows of a multiset that are missing, and those that are too many."""
    return Compared(stands.total(), (must_stand - stands).total(), (stands - must_stand).total())  # type: ignore[operator]


@dataclass
class CrashTopic(OwnTopic):
    """A topic whose drains commit often, and that knows which trades gold must hold."""

    sent: set[Key] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.venue = a_venue_of_several(self.venue.VENUE)
        self.batches = 0

    def settings_of_drain(self, **other: float) -> Settings:
        often = {
            "commit_interval_s": 0.05,
            "quiet_interval_s": 0.0,
            "commit_rows": 1_000,
        }  # all tables, with every batch
        drain = {**often, "work_minutes": 30, "beat_interval_s": 0.5} | other
        return Settings(
            home=self.home,
            kafka=Kafka(bootstrap_servers=self.broker),
            registry=Registry(url=self.registry_url),
            drain=Drain(**drain),  # type: ignore[arg-type]
        )

    def send(self, count: int = 40) -> None:
        """Send frames of all kinds."""
        self.batches += 1
        self.produce(count, self.batches, KINDS)

    def payload(self, kind: str, number: int) -> bytes:
        if kind == CONTROL:
            return super().payload(kind, number)
        parts = kind.split("+")
        return b"\n".join(self._trade(part, number, index) for index, part in enumerate(parts))

    def _trade(self, kind: str, number: int, index: int) -> bytes:
        """One trade; each fifth frame repeats the trades of the one before it."""
        source = number - (number % 5 == 4)
        trade_id, symbol = source * _TRADES_A_FRAME + index, SYMBOLS[source % 2]
        if kind == TRADE:
            self.sent.add((symbol, str(trade_id)))
        price = f"{61_000 + trade_id % 977}.{trade_id % 100:02}" if kind == TRADE else "-1"
        return a_frame(trade_id, p=price, s=symbol, T=_FIRST_MS + trade_id * _APART_MS)

    def must_stand(self, *kinds: str) -> Counter[Origin]:
        return Counter(
            (*place, index)
            for place, kind in self.produced.items()
            for index, part in enumerate(kind.split("+"))
            if part in kinds
        )

    def must_stand_in_bronze(self) -> Counter[Origin]:
        return Counter((*place, 0) for place in self.produced)

    def compare(self) -> Compared:
        """Hold bronze, rejected and silver against what was produced."""
        return (
            compare(self.must_stand_in_bronze(), self.origins("bronze"))
            + compare(self.must_stand(BAD), self.origins("rejected"))
            + compare(self.must_stand(TRADE), self.origins("silver"))
        )

    def compare_gold(self) -> Compared:
        """Hold gold against the distinct trades that were sent."""
        return compare(Counter(self.sent), self._keys_of_gold())

    def rows(self, spec: TableSpec) -> list[Row]:
        found: list[Row] = self.catalog.load_table((self.namespace, spec.name)).scan().to_arrow().to_pylist()
        return found

    def _keys_of_gold(self) -> Counter[Key]:
        return Counter((row["symbol"], row["trade_id"]) for row in self.rows(GOLD_TRADES))

    def assert_gold_is_what_was_sent(self) -> None:
        """Hold gold against what was sent, and every candle against one made by hand from gold."""
        assert self._keys_of_gold() == Counter(self.sent)
        assert contents(self.rows(GOLD_OHLCV_1M)) == candles_by_hand(self.rows(GOLD_TRADES))

    def assert_everything_stands_once(self) -> None:
        assert self.origins("bronze") == self.must_stand_in_bronze()
        assert self.origins("rejected") == self.must_stand(BAD)
        assert self.origins("silver") == self.must_stand(TRADE)
        bronze, rejected, silver = self.vectors()
        assert bronze == rejected == silver
