"""A day of silver quotes rebuilt from bronze: the same rows, beside the trades of the same venue."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from k2_core.lake import tables
from k2_core.lake.tables import GOLD_QUOTES
from k2_core.venues import binance
from tests.assets.drained import REJECTED, SILVER, DrainedLake, at, received
from tests.assets.frames import NOON_MS, a_quote_frame
from tests.assets.lakes import DAY
from tests.venue_builder import a_venue

QUOTES = tables.silver("binance", "quotes")
OF_QUOTES = "topic-of-quotes"
_DAY_MS = 86_400_000


@pytest.fixture(name="lake")
def a_lake(tmp_path: Path) -> Iterator[DrainedLake]:
    made = DrainedLake(tmp_path / "home")
    yield made
    made.catalog.close()


def drain_both(lake: DrainedLake, **parser: Any) -> None:
    """Drain trades and quotes of two days, some of them bad, a reply among them."""
    venue = a_venue(**parser)
    lake.drain(at(NOON_MS, 1), at(NOON_MS, 2, p="-1"), venue=venue)
    values = [received(a_quote_frame(n), NOON_MS + n) for n in range(1, 5)]
    values += [received(a_quote_frame(5, b="-1"), NOON_MS), b"no envelope", received(b'{"result":null,"id":1}')]
    values += [received(a_quote_frame(6, a="0", A="0"), NOON_MS), received(a_quote_frame(7), NOON_MS + _DAY_MS)]
    lake.drain(*values, topic_id=OF_QUOTES, venue=venue, data="quotes")


def test_a_rebuild_with_the_same_parser_changes_nothing(lake: DrainedLake) -> None:
    drain_both(lake)
    before = [lake.metadata_location(spec) for spec in (QUOTES, REJECTED, SILVER)]

    outcome = lake.rebuild(data="quotes")

    assert [lake.metadata_location(spec) for spec in (QUOTES, REJECTED, SILVER)] == before
    assert (outcome.rows_written, outcome.rejected_written) == (0, 0)
    assert outcome.frames_read >= 7
    assert lake.ids(QUOTES) == [1, 2, 3, 4, 6, 7]


def test_a_mended_parser_rebuilds_the_day_and_leaves_trades_and_other_days_alone(lake: DrainedLake) -> None:
    def reads_none(payload: bytes) -> Any:
        found = binance.parse_quotes(payload)
        if found and getattr(found[0], "sequence", None) in {2, 7}:
            raise KeyError("a fault of ours")
        return found

    drain_both(lake, parse_quotes=reads_none)
    assert lake.ids(QUOTES) == [1, 3, 4, 6]
    trades = lake.picture(SILVER)
    lake.quotes_refresh().take_in_news()

    outcome = lake.rebuild(data="quotes")

    assert lake.ids(QUOTES) == [1, 2, 3, 4, 6, 7]  # the other day's frame had no time, so it was judged as well
    assert {row["reason"] for row in lake.rows(REJECTED)} == {"price_not_positive", "not_confluent_avro"}
    assert outcome.rejected_replaced == 2
    assert lake.picture(SILVER) == trades
    assert lake.quotes_refresh().take_in_news().rows_added > 0  # the day is marked, and gold rebuilds it
    assert sorted(row["source_sequence"] for row in lake.rows(GOLD_QUOTES)) == [1, 2, 3, 4, 6]


def test_what_a_rebuild_makes_is_what_the_drain_made(lake: DrainedLake, tmp_path: Path) -> None:
    other = DrainedLake(tmp_path / "other")
    drain_both(other)
    drain_both(lake, parse_quotes=lambda _: None)  # as if every frame were a reply
    lake.rebuild(data="quotes")
    lake.rebuild(DAY.replace(day=DAY.day + 1), data="quotes")

    assert lake.picture(QUOTES) == other.picture(QUOTES)
    assert lake.frames(REJECTED) == other.frames(REJECTED)
    other.catalog.close()
