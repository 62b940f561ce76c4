"""Maintenance that kills itself at every point of its work beside a writer: no row, offset or kept state is lost."""

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from k2_assets.lake.commits import commit_drained
from k2_assets.lake.source_files import live_files
from k2_assets.lake.table_history import create_tag
from k2_assets.lake.table_lock import lock
from k2_assets.maintenance.file_removal import remove_orphans
from k2_assets.maintenance.named_files import NamedFiles
from k2_assets.maintenance.removal_ledger import Ledger
from k2_assets.maintenance.table_round import Report, TableRound
from k2_core import clock
from k2_core.offsets import Offsets
from k2_core.settings import Maintenance
from tests.assets.lakes import SILVER, SmallLake, a_trade, current_id, data_on_disk, ids_of, to_arrow
from tests.reliability.crashes import Child, Crashes, Kills
from tests.reliability.measured import Faults

pytestmark = pytest.mark.reliability("history")

PLACE = ("topic", 0)
HOUR_NS = 3_600 * clock.NS_PER_SECOND
KEPT = "kept-by-a-person"
# The maintenance's clock runs by the hour; files that no snapshot names yet would soon be old for it.
SETTINGS = Maintenance(compact_after_s=0, compact_files=4, settle_s=0, orphan_after_s=10**9)
POINTS = {
    "tag": "maintenance killed before the commit of tags",
    "tagged": "maintenance killed after the commit of tags",
    "expire": "maintenance killed before the commit that expires snapshots",
    "expired": "maintenance killed after the commit that expires snapshots",
    "remove": "maintenance killed while it removes files",
    "replace": "maintenance killed before the commit of joined files",
    "replaced": "maintenance killed after the commit of joined files",
}


def append(home: Path, stop: Path) -> None:
    """Commit a row at a time as a drain does, until the file ``stop`` is there."""
    lake = SmallLake(home)
    table = lake.table(SILVER)
    for number in itertools.count(standing(lake)):
        if stop.exists():
            return
        start = Offsets({PLACE: number}) if number else Offsets({})
        table = commit_drained(table, to_arrow(SILVER, [a_trade(number)]), start, Offsets({PLACE: number + 1}))
        time.sleep(0.2)  # it need not be fast: maintenance shares its two cores


def maintain(home: Path, first_hour: int, rounds: int) -> None:
    """Run rounds of maintenance whose clock goes an hour from each to the next, and each of which finds new rows."""
    lake, known = SmallLake(home), -1
    for hour in range(first_hour, first_hour + rounds):
        while (rows := standing(lake)) == known:
            time.sleep(0.01)
        known = rows
        a_round(lake, hour)


def a_round(lake: SmallLake, hour: int) -> Report:
    real = clock.now_ns
    clock.now_ns = lambda: real() + hour * HOUR_NS
    try:
        return TableRound(lake.catalog, lake.namespace, SILVER, SETTINGS).run()
    finally:
        clock.now_ns = real


def standing(lake: SmallLake) -> int:
    """How many rows the table's own vector says that it holds."""
    [(_, offset)] = list(Offsets.from_properties(lake.table(SILVER).properties).items()) or [(PLACE, 0)]
    return offset


@dataclass
class Beside:
    """A lake to which a process of its own appends."""

    lake: SmallLake
    crashes: Crashes
    stop: Path
    appender: Child
    hour: int = 1

    def die(self, moment: str, nth: int) -> None:
        """Have maintenance killed at the n-th visit of a point."""
        point = f"{SILVER.name}.{moment}"
        self.crashes.start(maintain, self.lake.home, self.hour, 50, at=point, nth=nth).await_crash()
        self.hour += 50

    def finish(self) -> list[Report]:
        """End the writer, and maintain until all is done that was left."""
        self.stop.touch()
        self.appender.await_end()
        reports = [a_round(self.lake, self.hour + later) for later in (0, 2, 4)]
        self.hour += 10
        return reports


@pytest.fixture
def beside(lake_home: Path, tmp_path: Path) -> Iterator[Beside]:
    lake, crashes, stop = SmallLake(lake_home), Crashes(tmp_path), tmp_path / "stop"
    for number in range(10):
        start = Offsets({PLACE: number}) if number else Offsets({})
        commit_drained(lake.table(SILVER), to_arrow(SILVER, [a_trade(number)]), start, Offsets({PLACE: number + 1}))
    create_tag(lake.catalog, (lake.namespace, SILVER.name), KEPT, current_id(lake))
    yield Beside(lake, crashes, stop, crashes.start(append, lake_home, stop))
    crashes.end()
    lake.catalog.close()


@pytest.fixture
def lake_home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_rows_offsets_and_tags_stand_after_kills_beside_a_writer(
    beside: Beside, kills: Kills, reliability: Faults
) -> None:
    lake = beside.lake
    planned = kills(list(POINTS))
    for moment, nth in planned:
        beside.die(moment, nth)
    hits = beside.crashes.hits()
    assert hits == Counter(f"{SILVER.name}.{moment}" for moment, _ in planned)

    reports = beside.finish()

    found, rows = Counter(ids_of(lake)), Counter(range(standing(lake)))
    lost, doubled = (rows - found).total(), (found - rows).total()
    for moment, fault in POINTS.items():
        often = hits[f"{SILVER.name}.{moment}"]
        reliability.record(fault, injected=often, compared=found.total(), lost=lost, doubled=doubled)
    assert found == rows
    assert len(rows) > 10
    assert ids_of(lake, tagged(lake)) == list(range(10))
    assert all(report.put_off == [] for report in reports)
    assert len(lake.table(SILVER).snapshots()) <= 2 + len(lake.table(SILVER).metadata.refs)
    assert_nothing_is_left_over(beside)


def tagged(lake: SmallLake) -> int:
    return lake.table(SILVER).metadata.refs[KEPT].snapshot_id


def assert_nothing_is_left_over(beside: Beside) -> None:
    """Once files of writers that died are old enough, the folder holds what kept snapshots name and nothing else."""
    lake = beside.lake
    ledger = Ledger(lake.catalog, str(lake.table(SILVER).metadata.table_uuid))
    assert ledger.expired() == []
    with lock(lake.catalog, f"history:{SILVER.name}", 30) as lease:
        remove_orphans(lambda: lake.table(SILVER), lease, ledger, clock.now_ns())
    files = NamedFiles(lake.table(SILVER))
    assert data_on_disk(lake) == set(files.data_files(files.kept.values()))
    assert len(live_files(lake.table(SILVER), "timestamp")) <= 3  # at most one of each tier
    assert ids_of(lake, tagged(lake)) == list(range(10))
    assert ids_of(lake) == list(range(standing(lake)))
