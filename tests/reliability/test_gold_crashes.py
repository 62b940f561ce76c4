"""Gold's appends and the replacement of candles, killed at every point while a second refine races them."""

import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest

from k2_assets.orchestration.asset_metadata import ROW_COUNT
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import GOLD_OHLCV_1M, GOLD_TRADES
from tests.assets.by_hand import candles_by_hand, contents
from tests.assets.lakes import NOON, SILVER, Row, SmallLake, a_trade
from tests.reliability.crash_topic import SYMBOLS, Key, compare
from tests.reliability.crashes import PATIENCE_S, Child, Crashes, Kills
from tests.reliability.drains import AS_USUAL
from tests.reliability.lives import Conditions, LostAnswers, refine_and_report, refine_gold
from tests.reliability.measured import Faults
from tests.reliability.waiting import wait_until

pytestmark = pytest.mark.reliability("gold")

WHERE = {GOLD_TRADES.name: "an append to gold", GOLD_OHLCV_1M.name: "a replacement of candles"}
MOMENTS = {"commit": "refine killed before {}", "committed": "refine killed after {}, before it knows"}


@dataclass
class Refreshes:
    """A lake whose silver grows, and the processes that refine its gold."""

    lake: SmallLake
    crashes: Crashes
    reliability: Faults
    sent: set[Key] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._rng = random.Random(5)
        self._sent_rows: list[Row] = []
        self._ids = 24
        self._coming = [self._trade(number) for number in range(1, 25)]
        self.append()

    def feed(self) -> None:
        """Append a silver file when gold has taken in all others, however busy the machine is."""
        snapshot = self.lake.table(GOLD_TRADES).current_snapshot()
        if snapshot and snapshot.summary and int(snapshot.summary["total-records"] or 0) == len(self.sent):
            self.append()

    def append(self) -> None:
        """Append a silver file: new trades out of order, so that holes open and close, and other copies of old ones."""
        self._coming += [self._trade(self._ids + number) for number in range(1, 13)]
        self._ids += 12
        self._rng.shuffle(self._coming)
        new, self._coming = self._coming[:12], self._coming[12:]
        repeats = self._rng.sample(self._sent_rows, min(4, len(self._sent_rows)))
        first = len(self._sent_rows) * 2
        copies = [row | {"kafka_offset": first + n, "received_ns": first + n} for n, row in enumerate(repeats)]
        self._sent_rows += new
        self.sent |= {(row["symbol"], row["trade_id"]) for row in new}
        self.lake.append(SILVER, new + copies)

    def append_old(self, number: int) -> None:
        """Append trades of three days, older ones with every number, of an instrument of their own."""
        first = NOON - timedelta(days=3 * number)
        rows = [
            a_trade(10_000 - 3 * number + step, first + timedelta(days=step), symbol="OLDUSDT") for step in range(3)
        ]
        self.lake.append(SILVER, rows)
        self.sent |= {(row["symbol"], row["trade_id"]) for row in rows}

    def all_is_reported(self, instance: dg.DagsterInstance) -> bool:
        """Tell whether gold is complete, and the last report of each of its days tells its rows."""
        gold, candles = self.lake.rows(GOLD_TRADES), self.lake.rows(GOLD_OHLCV_1M)
        trades_of = Counter(row["timestamp"].date() for row in gold)
        candles_of = Counter(row["window_start"].date() for row in candles)
        return (
            len(gold) == len(self.sent)
            and trades_of.keys() == candles_of.keys()
            and all(_reported_rows(instance, GOLD_TRADES, day) == count for day, count in trades_of.items())
            and all(_reported_rows(instance, GOLD_OHLCV_1M, day) == count for day, count in candles_of.items())
        )

    def _trade(self, number: int) -> Row:
        price, quantity = f"{self._rng.randint(1, 10**9)}e-4", f"{self._rng.randint(1, 10**7)}e-5"
        return a_trade(number // 2, number * 1.3, symbol=SYMBOLS[number % 2], price=price, quantity=quantity)

    def start(self, conditions: Conditions = AS_USUAL, *, at: str = "", nth: int = 1) -> Child:
        """Start a process that refines."""
        return self.crashes.start(refine_gold, self.lake.settings, SILVER.name, conditions, at=at, nth=nth)

    def judge(self, injected: Mapping[str, int]) -> None:
        """Let a last refine end, then hold gold against what was sent, and candles against those made by hand.

        Args:
            injected: how often each fault was before.
        """
        arguments = (self.lake.settings, SILVER.name, AS_USUAL, True)
        recovered_s = self.crashes.start(refine_gold, *arguments).await_end()
        gold, sent = self.lake.rows(GOLD_TRADES), Counter(self.sent)
        standing = Counter((row["symbol"], row["trade_id"]) for row in gold)
        counts = compare(sent, standing).counts()
        for fault, often in injected.items():
            self.reliability.record(fault, injected=often, recovered_s=recovered_s, **counts)
        assert standing == sent
        assert contents(self.lake.rows(GOLD_OHLCV_1M)) == candles_by_hand(gold)
        assert self.lake.candles_refresh().replace_day().windows_changed == 0


def _reported_rows(instance: dg.DagsterInstance, spec: TableSpec, day: date) -> object:
    of_day = dg.AssetRecordsFilter(dg.AssetKey(spec.name), asset_partitions=[day.isoformat()])
    found = instance.fetch_materializations(of_day, limit=1).records
    reported = found[0].asset_materialization if found else None
    return reported.metadata[ROW_COUNT].value if reported else None


@pytest.fixture
def refreshes(tmp_path: Path, reliability: Faults) -> Iterator[Refreshes]:
    made = Refreshes(SmallLake(tmp_path / "home"), Crashes(tmp_path), reliability)
    yield made
    made.crashes.end()
    made.lake.catalog.close()


@pytest.mark.parametrize("table", WHERE)
def test_every_trade_and_candle_stands_once_after_kills_beside_another_refresh(
    refreshes: Refreshes, kills: Kills, table: str
) -> None:
    said = {f"{table}.{moment}": text.format(WHERE[table]) for moment, text in MOMENTS.items()}
    rival = refreshes.start()
    planned = kills(list(said))
    for point, nth in planned:
        refreshes.start(at=point, nth=nth).await_crash(meanwhile=refreshes.feed)
    rival.end()

    hits = refreshes.crashes.hits()
    assert hits == Counter(point for point, _ in planned)
    refreshes.judge({said[point]: often for point, often in hits.items()})


@pytest.mark.parametrize("table", WHERE)
def test_a_day_that_was_not_reported_before_a_kill_is_reported_after_it(
    refreshes: Refreshes, tmp_path: Path, soak: bool, table: str
) -> None:
    """Days that are long gone as well: nothing comes to them any more."""
    times, folder = 10 if soak else 1, str(tmp_path / "dagster")
    Path(folder).mkdir()
    arguments = refreshes.lake.settings, SILVER.name, folder
    for number in range(1, times + 1):
        refreshes.append_old(number)
        refreshes.crashes.start(refine_and_report, *arguments, at=f"{table}.report", nth=number % 2 + 1).await_crash()
        child = refreshes.crashes.start(refine_and_report, *arguments)
        with dg.DagsterInstance.local_temp(folder) as instance:
            wait_until(lambda: refreshes.all_is_reported(instance), child.printed, every_s=0.2)
        child.end()

    fault = f"refine killed before a report of {'trades' if table == GOLD_TRADES.name else 'candles'}"
    refreshes.judge({fault: times})


@pytest.mark.drawn("lost answers")
@pytest.mark.parametrize("table", WHERE)
def test_every_trade_and_candle_stands_once_though_answers_are_lost(
    refreshes: Refreshes, tmp_path: Path, soak: bool, table: str
) -> None:
    times = 40 if soak else 4
    lost = LostAnswers(table, times, tmp_path / "lost")
    rival, unlucky = refreshes.start(), refreshes.start(Conditions(lost_answers=lost))
    deadline = time.monotonic() + PATIENCE_S * (5 if soak else 1)  # noqa: TID251
    while lost.injected() < times:
        refreshes.feed()
        time.sleep(0.05)
        assert unlucky.lives, unlucky.printed()
        assert time.monotonic() < deadline, unlucky.printed()  # noqa: TID251
    for child in (rival, unlucky):
        child.end()

    refreshes.judge({f"commit of {WHERE[table]} succeeds, its answer lost": times})
