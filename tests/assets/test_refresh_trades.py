import random
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_assets.gold import deduplicate, refresh_rows
from k2_assets.gold.deduplicate import KINDS, NewRows
from k2_assets.gold.instrument_memory import Memory, may_exist
from k2_core.epochs import Epochs
from k2_core.lake.tables import GOLD_TRADES
from tests.assets.lakes import DAY, NOON, SILVER, Row, SmallLake, a_trade, to_arrow

# Few ids, few contents, few origins: much repeats, some differ.
ROWS = st.lists(
    st.builds(
        lambda number, price, received, offset: a_trade(number, price=str(price), received_ns=received, offset=offset),
        st.integers(1, 5),
        st.integers(1, 2),
        st.integers(1, 3),
        st.integers(0, 100),
    ),
    max_size=15,
    unique_by=lambda row: row["kafka_offset"],
)
TRADES = KINDS["trades"]


def first_copies(silver: pl.DataFrame) -> NewRows:
    return deduplicate.first_copies(TRADES, silver)


def without_existing(new: NewRows, existing: pl.DataFrame) -> NewRows:
    return deduplicate.without_existing(TRADES, new, existing)


def frame(rows: list[Row]) -> pl.DataFrame:
    made = pl.from_arrow(to_arrow(SILVER, rows))
    assert isinstance(made, pl.DataFrame)
    return made


def contents(rows: pl.DataFrame) -> list[tuple[object, ...]]:
    return sorted(rows.select("message_id", "price", "kafka_offset").rows())


@given(ROWS, st.integers(0, 1000))
def test_first_copies_keeps_the_smallest_origin_whatever_the_order(rows: list[Row], seed: int) -> None:
    shuffled = random.Random(seed).sample(rows, len(rows))
    new, other = first_copies(frame(rows)), first_copies(frame(shuffled))
    expected = {}
    for row in sorted(rows, key=lambda row: (row["received_ns"], row["kafka_offset"])):
        expected.setdefault(row["message_id"], row)

    assert contents(new.rows) == contents(other.rows)
    assert (new.repeated, new.conflicting) == (other.repeated, other.conflicting)
    assert {(row["message_id"], row["kafka_offset"]) for row in expected.values()} == {
        (message_id, offset) for message_id, _, offset in contents(new.rows)
    }
    assert new.repeated == len(rows) - len(expected)
    assert new.conflicting == len({(row["message_id"], row["price"]) for row in rows}) - len(expected)


@given(ROWS)
def test_first_copies_of_first_copies_changes_nothing(rows: list[Row]) -> None:
    once = first_copies(frame(rows))
    twice = first_copies(once.rows)

    assert contents(twice.rows) == contents(once.rows)
    assert (twice.repeated, twice.conflicting) == (0, 0)


@given(ROWS, ROWS)
def test_without_existing_leaves_what_gold_has_not_and_counts_the_rest(rows: list[Row], existing: list[Row]) -> None:
    new, kept = first_copies(frame(rows)), first_copies(frame(existing)).rows
    left = without_existing(new, kept)
    known = dict(kept.select("message_id", "price").rows())
    met = [(m, p) for m, p, _ in contents(new.rows) if m in known]

    assert contents(left.rows) == [row for row in contents(new.rows) if row[0] not in known]
    assert left.repeated == new.repeated + len(met)
    assert left.conflicting == new.conflicting + sum(known[m] != p for m, p in met)
    assert contents(without_existing(left, kept).rows) == contents(left.rows)


@given(ROWS, ROWS)
def test_may_exist_finds_every_trade_that_gold_could_have(rows: list[Row], existing: list[Row]) -> None:
    memory = Memory.of_rows(TRADES, frame(existing), Epochs())
    suspects = set(may_exist(frame(rows), memory, Epochs())["message_id"])

    assert {row["message_id"] for row in rows} & {row["message_id"] for row in existing} <= suspects
    assert all(
        row["source_sequence"] <= memory.largest.get("binance|BTCUSDT", 0)
        for row in rows
        if row["message_id"] in suspects
    )


def test_gold_order_is_by_instrument_and_time() -> None:
    rows = [a_trade(2, 5, symbol="ETHUSDT"), a_trade(3, 9), a_trade(1, 1), a_trade(1, 1, symbol="ETHUSDT")]

    ordered = deduplicate.in_gold_order(TRADES, frame(rows))

    assert [(s, i) for s, i in ordered.select("symbol", "source_sequence").rows()] == [
        ("BTCUSDT", 1),
        ("BTCUSDT", 3),
        ("ETHUSDT", 1),
        ("ETHUSDT", 2),
    ]


def test_a_refresh_brings_gold_what_silver_has_and_again_changes_nothing(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(n, n) for n in range(1, 6)])

    first = lake.trades_refresh().take_in_news()
    before = lake.metadata_location(GOLD_TRADES)
    second = lake.trades_refresh().take_in_news()

    assert (first.rows_added, first.rows_read) == (5, 5)
    assert (second.rows_added, second.rows_read) == (0, 0)
    assert lake.metadata_location(GOLD_TRADES) == before
    assert sorted(row["source_sequence"] for row in lake.gold().values()) == [1, 2, 3, 4, 5]


