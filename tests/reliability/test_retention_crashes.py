"""Retention that kills itself around its commit, beside a writer and gold: every row is where it belongs, once."""

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from k2_assets.lake.commits import commit_drained
from k2_assets.maintenance.retention import TableRetention
from k2_core import clock
from k2_core.lake.removed_days import RemovedDays
from k2_core.lake.retention_policy import TablePolicy
from k2_core.lake.tables import GOLD_TRADES
from k2_core.offsets import Offsets
from k2_core.settings import LegalHold
from tests.assets.lakes import DAY, NOON, SILVER, Row, SmallLake, a_trade, ids_of, to_arrow
from tests.reliability.crashes import Crashes, Kills
from tests.reliability.measured import Faults

pytestmark = pytest.mark.reliability("history")

PLACE = ("topic", 0)
DAYS = 5
A_DAY = 10  # trades
POINTS = {
    "replace": "retention killed before the commit that removes files",
    "replaced": "retention killed after the commit that removes files",
}


def retain(home: Path) -> None:
    """Remove the old days one after another, as in so many nights."""
    lake = SmallLake(home)
    for number in range(1, DAYS + 1):
        held = LegalHold.model_validate({"from": DAY + timedelta(days=number), "to": "2024-12-31", "reason": "later"})
        TableRetention(lake.catalog, lake.namespace, TablePolicy(SILVER, 30, (held,))).run()


class Beside:
    """A lake of five old days, which a writer and gold go on with."""

    def __init__(self, home: Path) -> None:
        self.lake = SmallLake(home)
        self.written = 0
        for number in range(DAYS):
            start = NOON + timedelta(days=number)
            self.append([a_trade(self.written + each, start + timedelta(minutes=each)) for each in range(A_DAY)])

    def append(self, rows: list[Row]) -> None:
        """Commit rows as a drain does, and have gold take them in."""
        lake, first = self.lake, self.written
        start = Offsets({PLACE: first}) if first else Offsets({})
        self.written += len(rows)
        commit_drained(lake.table(SILVER), to_arrow(SILVER, rows), start, Offsets({PLACE: self.written}))
        for day in lake.days_behind(GOLD_TRADES.name, SILVER.name):
            lake.trades_refresh(day).take_in_news()

    def go_on(self) -> None:
        """A trade of now."""
        at = NOON + timedelta(days=40, seconds=self.written)
        self.append([a_trade(self.written, at, ingestion_timestamp=clock.now())])


def test_no_row_is_lost_or_doubled_when_retention_dies_beside_a_writer_and_gold(
    tmp_path: Path, kills: Kills, reliability: Faults
) -> None:
    crashes = Crashes(tmp_path)
    try:
        for turn, (moment, nth) in enumerate(kills(list(POINTS))):
            beside = Beside(tmp_path / f"home-{turn}")
            lake = beside.lake
            crashes.start(retain, lake.home, at=f"{SILVER.name}.{moment}", nth=nth).await_crash(beside.go_on)
            gone = nth if moment == "replaced" else nth - 1
            removed = RemovedDays.of(lake.table(SILVER).properties)
            assert removed.ranges == (((DAY, DAY + timedelta(days=gone - 1)),) if gone else ())
            assert Counter(ids_of(lake)) == Counter(range(gone * A_DAY, beside.written))

            beside.go_on()
            crashes.start(retain, lake.home).await_end()

            every = Counter(range(beside.written))
            found = Counter(row["source_sequence"] for row in lake.rows(GOLD_TRADES))
            lost, doubled = (every - found).total(), (found - every).total()
            reliability.record(POINTS[moment], injected=1, compared=found.total(), lost=lost, doubled=doubled)
            assert found == every
            assert Counter(ids_of(lake)) == Counter(range(DAYS * A_DAY, beside.written))
            assert Offsets.from_properties(lake.table(SILVER).properties) == Offsets({PLACE: beside.written})
            assert str(RemovedDays.of(lake.table(SILVER).properties)) == f"{DAY} to {DAY + timedelta(days=DAYS - 1)}"
            lake.catalog.close()
    finally:
        crashes.end()
