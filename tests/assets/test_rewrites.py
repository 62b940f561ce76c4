from datetime import timedelta
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.manifest import ManifestEntry, ManifestEntryStatus
from pyiceberg.table import Table

from k2_assets.lake.data_files import write_files
from k2_assets.lake.rewrites import replace_files
from k2_assets.lake.source_files import live_files
from k2_assets.lake.table_lock import lock
from k2_core.errors import CommitConflict
from k2_core.lake.planned_read import data_file
from k2_core.leases import Lease
from tests.assets.lakes import NOON, SILVER, SmallLake, a_trade, to_arrow


def ids(lake: SmallLake) -> list[int]:
    return sorted(row["source_sequence"] for row in lake.rows(SILVER))


def rewritten(lake: SmallLake, lease: Lease, numbers: list[int], *, age: int | None = None) -> Table:
    """Put rows of ``numbers`` in the place of all existing ones."""
    table = lake.table(SILVER)
    removed = [data_file(each) for each in live_files(table, "timestamp")]
    added = write_files(table, [to_arrow(SILVER, [a_trade(n) for n in numbers])])
    lake.append(SILVER, [a_trade(100)])  # a drain is faster
    return replace_files(lambda: lake.table(SILVER), lease, removed, added, {"k2.mark": "x"}, age=age)


@pytest.fixture
def lease(lake: SmallLake) -> Any:
    with lock(lake.catalog, f"files:{SILVER.name}", 5) as held:
        yield held


def test_named_files_are_replaced_and_what_was_appended_meanwhile_stays(lake: SmallLake, lease: Lease) -> None:
    lake.append(SILVER, [a_trade(1)])
    lake.append(SILVER, [a_trade(2)])

    after = rewritten(lake, lease, [1, 3])

    assert ids(lake) == [1, 3, 100]
    assert after.properties["k2.mark"] == "x"


def test_manifests_keep_the_metrics_of_files_that_stay_and_of_those_that_go(lake: SmallLake, lease: Lease) -> None:
    """The files to be replaced are named without their metrics: pyiceberg takes them from the manifests."""
    rows = [a_trade(1), a_trade(2, NOON + timedelta(days=1))]
    lake.append(SILVER, rows)  # two files in one manifest
    table = lake.table(SILVER)
    before = {each.data_file.file_path: each.data_file for each in entries_of(table)}
    gone, stays = live_files(table, "timestamp")

    replace_files(lambda: lake.table(SILVER), lease, [data_file(gone)], [], {})

    after = {each.data_file.file_path: each for each in entries_of(lake.table(SILVER))}
    statuses = {path: each.status for path, each in after.items()}
    assert statuses == {gone.path: ManifestEntryStatus.DELETED, stays.path: ManifestEntryStatus.EXISTING}
    assert {each.sequence_number for each in after.values()} == {1}
    for path, each in after.items():
        assert each.data_file._data == before[path]._data
        assert each.data_file.lower_bounds


def entries_of(table: Table) -> list[ManifestEntry]:
    snapshot = table.current_snapshot()
    assert snapshot is not None
    manifests = snapshot.manifests(table.io)
    return [each for one in manifests for each in one.fetch_manifest_entry(table.io, discard_deleted=False)]


def test_rewritten_files_may_keep_the_age_of_those_they_replace(lake: SmallLake, lease: Lease) -> None:
    lake.append(SILVER, [a_trade(1)])
    lake.append(SILVER, [a_trade(2)])

    rewritten(lake, lease, [1, 2], age=2)

    ages = {each.sequence for each in live_files(lake.table(SILVER), "timestamp")}
    assert ages == {2, 3}
    assert ids(lake) == [1, 2, 100]


@pytest.mark.parametrize("error", [CommitStateUnknownException("lost"), CommitFailedException("repeated")])
@pytest.mark.parametrize("takes_place", [True, False])
def test_a_lost_answer_neither_loses_nor_doubles(
    lake: SmallLake, lease: Lease, monkeypatch: pytest.MonkeyPatch, takes_place: bool, error: Exception
) -> None:
    lake.append(SILVER, [a_trade(1)])
    original, lost = SqlCatalog.commit_table, []

    def commit_table(self: SqlCatalog, table: Table, requirements: Any, updates: Any) -> Any:
        if lost or not any(getattr(update, "updates", {}).get("k2.mark") for update in updates):
            return original(self, table, requirements, updates)
        lost.append(True)
        if takes_place:
            original(self, table, requirements, updates)
        raise error

    monkeypatch.setattr(SqlCatalog, "commit_table", commit_table)
    rewritten(lake, lease, [1, 2])

    assert lost
    assert ids(lake) == [1, 2, 100]


def test_files_that_are_gone_cannot_be_replaced(lake: SmallLake, lease: Lease) -> None:
    lake.append(SILVER, [a_trade(1)])
    table = lake.table(SILVER)
    removed = [data_file(each) for each in live_files(table, "timestamp")]
    rewritten(lake, lease, [1])

    with pytest.raises(CommitConflict, match="gone"):
        replace_files(
            lambda: lake.table(SILVER), lease, removed, write_files(table, [to_arrow(SILVER, [a_trade(1)])]), {}
        )

    assert ids(lake) == [1, 100]
