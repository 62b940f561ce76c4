import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_feeds.trade_ids.gap_tracker import JUMP, REPORTED_REMEMBERED, Gap, GapTracker, Restart, severity
from k2_feeds.trade_ids.id_holes import Hole, Seen

X = "BTCUSDT"
GRACE_S = 2.0


def a_tracker(ids: list[int]) -> GapTracker:
    tracker = GapTracker()
    for each in ids:
        tracker.see(X, each, each)
    return tracker


def reported(tracker: GapTracker) -> list[Gap]:
    return tracker.due(GRACE_S, GRACE_S)


def ids_of(gaps: list[Gap]) -> list[int]:
    return [each for gap in gaps for each in range(gap.first_missing, gap.last_missing + 1)]


def test_due_tells_no_gap_when_ids_rise_by_one() -> None:
    assert reported(a_tracker([5, 6, 7])) == []


def test_due_tells_one_gap_once_when_ids_jump() -> None:
    tracker = a_tracker([5, 9, 10])

    (gap,) = reported(tracker)
    assert gap == Gap(X, 6, 8, JUMP)
    assert gap.missing == 3
    assert reported(tracker) == []


def test_due_waits_until_late_ids_have_had_their_time() -> None:
    tracker = a_tracker([5, 9])

    assert tracker.due(1.5, GRACE_S) == []
    tracker.see(X, 7, 7)
    assert ids_of(tracker.due(0.4, GRACE_S)) == []
    assert ids_of(tracker.due(0.1, GRACE_S)) == [6, 8]


def test_ids_that_come_late_within_the_grace_are_no_gap() -> None:
    tracker = a_tracker([1, 5, 3, 3, 2, 4, 6])

    assert reported(tracker) == []
    assert (tracker.out_of_order, tracker.duplicates) == (3, 1)
    assert tracker.filled == []


def test_ids_that_come_after_they_were_reported_are_known_to_be_there_after_all() -> None:
    tracker = a_tracker([1, 9])
    assert ids_of(reported(tracker)) == [2, 3, 4, 5, 6, 7, 8]

    tracker.see(X, 4, 5)

    assert tracker.filled == [Gap(X, 4, 5)]
    assert reported(tracker) == []


def test_see_counts_a_duplicate_when_an_id_comes_again() -> None:
    tracker = a_tracker([5, 6, 6, 5, 7])

    assert (reported(tracker), tracker.duplicates, tracker.out_of_order) == ([], 2, 0)


def test_see_follows_each_symbol_alone() -> None:
    tracker = a_tracker([1])
    tracker.see("ETHUSDT", 900, 900)
    tracker.see(X, 2, 2)

    assert reported(tracker) == []


def test_ids_below_the_first_are_new_when_they_are_near_it() -> None:
    tracker = a_tracker([100, 99, 97, 101])

    assert ids_of(reported(tracker)) == [98]
    assert (tracker.out_of_order, tracker.duplicates) == (0, 0)
    tracker.see(X, 98, 98)
    tracker.see(X, 5_000_000, 5_000_000)
    tracker = a_tracker([5_000_000, 3, 5_000_001])
    assert (reported(tracker), tracker.duplicates) == ([], 1)


@given(st.sets(st.integers(0, 400), min_size=1))
def test_gaps_are_exactly_the_ids_that_were_not_seen(ids: set[int]) -> None:
    rising = sorted(ids)

    assert ids_of(reported(a_tracker(rising))) == [each for each in range(rising[0], rising[-1]) if each not in ids]


@given(st.lists(st.integers(0, 60), min_size=1), st.data())
def test_gaps_are_exactly_the_ids_that_never_came_whatever_their_order(ids: list[int], data: st.DataObject) -> None:
    tracker, gaps = GapTracker(), list[Gap]()
    for each in ids:
        tracker.see(X, each, each)
        gaps += tracker.due(data.draw(st.sampled_from([0.0, 0.5, GRACE_S])), GRACE_S)
    gaps += reported(tracker)

    missing = [each for each in range(min(ids), max(ids)) if each not in ids]
    assert sorted(set(ids_of(gaps)) - set(ids_of(tracker.filled))) == missing
    assert len(ids_of(gaps)) == len(set(ids_of(gaps)))


@pytest.mark.parametrize(("missing", "grade"), [(1, "warning"), (9, "warning"), (10, "alert"), (100, "alert")])
def test_severity_grows_with_what_is_missing(missing: int, grade: str) -> None:
    assert severity(missing) == grade
    assert severity(101) == "critical"


def test_see_takes_a_snapshot_as_repeats_when_it_overlaps_what_was_seen() -> None:
    tracker = GapTracker()
    tracker.see(X, 100, 120)
    tracker.see(X, 100, 120)
    tracker.see(X, 110, 130)
    tracker.see(X, 131, 131)

    assert reported(tracker) == []
    assert (tracker.duplicates, tracker.out_of_order) == (21 + 11, 0)


def test_see_finds_the_gap_before_a_snapshot_that_does_not_reach_back() -> None:
    tracker = a_tracker([100])
    tracker.see(X, 150, 199)

    assert reported(tracker) == [Gap(X, 101, 149)]


def test_lost_ids_are_a_gap_of_their_own_with_the_reason() -> None:
    tracker = a_tracker([1, 2])
    for each in (5, 6, 7):
        tracker.lose(X, each, each, "dropped")
    tracker.see(X, 8, 8)

    assert reported(tracker) == [Gap(X, 3, 4), Gap(X, 5, 7, "dropped")]


