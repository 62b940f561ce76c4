import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_feeds.gaps import Gap, GapTracker, severity


def gaps_of(ids: list[int], symbol: str = "BTCUSDT") -> tuple[list[Gap], GapTracker]:
    tracker = GapTracker()
    return [gap for each in ids if (gap := tracker.see(symbol, each, each))], tracker


def test_see_finds_no_gap_when_ids_rise_by_one() -> None:
    assert gaps_of([5, 6, 7])[0] == []


def test_see_finds_one_gap_when_ids_jump() -> None:
    gaps, _ = gaps_of([5, 9, 10])

    assert gaps == [Gap("BTCUSDT", 6, 8)]
    assert gaps[0].missing == 3


def test_see_counts_a_duplicate_when_an_id_comes_again() -> None:
    gaps, tracker = gaps_of([5, 6, 6, 5, 7])

    assert (gaps, tracker.duplicates, tracker.out_of_order) == ([], 2, 0)


def test_see_counts_out_of_order_when_a_late_id_fills_a_gap_and_a_duplicate_when_it_comes_again() -> None:
    gaps, tracker = gaps_of([1, 5, 3, 3, 2, 4, 6])

    assert gaps == [Gap("BTCUSDT", 2, 4)]
    assert (tracker.out_of_order, tracker.duplicates) == (3, 1)


def test_see_follows_each_symbol_alone() -> None:
    tracker = GapTracker()
    tracker.see("BTCUSDT", 1, 1)

    assert tracker.see("ETHUSDT", 900, 900) is None
    assert tracker.see("BTCUSDT", 2, 2) is None


def test_see_takes_a_frame_of_several_ids() -> None:
    tracker = GapTracker()
    tracker.see("BTCUSDT", 1, 4)

    assert tracker.see("BTCUSDT", 5, 7) is None
    assert tracker.see("BTCUSDT", 9, 9) == Gap("BTCUSDT", 8, 8)


@given(st.sets(st.integers(0, 400), min_size=1))
def test_gaps_are_exactly_the_ids_that_were_not_seen(ids: set[int]) -> None:
    rising = sorted(ids)
    gaps, _ = gaps_of(rising)

    missing = [each for gap in gaps for each in range(gap.first_missing, gap.last_missing + 1)]
    assert missing == [each for each in range(rising[0], rising[-1]) if each not in ids]


@pytest.mark.parametrize(("missing", "grade"), [(1, "warning"), (9, "warning"), (10, "alert"), (100, "alert")])
def test_severity_grows_with_what_is_missing(missing: int, grade: str) -> None:
    assert severity(missing) == grade
    assert severity(101) == "critical"
