"""Gold's quotes: each once, whatever repeats, whichever day is made first, and ordered as the venue orders them."""

from datetime import date, datetime, timedelta
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k2_assets.gold import refresh_rows
from k2_assets.gold.deduplicate import KINDS, in_gold_order
from k2_assets.gold.instrument_memory import Memory, may_exist
from k2_assets.lake.source_files import as_frame
from k2_core.epochs import Epochs
from k2_core.lake.tables import GOLD_QUOTES
from tests.assets.lakes import DAY, NOON, SILVER_QUOTES, Row, SmallLake, a_quote, to_arrow

MIDNIGHT = datetime.combine(DAY + timedelta(days=1), datetime.min.time(), NOON.tzinfo)
TODAY, TOMORROW = DAY, DAY + timedelta(days=1)


def hashed(name: str, at: float, **other: object) -> Row:
    """A quote of a venue that gives a time and no id."""
    received = NOON + timedelta(seconds=at + 1)
    return a_quote(None, at, exchange="kraken", quote_id=name, ingestion_timestamp=received, **other)


def test_a_refresh_brings_gold_what_silver_has_and_again_changes_nothing(lake: SmallLake) -> None:
    lake.append(SILVER_QUOTES, [a_quote(n, n) for n in range(1, 6)])

    first = lake.quotes_refresh().take_in_news()
    before = lake.metadata_location(GOLD_QUOTES)

    assert (first.rows_added, first.rows_read) == (5, 5)
    assert lake.quotes_refresh().take_in_news().rows_added == 0
    assert lake.quotes_refresh().replace_day().rows_added == 0
    assert lake.metadata_location(GOLD_QUOTES) == before
    assert sorted(row["source_sequence"] for row in lake.gold_quotes().values()) == [1, 2, 3, 4, 5]


def test_of_copies_from_two_connections_the_first_received_stays(lake: SmallLake) -> None:
    lake.append(SILVER_QUOTES, [a_quote(7, 3.002, offset=1), a_quote(7, 3.001, offset=2), a_quote(8, 4)])
    outcome = lake.quotes_refresh().take_in_news()

    assert (outcome.rows_added, outcome.repeated, outcome.conflicting) == (2, 1, 0)
    assert {row["platform_sequence"] for row in lake.gold_quotes().values()} == {0, 2}


def test_a_quote_of_the_same_id_that_says_something_else_is_counted_and_the_first_stays(lake: SmallLake) -> None:
    lake.append(SILVER_QUOTES, [a_quote(7, 3, bid="99"), a_quote(7, 4, bid="98"), a_quote(9, 4, ask=None)])
    lake.append(SILVER_QUOTES, [a_quote(9, 5, ask="1")])
    outcome = lake.quotes_refresh().take_in_news()

    assert (outcome.rows_added, outcome.conflicting) == (2, 2)
    assert {row["source_sequence"]: row["bid_price"] for row in lake.gold_quotes().values()} == {7: 99, 9: 99}


@pytest.mark.parametrize("days", [(TODAY, TOMORROW), (TOMORROW, TODAY)], ids=["in order", "the later day first"])
@pytest.mark.parametrize("whole", [False, True], ids=["appended", "replaced"])
def test_a_quote_received_twice_around_midnight_stands_once(
    lake: SmallLake, days: tuple[date, ...], whole: bool
) -> None:
    before, after = MIDNIGHT - timedelta(milliseconds=1), MIDNIGHT + timedelta(milliseconds=1)
    lake.append(SILVER_QUOTES, [a_quote(1, before), a_quote(2, before), a_quote(2, after), a_quote(3, after)])

    for day in days:
        made = lake.quotes_refresh(day)
        _ = made.replace_day() if whole else made.take_in_news()

    assert sorted(row["source_sequence"] for row in lake.gold_quotes().values()) == [1, 2, 3]
    for day in days:
        lake.quotes_refresh(day).replace_day()
    assert sorted(row["source_sequence"] for row in lake.gold_quotes().values()) == [1, 2, 3]


def test_a_hashed_quote_that_comes_again_is_known(lake: SmallLake) -> None:
    lake.append(SILVER_QUOTES, [hashed("a", 1), hashed("b", 2), hashed("c", 2)])
    lake.quotes_refresh().take_in_news()
    lake.append(SILVER_QUOTES, [hashed("b", 2, offset=8), hashed("d", 2), hashed("e", 3)])
    outcome = lake.quotes_refresh().take_in_news()

    assert (outcome.rows_added, outcome.repeated) == (2, 1)
    assert sorted(row["quote_id"] for row in lake.gold_quotes().values()) == ["a", "b", "c", "d", "e"]


def test_what_gold_could_not_have_is_not_read_for(lake: SmallLake) -> None:
    rows = as_frame(to_arrow(SILVER_QUOTES, [a_quote(5, 1), hashed("a", 2)]))
    later = as_frame(to_arrow(SILVER_QUOTES, [a_quote(6, 0), hashed("b", 3)]))
    memory = Memory.of_rows(KINDS["quotes"], rows, Epochs())

    assert may_exist(later, memory, Epochs()).is_empty()
    assert may_exist(rows, memory, Epochs()).height == 2
    without_any = as_frame(to_arrow(SILVER_QUOTES, [a_quote(None, 9)]))
    assert (
        may_exist(without_any, memory, Epochs()).height == 1
    )  # stamped at receipt, and without an id: it could be any


def test_binances_quotes_are_ordered_by_u_and_the_others_by_time() -> None:
    rows = [a_quote(3, 1), a_quote(2, 5), hashed("x", 9), hashed("y", 2), a_quote(1, 7, symbol="ETHUSDT")]
    ordered = in_gold_order(KINDS["quotes"], as_frame(to_arrow(SILVER_QUOTES, rows)))

    assert ordered["quote_id"].to_list() == ["2", "3", "y", "x", "1"]


class Copy(NamedTuple):
    """One copy of a quote: its id, and how many seconds from midnight it was received."""

    number: int
    at: int


COPIES = st.lists(st.builds(Copy, st.integers(1, 6), st.integers(-3, 3)), min_size=1, max_size=8)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(COPIES, min_size=1, max_size=3), st.data())
def test_every_quote_stands_once_however_silver_was_cut_and_in_whichever_order_days_are_made(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Copy]], data: st.DataObject
) -> None:
    lake = SmallLake(tmp_path_factory.mktemp("lake"))
    for place, batch in enumerate(batches):
        lake.append(
            SILVER_QUOTES,
            [a_quote(n, MIDNIGHT + timedelta(seconds=at), offset=10 * place + i) for i, (n, at) in enumerate(batch)],
        )
        for day in data.draw(st.permutations([TODAY, TOMORROW])):
            made = lake.quotes_refresh(day)
            _ = made.replace_day() if data.draw(st.booleans()) else made.take_in_news()
    standing = lake.gold_quotes().values()
    lake.catalog.close()

    assert sorted(row["source_sequence"] for row in standing) == sorted({c.number for each in batches for c in each})


def test_a_long_backlog_is_taken_in_several_commits(lake: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh_rows, "_BATCH_ROWS", 20)
    for first in range(1, 40, 10):
        lake.append(SILVER_QUOTES, [a_quote(n, n + first / 100) for n in range(first, first + 12)])
    outcome = lake.quotes_refresh().take_in_news()

    assert (outcome.rows_added, outcome.rows_read, outcome.repeated) == (42, 48, 6)
    assert lake.snapshots(GOLD_QUOTES) == 2
