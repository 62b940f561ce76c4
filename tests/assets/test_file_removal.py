import os
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import Table

from k2_assets.lake.data_files import write_files
from k2_assets.lake.table_history import expire
from k2_assets.lake.table_lock import lock
from k2_assets.maintenance import file_removal
from k2_assets.maintenance.file_removal import remove_due, remove_orphans
from k2_assets.maintenance.removal_ledger import Ledger
from k2_core import clock
from k2_core.errors import ForeignTable
from k2_core.leases import Lease
from tests.assets.lakes import SILVER, SmallLake, a_trade, current_id, data_on_disk, files_on_disk, ids_of, to_arrow

HOUR_NS = 3_600 * clock.NS_PER_SECOND
NAME = SILVER.name


@pytest.fixture
def lease(lake: SmallLake) -> Any:
    with lock(lake.catalog, f"history:{NAME}", 5) as held:
        yield held


def ledger_of(lake: SmallLake) -> Ledger:
    return Ledger(lake.catalog, str(lake.table(SILVER).metadata.table_uuid))


def test_snapshots_that_were_noted_and_did_not_go_lose_nothing(lake: SmallLake, lease: Lease) -> None:
    """As when a process dies between its note and its commit."""
    for number in range(3):
        lake.append(SILVER, [a_trade(number)])
    ledger = ledger_of(lake)
    ledger.note(lake.table(SILVER).snapshots(), clock.now_ns() - 1)
    before = files_on_disk(lake)

    assert remove_due(lambda: lake.table(SILVER), lease, ledger, clock.now_ns()) == 0

    assert files_on_disk(lake) == before
    assert ledger.expired() == []


def test_files_that_a_snapshot_names_which_has_expired_but_is_not_due_stay(lake: SmallLake, lease: Lease) -> None:
    """Rows 0 and 1 are replaced by others; the readers of the second state have not ended yet."""
    lake.append(SILVER, [a_trade(0)])
    lake.append(SILVER, [a_trade(1)])
    one, two = lake.table(SILVER).snapshots()
    lake.table(SILVER).overwrite(to_arrow(SILVER, [a_trade(2)]))
    ledger, now_ns = ledger_of(lake), clock.now_ns()
    due = {one.snapshot_id: now_ns - 1, two.snapshot_id: now_ns + HOUR_NS}

    def load() -> Table:
        return lake.table(SILVER)

    for snapshot in (one, two):
        expire(
            load,
            lease,
            lambda _, gone=snapshot: ([], [gone.snapshot_id]),
            lambda s: ledger.note(s, due[s[0].snapshot_id]),
        )
    remove_due(load, lease, ledger, now_ns)
    assert len(data_on_disk(lake)) == 3
    remove_due(load, lease, ledger, now_ns + 2 * HOUR_NS)
    assert len(data_on_disk(lake)) == 1
    assert ids_of(lake) == [2]
    assert ledger.expired() == []


