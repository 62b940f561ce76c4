"""The days that retention has removed, as a table's property carries them."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_core.errors import RemovedByRetention
from k2_core.lake.removed_days import PROPERTY, RemovedDays, require_kept

FIRST = date(2026, 2, 25)
DAYS = st.sets(st.integers(0, 20).map(lambda number: FIRST + timedelta(days=number)))


@given(DAYS, DAYS, st.sampled_from(range(20)), st.integers(0, 99))
def test_days_are_a_set_whose_ranges_never_touch(some: set[date], more: set[date], number: int, sequence: int) -> None:
    day = FIRST + timedelta(days=number)
    both = RemovedDays(some).with_days(more, sequence)

    stored = RemovedDays.of(both.to_properties())

    every = {FIRST + timedelta(days=each) for each in range(-2, 25)}
    assert {each for each in every if each in stored} == some | more
    assert {each for each in every if each in stored.without(day)} == (some | more) - {day}
    assert stored.sequence == stored.without(day).sequence == sequence
    assert all(b - a > timedelta(days=1) for (_, a), (b, _) in zip(stored.ranges, stored.ranges[1:], strict=False))
    assert bool(stored) == bool(some | more)


def test_the_property_of_a_year_of_days_is_short() -> None:
    removed = RemovedDays((FIRST + timedelta(days=number) for number in range(365)), 7)
    assert removed.to_properties() == {PROPERTY: '{"days":[["2026-02-25","2027-02-24"]],"sequence":7}'}
    assert not RemovedDays.of({})


def test_a_rebuild_whose_source_lost_days_is_refused_with_the_table_and_the_days() -> None:
    properties = RemovedDays([FIRST, FIRST + timedelta(days=1), FIRST + timedelta(days=4)]).to_properties()
    require_kept("bronze", properties, "silver of 2026-03-02", FIRST + timedelta(days=5), date.max)
    with pytest.raises(RemovedByRetention) as refused:
        require_kept("bronze", properties, "silver of 2026-02-26", FIRST + timedelta(days=1), date.max)
    assert "silver of 2026-02-26 stays as it is" in str(refused.value)
    assert "bronze, of which retention has removed 2026-02-26, 2026-03-01;" in str(refused.value)
