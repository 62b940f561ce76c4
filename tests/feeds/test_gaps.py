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


def test_see_takes_a_snapshot_as_repeats_when_it_overlaps_what_was_seen() -> None:
    tracker = GapTracker()
    tracker.see("BTC/USD", 100, 120)

    assert tracker.see("BTC/USD", 71, 120) is None
    assert tracker.see("BTC/USD", 90, 130) is None
    assert tracker.see("BTC/USD", 131, 131) is None
    assert (tracker.duplicates, tracker.out_of_order) == (50 + 31, 0)


def test_see_closes_what_a_late_run_fills_of_several_gaps() -> None:
    tracker = GapTracker()
    for each in (1, 5, 10):
        tracker.see("BTC/USD", each, each)

    assert tracker.see("BTC/USD", 3, 7) is None
    assert (tracker.out_of_order, tracker.duplicates) == (4, 1)
    tracker.see("BTC/USD", 1, 10)
    assert (tracker.out_of_order, tracker.duplicates) == (7, 8)


def test_see_finds_the_gap_before_a_snapshot_that_does_not_reach_back() -> None:
    tracker = GapTracker()
    tracker.see("BTC/USD", 100, 100)

    assert tracker.see("BTC/USD", 150, 199) == Gap("BTC/USD", 101, 149)


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 8)), min_size=1, max_size=20))
def test_see_knows_every_id_of_runs_as_new_missing_late_or_repeated(runs: list[tuple[int, int]]) -> None:
    tracker = GapTracker()
    seen: set[int] = set()
    missing: set[int] = set()
    late = repeated = 0
    for first, more in runs:
        ids = set(range(first, first + more + 1))
        before = {each for each in ids if seen and each <= max(seen)}
        late, repeated = late + len(before & missing), repeated + len(before - missing)
        expected = set(range(max(seen) + 1, first)) if seen else set()
        gap = tracker.see("X", first, first + more)
        assert expected == (set(range(gap.first_missing, gap.last_missing + 1)) if gap else set())
        missing = (missing | expected) - ids
        seen |= ids
    assert (tracker.out_of_order, tracker.duplicates) == (late, repeated)