def test_repeats_across_batches_are_dropped_and_counted(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(1), a_trade(2), a_trade(2, offset=90)])
    first = lake.trades_refresh().take_in_news()
    lake.append(SILVER, [a_trade(2, offset=91), a_trade(3)])
    second = lake.trades_refresh().take_in_news()

    assert (first.rows_added, first.repeated, first.conflicting) == (2, 1, 0)
    assert (second.rows_added, second.repeated, second.conflicting) == (1, 1, 0)
    assert len(lake.gold()) == 3


def test_a_repeat_is_known_when_larger_ids_stand_already(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(5), a_trade(9)])
    lake.trades_refresh().take_in_news()
    lake.append(SILVER, [a_trade(5, offset=50), a_trade(7, offset=51)])
    outcome = lake.trades_refresh().take_in_news()

    assert (outcome.rows_added, outcome.repeated) == (1, 1)
    assert sorted(row["source_sequence"] for row in lake.gold().values()) == [5, 7, 9]


def test_of_two_contents_the_first_stays_and_the_difference_is_counted(lake: SmallLake) -> None:
    lake.append(
        SILVER,
        [a_trade(1, price="100"), a_trade(2, price="7", received_ns=5), a_trade(2, price="8", received_ns=4, offset=9)],
    )
    first = lake.trades_refresh().take_in_news()
    lake.append(SILVER, [a_trade(1, price="999", received_ns=0, offset=50)])
    second = lake.trades_refresh().take_in_news()

    assert (first.conflicting, second.conflicting, second.rows_added) == (1, 1, 0)
    assert {row["source_sequence"]: row["price"] for row in lake.gold().values()} == {1: 100, 2: 8}


def test_instruments_do_not_hide_each_others_ids(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(100)])
    lake.trades_refresh().take_in_news()
    lake.append(SILVER, [a_trade(100, symbol="ETHUSDT", offset=5), a_trade(3, symbol="ETHUSDT", offset=6)])

    assert lake.trades_refresh().take_in_news().rows_added == 2
    assert len(lake.gold()) == 3


def test_a_refresh_touches_its_own_day_alone(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(1), a_trade(2, NOON + timedelta(days=1))])
    lake.trades_refresh().take_in_news()
    assert [row["source_sequence"] for row in lake.gold().values()] == [1]

    lake.trades_refresh(DAY + timedelta(days=1)).take_in_news()
    assert len(lake.gold()) == 2


def test_a_long_backlog_is_taken_in_several_commits(lake: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh_rows, "_BATCH_ROWS", 20)
    for first in range(1, 40, 10):
        lake.append(SILVER, [a_trade(n) for n in range(first, first + 12)])
    outcome = lake.trades_refresh().take_in_news()

    assert (outcome.rows_added, outcome.rows_read, outcome.repeated) == (42, 48, 6)
    assert len(lake.gold()) == 42
    assert lake.snapshots(GOLD_TRADES) == 2


@given(st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=6), min_size=1, max_size=4), st.data())
def test_gold_is_the_same_set_however_silver_was_cut(batches: list[list[int]], data: st.DataObject) -> None:
    """Pure form of the refresh: batches folded one after the other equal all of them at once."""
    rows = [[a_trade(n, offset=10 * i + j) for j, n in enumerate(batch)] for i, batch in enumerate(batches)]
    existing = frame([])
    for batch in data.draw(st.permutations(rows)):
        new = without_existing(first_copies(frame(batch)), existing)
        existing = pl.concat([existing, new.rows])

    assert sorted(existing["message_id"]) == sorted(
        first_copies(frame([row for batch in rows for row in batch])).rows["message_id"]
    )


def test_replace_day_commits_nothing_when_the_rows_are_the_same(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(2), a_trade(1), a_trade(1, offset=77)])
    lake.trades_refresh().take_in_news()
    before = lake.metadata_location(GOLD_TRADES)

    outcome = lake.trades_refresh().replace_day()

    assert outcome.rows_added == 0
    assert lake.metadata_location(GOLD_TRADES) == before


def test_replace_day_of_an_empty_lake_commits_nothing(lake: SmallLake) -> None:
    before = lake.metadata_location(GOLD_TRADES)

    lake.trades_refresh().replace_day()
    lake.trades_refresh().take_in_news()

    assert lake.metadata_location(GOLD_TRADES) == before


def test_replace_day_rebuilds_the_day_and_leaves_the_others(lake: SmallLake) -> None:
    tomorrow = NOON + timedelta(days=1)
    lake.append(SILVER, [a_trade(1, price="5"), a_trade(2), a_trade(3, tomorrow)])
    lake.append(GOLD_TRADES, [a_trade(1, price="4"), a_trade(66), a_trade(99, tomorrow)])

    outcome = lake.trades_refresh().replace_day()

    assert outcome.rows_added == 2
    assert {row["source_sequence"]: row["price"] for row in lake.gold().values()} == {1: 5, 2: 100, 99: 100}
    assert lake.trades_refresh().take_in_news().rows_added == 0


def test_replace_day_empties_a_day_that_silver_no_longer_has(lake: SmallLake) -> None:
    lake.append(GOLD_TRADES, [a_trade(1)])

    lake.trades_refresh().replace_day()

    assert lake.gold() == {}


def test_nothing_stays_nothing() -> None:
    empty = NewRows(frame([]), 0, 0)

    assert contents(without_existing(empty, frame([a_trade(1)])).rows) == []
    assert may_exist(frame([a_trade(1)]), Memory(), Epochs()).is_empty()
    assert Memory.of_rows(TRADES, frame([]), Epochs()) == Memory()