def test_a_removal_that_was_interrupted_is_finished(
    lake: SmallLake, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every batch of files: the next round finds the rest, and nothing that is needed goes."""
    for number in range(6):
        lake.append(SILVER, [a_trade(number)])
    gone = [each.snapshot_id for each in lake.table(SILVER).snapshots()]
    lake.table(SILVER).overwrite(to_arrow(SILVER, [a_trade(9)]))
    ledger = ledger_of(lake)

    def load() -> Table:
        return lake.table(SILVER)

    expire(load, lease, lambda _: ([], gone), lambda snapshots: ledger.note(snapshots, 0))
    monkeypatch.setattr(file_removal, "_AT_ONCE", 2)
    for allowed in (1, 2, 1, 3, 1, 2, 1):
        reached: list[str] = []

        def stop(point: str, most: int = allowed, reached: list[str] = reached) -> None:
            reached.append(point)
            if len(reached) > most:
                raise InterruptedError

        monkeypatch.setattr(file_removal, "reach", stop)
        try:
            remove_due(load, lease, ledger, clock.now_ns())
        except InterruptedError:
            continue
        break
    monkeypatch.undo()
    remove_due(load, lease, ledger, clock.now_ns())
    assert ids_of(lake) == [9]
    assert len(data_on_disk(lake)) == 1
    assert ledger.expired() == []
    named = {p for p in files_on_disk(lake) if p.endswith(".avro")}
    assert len(named) <= 4  # of the deletion and the append of the overwrite


def age(path: str, hours: float) -> None:
    moment = clock.now_ns() - int(hours * HOUR_NS)
    os.utime(path, ns=(moment, moment))


def test_only_old_files_that_nothing_names_are_orphans(lake: SmallLake, lease: Lease) -> None:
    lake.append(SILVER, [a_trade(1)])
    first = current_id(lake)
    create_tag_inside(lake, first)
    lake.table(SILVER).overwrite(to_arrow(SILVER, [a_trade(2)]))
    for path in files_on_disk(lake):
        age(path, 48)
    needed = files_on_disk(lake)
    young = write_files(lake.table(SILVER), [to_arrow(SILVER, [a_trade(3)])])
    old = write_files(lake.table(SILVER), [to_arrow(SILVER, [a_trade(4)])])
    folder = Path(lake.table(SILVER).location().removeprefix("file://"))
    leftover = folder / "metadata" / "00099-of-a-killed-writer.metadata.json"
    leftover.write_text("{}")
    for path in (old[0].file_path.removeprefix("file://"), str(leftover)):
        age(path, 25)

    removed = remove_orphans(lambda: lake.table(SILVER), lease, ledger_of(lake), clock.now_ns() - 24 * HOUR_NS)

    assert removed == 2
    assert files_on_disk(lake) == needed | {young[0].file_path.removeprefix("file://")}
    assert (ids_of(lake), ids_of(lake, first)) == ([2], [1])


def create_tag_inside(lake: SmallLake, snapshot_id: int) -> None:
    lake.table(SILVER).manage_snapshots().create_tag(snapshot_id, "mine").commit()


def test_a_file_that_is_committed_while_orphans_are_looked_for_stays(
    lake: SmallLake, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.append(SILVER, [a_trade(1)])
    written = write_files(lake.table(SILVER), [to_arrow(SILVER, [a_trade(2)])])
    age(written[0].file_path.removeprefix("file://"), 48)
    original = file_removal.list_files

    def then_commit(table: Table) -> Any:
        listed = original(table)
        with lake.table(SILVER).transaction() as transaction, transaction.update_snapshot().fast_append() as append:
            append.append_data_file(written[0])
        return listed

    monkeypatch.setattr(file_removal, "list_files", then_commit)
    assert remove_orphans(lambda: lake.table(SILVER), lease, ledger_of(lake), clock.now_ns() - 24 * HOUR_NS) == 0
    assert ids_of(lake) == [1, 2]


def test_a_folder_with_none_of_the_tables_files_is_left_alone(
    lake: SmallLake, lease: Lease, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lake.append(SILVER, [a_trade(1)])
    foreign = tmp_path / "of-somebody-else.parquet"
    foreign.write_bytes(b"data")
    age(str(foreign), 48)
    infos = lake.table(SILVER).io.fs_by_scheme("file", "").get_file_info([str(foreign)])  # type: ignore[attr-defined]
    monkeypatch.setattr(file_removal, "list_files", lambda _: infos)
    with pytest.raises(ForeignTable, match="nothing is removed"):
        remove_orphans(lambda: lake.table(SILVER), lease, ledger_of(lake), clock.now_ns())
    assert foreign.exists()


def test_a_lost_manifest_of_a_kept_snapshot_stops_the_removal(lake: SmallLake, lease: Lease) -> None:
    """Without it nobody knows which files it names, so none may go."""
    lake.append(SILVER, [a_trade(1)])
    first = current_id(lake)
    lake.table(SILVER).overwrite(to_arrow(SILVER, [a_trade(2)]))
    ledger = ledger_of(lake)
    expire(lambda: lake.table(SILVER), lease, lambda _: ([], [first]), lambda s: ledger.note(s, 0))
    [snapshot] = [each for each in lake.table(SILVER).snapshots() if each.snapshot_id == current_id(lake)]
    before = data_on_disk(lake)
    for manifest in snapshot.manifests(lake.table(SILVER).io):
        Path(manifest.manifest_path.removeprefix("file://")).unlink()
    with pytest.raises(FileNotFoundError):
        remove_due(lambda: lake.table(SILVER), lease, ledger, clock.now_ns())
    assert data_on_disk(lake) == before


def test_a_table_created_again_under_the_same_name_keeps_its_files(lake: SmallLake, lease: Lease) -> None:
    lake.append(SILVER, [a_trade(1)])
    old = ledger_of(lake)
    old.note(lake.table(SILVER).snapshots(), 0)
    lake.catalog.drop_table((lake.namespace, NAME))
    SmallLake(lake.home)
    lake.append(SILVER, [a_trade(2)])
    assert ledger_of(lake).expired() == []
    remove_due(lambda: lake.table(SILVER), lease, ledger_of(lake), clock.now_ns())
    assert ids_of(lake) == [2]
