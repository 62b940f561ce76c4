import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.expressions import GreaterThanOrEqual
from pyiceberg.table import Table

from k2_assets.lake import commits
from k2_assets.lake.commits import Change, arrow_schema, commit_derived, commit_drained
from k2_core.errors import CommitConflict
from k2_core.lake import tables
from k2_core.lake.tables import GOLD_TRADES
from k2_core.offsets import PROPERTY, Offsets
from tests.assets.lakes import SILVER, SmallLake, a_trade, to_arrow

TOPIC = "topic-uuid"
REJECTED = tables.silver_rejected("binance")


def rows_at(first: int, end: int, partition: int = 0) -> pa.Table:
    """Silver rows of the offsets [first, end)."""
    return to_arrow(SILVER, [a_trade(n, kafka_partition=partition, offset=n) for n in range(first, end)])


def vector(**partitions: int) -> Offsets:
    return Offsets({(TOPIC, int(name[1:])): offset for name, offset in partitions.items()})


def standing(lake: SmallLake) -> Offsets:
    return Offsets.from_properties(lake.table(SILVER).properties)


def origins(lake: SmallLake) -> list[tuple[int, int]]:
    return sorted((row["kafka_partition"], row["kafka_offset"]) for row in lake.rows(SILVER))


def test_a_commit_writes_rows_and_vector_together(lake: SmallLake) -> None:
    after = commit_drained(lake.table(SILVER), rows_at(0, 3), Offsets(), vector(p0=3))

    snapshot = after.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert json.loads(snapshot.summary[PROPERTY]) == {TOPIC: {"0": 3}}
    assert standing(lake) == Offsets.from_properties(after.properties) == vector(p0=3)
    assert origins(lake) == [(0, 0), (0, 1), (0, 2)]


def test_a_replacement_is_one_snapshot_and_rows_beside_it_in_their_files_stay(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(number) for number in range(1, 5)])
    lake.append(SILVER, [a_trade(number) for number in range(5, 7)])
    before = lake.snapshots(SILVER)
    new = to_arrow(SILVER, [a_trade(number, price="7") for number in (4, 5, 6, 7)])

    table, _ = commit_derived(
        lambda: lake.table(SILVER), lambda _: Change(new, GreaterThanOrEqual("source_sequence", 4), {"k2.noted": "yes"})
    )

    prices = {row["source_sequence"]: int(row["price"]) for row in lake.rows(SILVER)}
    assert prices == {1: 100, 2: 100, 3: 100, 4: 7, 5: 7, 6: 7, 7: 7}
    assert lake.snapshots(SILVER) == before + 1
    assert table.metadata_location == lake.table(SILVER).metadata_location
    assert table.properties["k2.noted"] == "yes"


def test_an_empty_batch_moves_the_vector_in_a_snapshot_of_its_own(lake: SmallLake) -> None:
    commit_drained(lake.table(SILVER), rows_at(0, 0), Offsets(), vector(p0=7))

    assert standing(lake) == vector(p0=7)
    assert (lake.snapshots(SILVER), origins(lake)) == (1, [])


@pytest.mark.parametrize("start", [Offsets(), vector(p0=2), vector(p0=4)])
@pytest.mark.parametrize("count", [0, 2])
def test_a_batch_that_began_elsewhere_is_refused(lake: SmallLake, start: Offsets, count: int) -> None:
    commit_drained(lake.table(SILVER), rows_at(0, 3), Offsets(), vector(p0=3))

    with pytest.raises(CommitConflict, match=SILVER.name):
        commit_drained(lake.table(SILVER), rows_at(2, 2 + count), start, vector(p0=5))

    assert (standing(lake), len(origins(lake))) == (vector(p0=3), 3)


@pytest.mark.parametrize("count", [0, 2])
def test_a_stale_handle_is_refused_though_it_believes_its_start(lake: SmallLake, count: int) -> None:
    stale = lake.table(SILVER)
    commit_drained(lake.table(SILVER), rows_at(0, 3), Offsets(), vector(p0=3))

    with pytest.raises(CommitConflict):
        commit_drained(stale, rows_at(0, count), Offsets(), vector(p0=2))

    assert (standing(lake), len(origins(lake))) == (vector(p0=3), 3)


def test_writers_of_other_partitions_share_the_table(lake: SmallLake) -> None:
    one, other = lake.table(SILVER), lake.table(SILVER)
    commit_drained(one, rows_at(0, 2, 0), Offsets(), vector(p0=2))

    commit_drained(other, rows_at(0, 3, 1), Offsets(), vector(p1=3))

    assert standing(lake) == vector(p0=2, p1=3)
    assert len(origins(lake)) == 5


def test_a_topic_made_again_opens_a_new_vector_beside_the_old(lake: SmallLake) -> None:
    commit_drained(lake.table(SILVER), rows_at(0, 3), Offsets(), vector(p0=3))
    again = Offsets({("another-uuid", 0): 1})

    commit_drained(lake.table(SILVER), rows_at(0, 1), Offsets(), again)

    assert standing(lake) == vector(p0=3).advanced(again)


@given(st.integers(0, 2**32))
def test_offsets_of_a_batch_are_compared_on_its_partitions_alone(seed: int) -> None:
    rng = random.Random(seed)
    moved = Offsets({(TOPIC, rng.randrange(8)): rng.randrange(100) for _ in range(3)})
    keys = {key for key, _ in moved.items()}

    assert vector(p0=1, p1=2).advanced(moved).only(keys) == moved


