from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.expressions import EqualTo
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.table import Table

from k2_api.api_errors import NoLongerKept
from k2_api.lake.snapshot_choice import resolve
from k2_assets.lake.commits import commit_drained
from k2_assets.lake.source_files import live_files
from k2_assets.lake.table_history import create_tag, delete_tag
from k2_assets.lake.table_lock import lock
from k2_assets.maintenance.table_round import Report, TableRound
from k2_core import clock
from k2_core.errors import CommitConflict
from k2_core.lake.planned_read import ALL_ROWS
from k2_core.lake.whole_commits import whole_commits
from k2_core.offsets import Offsets
from k2_core.settings import Maintenance
from tests.assets.lakes import SILVER, SmallLake, a_trade, current_id, data_on_disk, ids_of, to_arrow

HOUR_NS = 3_600 * clock.NS_PER_SECOND
NAME = SILVER.name


def maintained(lake: SmallLake, **settings: Any) -> Report:
    return TableRound(lake.catalog, lake.namespace, SILVER, Maintenance(**settings)).run()


def test_history_is_thinned_and_offsets_and_rows_stay(lake: SmallLake, later: Callable[[float], None]) -> None:
    place, table = ("topic", 0), lake.table(SILVER)
    for number in range(20):
        start = Offsets({place: number}) if number else Offsets({})
        table = commit_drained(table, to_arrow(SILVER, [a_trade(number)]), start, Offsets({place: number + 1}))
    later(3)

    report = maintained(lake)

    table = lake.table(SILVER)
    assert (report.snapshots_before, report.files_joined, report.put_off) == (21, 20, [])
    assert (
        report.snapshots_after == len(table.snapshots()) == 1 + len(set(tags_of(table).values()) - {current_id(lake)})
    )
    assert Offsets.from_properties(table.properties) == Offsets({place: 20})
    assert ids_of(lake) == list(range(20))
    assert len([name for name in tags_of(table) if name.startswith("auto-hour-")]) in {2, 3, 4}


def tags_of(table: Table) -> dict[str, int]:
    return {name: ref.snapshot_id for name, ref in table.metadata.refs.items() if name != "main"}


def test_files_of_expired_snapshots_go_an_hour_later_and_not_before(
    lake: SmallLake, later: Callable[[float], None]
) -> None:
    for number in range(16):
        lake.append(SILVER, [a_trade(number)])
    reader = lake.table(SILVER).scan()
    planned = list(reader.plan_files())
    later(0.5)
    first = maintained(lake, hourly_tags=1)
    assert (first.files_joined, first.files_made, first.files_removed) == (16, 1, 0)
    assert first.snapshots_after <= 2
    assert len(data_on_disk(lake)) == 17
    assert read(lake, planned) == list(range(16))

    later(0.9)
    assert maintained(lake, hourly_tags=1).files_removed == 0
    assert read(lake, planned) == list(range(16))

    later(2)
    maintained(lake, hourly_tags=1)
    later(2)
    maintained(lake, hourly_tags=1)
    assert len(data_on_disk(lake)) == 1
    assert ids_of(lake) == list(range(16))
    with pytest.raises(FileNotFoundError):
        read(lake, planned)


def read(lake: SmallLake, planned: list[Any]) -> list[int]:
    table = lake.table(SILVER)
    rows: pa.Table = ArrowScan(table.metadata, table.io, table.schema(), ALL_ROWS).to_table(planned)
    return sorted(rows["source_sequence"].to_pylist())


def test_a_tag_keeps_its_files_until_it_is_deleted(lake: SmallLake, later: Callable[[float], None]) -> None:
    lake.append(SILVER, [a_trade(1), a_trade(2)])
    create_tag(lake.catalog, (lake.namespace, NAME), "before-the-repair", current_id(lake))
    lake.table(SILVER).delete(EqualTo("source_sequence", 1))
    tagged = tags_of(lake.table(SILVER))["before-the-repair"]
    for _ in range(4):
        later(40 * 24)
        maintained(lake)
    assert ids_of(lake, tagged) == [1, 2]
    assert ids_of(lake) == [2]

    delete_tag(lake.catalog, (lake.namespace, NAME), "before-the-repair")
    for name in tags_of(lake.table(SILVER)):
        delete_tag(lake.catalog, (lake.namespace, NAME), name)
    for _ in range(3):
        later(2)
        maintained(lake)
    assert ids_of(lake) == [2]
    assert len(data_on_disk(lake)) == 1
    assert lake.table(SILVER).metadata.snapshot_by_id(tagged) is None


def test_a_tag_is_refused_for_what_has_expired_and_never_moved(lake: SmallLake) -> None:
    identifier = (lake.namespace, NAME)
    lake.append(SILVER, [a_trade(1)])
    first = current_id(lake)
    lake.append(SILVER, [a_trade(2)])
    create_tag(lake.catalog, identifier, "mine", first)
    create_tag(lake.catalog, identifier, "mine", first)
    with pytest.raises(CommitConflict, match="another snapshot"):
        create_tag(lake.catalog, identifier, "mine", current_id(lake))
    with pytest.raises(CommitConflict, match="would name none"):
        create_tag(lake.catalog, identifier, "other", 12345)
    assert tags_of(lake.table(SILVER)) == {"mine": first}