def test_lost_ids_that_were_seen_are_no_gap_and_those_that_come_again_fill_theirs() -> None:
    tracker = a_tracker([1, 2, 3])
    tracker.lose(X, 2, 5, "dropped")
    tracker.see(X, 4, 6)

    assert reported(tracker) == []
    tracker.lose("never seen", 7, 9, "dropped")
    assert reported(tracker) == [Gap("never seen", 7, 9, "dropped")]


def test_reported_holes_are_forgotten_in_the_end_and_others_never() -> None:
    tracker = a_tracker(list(range(0, 2 * 500, 2)))
    assert len(reported(tracker)) == 499
    reported(tracker)

    assert len(tracker.state()[X].holes) == REPORTED_REMEMBERED
    assert len(a_tracker(list(range(0, 2 * 500, 2))).state()[X].holes) == 499


def test_state_brings_a_tracker_back() -> None:
    first = a_tracker([1, 5])
    first.due(GRACE_S, GRACE_S)
    first.see(X, 8, 8)
    second = GapTracker(first.state())
    second.see(X, 10, 10)

    assert reported(second) == [Gap(X, 6, 7), Gap(X, 9, 9)]


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)), st.permutations(range(41)))
def test_what_two_trackers_saw_together_is_not_missing(ours: set[int], theirs: set[int], order: list[int]) -> None:
    tracker = a_tracker([each for each in order if each in ours])
    tracker.learn(a_tracker([each for each in order if each in theirs]))

    both = ours | theirs
    assert ids_of(reported(tracker)) == [
        each for each in range(min(both, default=0), max(both, default=0)) if each not in both
    ]


def test_learn_tells_nothing_twice_and_takes_back_what_was_reported_wrongly() -> None:
    history = a_tracker([1, 4, 8])
    assert ids_of(reported(history)) == [2, 3, 5, 6, 7]
    tracker = a_tracker([6, 7, 8, 9, 12])

    tracker.learn(history)

    assert tracker.filled == [Gap(X, 6, 7)]
    assert reported(tracker) == [Gap(X, 10, 11)]


def test_a_gap_that_was_reported_by_another_is_not_reported_again() -> None:
    tracker = a_tracker([1, 4])
    tracker.lose(X, 2, 3, "jump", reported=True)
    tracker.lose(X, 5, 6, "jump", reported=True)
    tracker.see(X, 9, 9)

    assert reported(tracker) == [Gap(X, 7, 8)]


def frames_at(tracker: GapTracker, ids: range, start_s: int) -> None:
    """See trades ten seconds apart; a frame of these tests is its event time."""
    for step, each in enumerate(ids):
        tracker.see(X, each, each, str((start_s + 10 * step) * 1_000_000).encode())


def a_timed_tracker(seen: dict[str, Seen] | None = None) -> GapTracker:
    return GapTracker(seen, lambda payload, _: None if payload == b"snapshot" else int(payload))


def test_no_gap_is_reported_over_ids_that_begin_again() -> None:
    tracker = a_timed_tracker()
    frames_at(tracker, range(1000, 1030), 0)
    frames_at(tracker, range(3, 31), 7220)

    assert reported(tracker) == []
    assert tracker.restarts == [Restart(X, 1029, 3)]
    frames_at(tracker, range(35, 36), 7500)
    assert ids_of(reported(tracker)) == [31, 32, 33, 34]


def test_ids_that_begin_again_at_once_are_followed_a_minute_later_and_no_gap_is_reported() -> None:
    tracker = a_timed_tracker()
    frames_at(tracker, range(1000, 1030), 0)
    frames_at(tracker, range(1, 31), 300)

    assert reported(tracker) == []
    assert [each.last_before for each in tracker.restarts] == [1029]


def test_gaps_that_were_open_when_ids_begin_again_are_reported() -> None:
    tracker = a_timed_tracker()
    frames_at(tracker, range(1000, 1010), 0)
    frames_at(tracker, range(1012, 1014), 120)
    frames_at(tracker, range(1, 4), 7200)

    assert ids_of(reported(tracker)) == [1010, 1011]


def test_neither_one_frame_nor_snapshots_make_ids_begin_again() -> None:
    tracker = a_timed_tracker()
    frames_at(tracker, range(1000, 1010), 0)
    for _ in range(3):
        tracker.see(X, 5, 5, b"900000000")
    frames_at(tracker, range(1010, 1011), 910)
    tracker.see(X, 6, 6, b"990000000")
    tracker.see(X, 990, 1005, b"snapshot")

    assert (tracker.restarts, reported(tracker)) == ([], [])


def test_ids_begin_again_after_a_restart_of_the_feed_as_well() -> None:
    before = a_timed_tracker()
    frames_at(before, range(1000, 1010), 0)
    tracker = a_timed_tracker(before.state())
    frames_at(tracker, range(1, 4), 7200)

    assert tracker.restarts == [Restart(X, 1009, 1)]


def test_a_hole_that_an_earlier_version_wrote_is_still_a_reported_one() -> None:
    stored = b'{"first":3,"last":4,"told":true,"reason":"the venue\'s ids jump","age_s":2.5}'
    hole = msgspec.json.decode(stored, type=Hole)
    assert hole.reported
    assert msgspec.json.encode(hole) == stored
