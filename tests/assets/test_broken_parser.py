"""A parser that breaks: its frames wait among the rejected, the drain goes on, and a mended parser gets them back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from k2_core.venues import binance
from tests.assets.drained import REJECTED, SILVER, DrainedLake, received
from tests.assets.frames import a_frame
from tests.venue_builder import a_venue


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[DrainedLake]:
    made = DrainedLake(tmp_path / "home")
    yield made
    made.catalog.close()


def breaks_on_odd_ids(payload: bytes) -> Any:
    found = binance.parse(payload)
    if found and found[0].sequence % 2:  # type: ignore[union-attr]
        raise IndexError("a field that this version does not expect")
    return found


def test_frames_on_which_a_parser_broke_come_into_silver_once_it_is_mended(lake: DrainedLake) -> None:
    values = [received(a_frame(number)) for number in range(10)]

    lake.drain(*values, venue=a_venue(parse=breaks_on_odd_ids))

    assert lake.ids() == [0, 2, 4, 6, 8]
    rejected = lake.rows(REJECTED)
    assert {row["reason"] for row in rejected} == {"parser_failed"}
    assert sorted(row["kafka_offset"] for row in rejected) == [1, 3, 5, 7, 9]
    assert all("IndexError" in row["error"] for row in rejected)

    lake.drain(received(a_frame(10)))
    lake.rebuild()

    assert lake.ids(SILVER) == list(range(11))
    assert lake.rows(REJECTED) == []