def test_a_tag_made_without_the_lock_while_its_snapshot_expires_keeps_it(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch, later: Callable[[float], None]
) -> None:
    """Between the plan and the commit somebody tags, with another tool, what is about to go."""
    for number in range(5):
        lake.append(SILVER, [a_trade(number)])
    first = lake.table(SILVER).snapshots()[0].snapshot_id
    original, tagged = SqlCatalog.commit_table, []

    def commit_table(self: SqlCatalog, table: Table, requirements: Any, updates: Any) -> Any:
        if not tagged and any(update.action == "remove-snapshots" for update in updates):
            tagged.append(True)
            lake.table(SILVER).manage_snapshots().create_tag(first, "mine").commit()
        return original(self, table, requirements, updates)

    monkeypatch.setattr(SqlCatalog, "commit_table", commit_table)
    later(0.5)
    maintained(lake, hourly_tags=1)

    assert tagged
    assert tags_of(lake.table(SILVER))["mine"] == first
    assert ids_of(lake, first) == [0]
    assert len(lake.table(SILVER).snapshots()) <= 3


@pytest.mark.parametrize("error", [CommitFailedException, CommitStateUnknownException])
@pytest.mark.parametrize("takes_place", [True, False])
def test_an_expiry_whose_answer_is_lost_is_judged_by_what_stands(
    lake: SmallLake,
    monkeypatch: pytest.MonkeyPatch,
    later: Callable[[float], None],
    error: type[Exception],
    takes_place: bool,
) -> None:
    for number in range(5):
        lake.append(SILVER, [a_trade(number)])
    original, lost = SqlCatalog.commit_table, []

    def commit_table(self: SqlCatalog, table: Table, requirements: Any, updates: Any) -> Any:
        if lost or not any(update.action == "remove-snapshots" for update in updates):
            return original(self, table, requirements, updates)
        lost.append(True)
        if takes_place:
            original(self, table, requirements, updates)
        raise error("lost")

    monkeypatch.setattr(SqlCatalog, "commit_table", commit_table)
    later(0.5)
    report = maintained(lake, hourly_tags=1)

    assert lost
    assert report.put_off == []
    assert report.snapshots_after == len(lake.table(SILVER).snapshots()) <= 2
    assert ids_of(lake) == list(range(5))


def test_times_and_tags_show_kept_states_and_earlier_times_are_gone(
    lake: SmallLake, later: Callable[[float], None]
) -> None:
    """As ``as_of`` of the API resolves them."""
    began = clock.now()
    for number in range(4):
        lake.append(SILVER, [a_trade(number)])
    later(3)
    maintained(lake, settle_s=0)
    metadata = lake.table(SILVER).metadata
    hour = next(name for name in tags_of(lake.table(SILVER)) if name.startswith("auto-hour-"))

    for as_of in (hour, clock.iso(clock.now()), str(tags_of(lake.table(SILVER))[hour])):
        snapshot = resolve(metadata, as_of)
        assert snapshot is not None
        assert ids_of(lake, snapshot.snapshot_id) == [0, 1, 2, 3]
    with pytest.raises(NoLongerKept) as gone:
        resolve(metadata, clock.iso(began))
    assert str(tags_of(lake.table(SILVER))[hour]) in str(gone.value.details)


def test_the_steps_of_an_overwrite_go_at_once_and_no_state_with_them(lake: SmallLake) -> None:
    """One file goes whole, another in part, a third comes: three snapshots in one commit."""
    lake.append(SILVER, [a_trade(1)])
    lake.append(SILVER, [a_trade(2), a_trade(3)])
    lake.table(SILVER).overwrite(to_arrow(SILVER, [a_trade(9)]), overwrite_filter="source_sequence <= 2")
    table = lake.table(SILVER)
    states = [each.snapshot_id for each in whole_commits(table.metadata)]
    assert (len(states), len(table.snapshots())) == (3, 5)

    maintained(lake)

    assert [each.snapshot_id for each in lake.table(SILVER).snapshots()] == states
    assert [ids_of(lake, each) for each in states] == [[1], [1, 2, 3], [3, 9]]
    assert [each.snapshot_id for each in whole_commits(lake.table(SILVER).metadata)] == states


def test_a_part_whose_lock_is_held_is_put_off(lake: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_assets.maintenance.table_round._WAIT_S", 0.1)
    lake.append(SILVER, [a_trade(1)])
    with lock(lake.catalog, f"files:{NAME}", 5):
        report = maintained(lake)
    assert len(report.put_off) == 1
    assert f"files:{NAME} is locked" in report.put_off[0]
    assert report.snapshots_before == 1


def test_a_table_without_rows_has_nothing_to_maintain(lake: SmallLake, later: Callable[[float], None]) -> None:
    before = lake.metadata_location(SILVER)
    later(100)
    assert maintained(lake) == Report(NAME)
    assert lake.metadata_location(SILVER) == before
    assert live_files(lake.table(SILVER), "timestamp") == []