def test_two_writers_with_overlapping_batches_never_double(lake: SmallLake) -> None:
    """Each goes on from what the table says after it was refused, as a drain does."""
    rng = random.Random(7)
    handles = [lake.table(SILVER), lake.table(SILVER)]
    refused = 0
    while (done := standing(lake).get(TOPIC, 0) or 0) < 60:
        writer = rng.randrange(2)
        believed = Offsets.from_properties(handles[writer].properties)
        first = believed.get(TOPIC, 0) or 0
        end = min(first + rng.randrange(1, 9), 60)
        try:
            handles[writer] = commit_drained(handles[writer], rows_at(first, end), believed, vector(p0=end))
        except CommitConflict:
            refused += 1
            handles[writer] = lake.table(SILVER)
        assert len(origins(lake)) >= done

    assert refused > 0
    assert origins(lake) == [(0, offset) for offset in range(60)]


Break = Callable[[bool, Exception], None]


@pytest.fixture
def break_next_commit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Break]:
    """Make the catalog's next commit raise, before or after it took place."""
    broken: list[tuple[bool, Exception]] = []
    original = SqlCatalog.commit_table

    def commit_table(self: SqlCatalog, table: Table, requirements: Any, updates: Any) -> Any:
        if not broken:
            return original(self, table, requirements, updates)
        takes_place, error = broken.pop()
        if takes_place:
            original(self, table, requirements, updates)
        raise error

    monkeypatch.setattr(SqlCatalog, "commit_table", commit_table)
    yield lambda takes_place, error: broken.append((takes_place, error))
    assert not broken


@pytest.mark.parametrize(
    ("takes_place", "error"),
    [
        (True, CommitStateUnknownException("lost")),
        (False, CommitStateUnknownException("lost")),
        (False, CommitFailedException("refused")),
        (True, CommitFailedException("a repeated request met its own commit")),
    ],
)
@pytest.mark.parametrize("count", [0, 3])
def test_a_lost_answer_neither_loses_nor_doubles(
    lake: SmallLake, break_next_commit: Break, takes_place: bool, error: Exception, count: int
) -> None:
    commit_drained(lake.table(SILVER), rows_at(0, 2), Offsets(), vector(p0=2))
    break_next_commit(takes_place, error)

    after = commit_drained(lake.table(SILVER), rows_at(2, 2 + count), vector(p0=2), vector(p0=5))

    assert standing(lake) == Offsets.from_properties(after.properties) == vector(p0=5)
    assert origins(lake) == [(0, offset) for offset in range(2 + count)]


def test_the_batch_of_another_writer_is_not_taken_for_a_lost_answer(lake: SmallLake, break_next_commit: Break) -> None:
    """Same offsets, but maybe not the same rows: theirs stay, and ours are read again from bronze."""
    stale = lake.table(SILVER)
    commit_drained(lake.table(SILVER), rows_at(0, 3), Offsets(), vector(p0=3))

    with pytest.raises(CommitConflict):
        commit_drained(stale, rows_at(0, 3), Offsets(), vector(p0=3))

    assert len(origins(lake)) == 3


def test_a_refused_commit_leaves_no_manifest_behind(lake: SmallLake, break_next_commit: Break) -> None:
    break_next_commit(False, CommitFailedException("refused"))

    commit_drained(lake.table(SILVER), rows_at(0, 3), Offsets(), vector(p0=3))

    folder = Path(lake.table(SILVER).metadata_location.removeprefix("file://")).parent
    assert len(list(folder.glob("*.avro"))) == 2  # the manifest and the list of the commit that succeeded


def test_a_commit_that_fails_again_and_again_ends_in_a_conflict(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "_try_commit", lambda *_, **__: False)

    with pytest.raises(CommitConflict, match="10 times in a row"):
        commit_drained(lake.table(SILVER), rows_at(0, 2), Offsets(), vector(p0=2))
    with pytest.raises(CommitConflict, match="10 times in a row"):
        commit_derived(
            lambda: lake.table(GOLD_TRADES), lambda _: Change(arrow_schema(GOLD_TRADES).empty_table(), None, {})
        )


def test_an_error_of_another_kind_is_the_callers_to_judge(lake: SmallLake, break_next_commit: Break) -> None:
    break_next_commit(True, OSError("the disk is full"))

    with pytest.raises(OSError, match="disk is full"):
        commit_drained(lake.table(SILVER), rows_at(0, 2), Offsets(), vector(p0=2))

    assert (standing(lake), len(origins(lake))) == (vector(p0=2), 2)


def test_a_derived_change_is_computed_again_from_the_newest_state_after_a_conflict(lake: SmallLake) -> None:
    computed: list[int] = []

    def add_what_is_missing(table: Table) -> Change | None:
        count = table.scan().to_arrow().num_rows
        computed.append(count)
        if len(computed) == 1:  # another writer is first
            lake.append(GOLD_TRADES, [a_trade(1)])
        return Change(to_arrow(GOLD_TRADES, [a_trade(n) for n in range(count + 1, 4)]), None, {"k2.seen": "{}"})

    commit_derived(lambda: lake.table(GOLD_TRADES), add_what_is_missing)

    assert computed == [0, 1]
    assert sorted(row["source_sequence"] for row in lake.gold().values()) == [1, 2, 3]


@pytest.mark.parametrize("takes_place", [True, False])
@pytest.mark.parametrize("error", [CommitStateUnknownException("lost"), CommitFailedException("repeated")])
def test_a_derived_commit_whose_answer_was_lost_is_found_by_reading_again(
    lake: SmallLake, break_next_commit: Break, takes_place: bool, error: Exception
) -> None:
    lake.append(SILVER, [a_trade(1), a_trade(2)])
    break_next_commit(takes_place, error)

    outcome = lake.trades_refresh().take_in_news()

    assert outcome.rows_added == 2

    assert len(lake.gold()) == 2
