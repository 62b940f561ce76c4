import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from k2_assets.gold.epoch_breaks import Breaks, find_breaks

SECOND = 1_000_000


def found(*trades: tuple[float, int], frames: list[int] | None = None, snapshots: tuple[int, ...] = ()) -> Breaks:
    """The breaks of trades (second, id), each in a frame of its own unless ``frames`` says which."""
    of = np.array(frames or range(len(trades)), dtype=np.uint64)
    times = np.array([round(second * SECOND) for second, _ in trades], dtype=np.int64)
    heard = ~np.isin(of, np.array(snapshots, dtype=np.uint64))
    return find_breaks(times, np.array([number for _, number in trades], dtype=np.int64), of, heard)


def series(start: float, first_id: int, count: int, every_s: float = 10) -> list[tuple[float, int]]:
    return [(start + step * every_s, first_id + step) for step in range(count)]


def starts(*trades: tuple[float, int], frames: list[int] | None = None, snapshots: tuple[int, ...] = ()) -> list[float]:
    return [at / SECOND for at in found(*trades, frames=frames, snapshots=snapshots).starts]


def test_ids_that_rise_never_begin_again() -> None:
    assert found(*series(0, 1, 50)) == Breaks((), ())
    assert found() == Breaks((), ())


def test_a_jump_upward_is_no_break() -> None:
    assert found(*series(0, 1, 10), *series(7200, 1000, 10)) == Breaks((), ())


def test_ids_that_begin_again_open_an_epoch_at_their_first_trade() -> None:
    assert starts(*series(0, 1000, 30), *series(7200, 1, 30)) == [7200]
    assert starts(*series(0, 1000, 30), *series(300, 3, 30)) == [300]  # ten seconds later, the first two lost
    assert starts(*series(0, 1000, 30), *series(7200, 1010, 30)) == [7200]  # above the first, below the last
    assert starts(*series(0, 1, 30), *series(3600, 1, 30), *series(7200, 1, 30)) == [3600, 7200]


def test_ids_that_begin_again_within_the_first_minute_open_one_where_they_fall() -> None:
    assert starts(*series(0, 1000, 5), *series(50, 1, 30)) == [50]


def test_one_frame_opens_none_whatever_it_holds_and_however_often_it_came() -> None:
    old = series(0, 1000, 30)
    frames = list(range(30))
    again = [(7200.0, 5), (7201.0, 6)]

    assert starts(*old, *again, frames=[*frames, 90, 90]) == []
    assert starts(*old, *again, *again, frames=[*frames, 90, 90, 91, 91]) == []
    assert found(*old, *again, frames=[*frames, 90, 90]).odd_us == (7200 * SECOND, 7201 * SECOND)
    assert starts(*old, *again, frames=[*frames, 90, 91]) == [7200]


def test_snapshots_open_none_but_belong_to_what_others_open() -> None:
    old, frames = series(0, 1000, 30), list(range(30))
    snapshot = [(7203.0, 4), (7202.0, 3), (7201.0, 2), (7200.0, 1)]
    more = [(7210.0, 5), (7220.0, 6)]

    assert starts(*old, *snapshot, *snapshot, frames=[*frames, *[90] * 4, *[91] * 4], snapshots=(90, 91)) == []
    assert starts(*old, *snapshot, *more, frames=[*frames, *[90] * 4, 91, 92], snapshots=(90,)) == [7200]


def test_an_old_trade_that_comes_late_is_no_break() -> None:
    assert starts(*series(0, 1000, 30), *series(7200, 1, 30), (15, 1001), (0, 999)) == [7200]


def test_odd_frames_that_do_not_follow_each_other_open_none() -> None:
    assert starts(*series(0, 1000, 30), (300, 5), *series(310, 1030, 10), (500, 6), *series(510, 1040, 5)) == []


def test_ids_a_little_out_of_order_are_no_break() -> None:
    assert starts(*[(number + (7 * number) % 50, number) for number in range(1, 500)]) == []


@given(
    st.lists(st.tuples(st.integers(1, 2000), st.integers(3, 40), st.integers(61, 5000)), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_neither_order_nor_copies_of_trades_change_what_is_found(
    sequences: list[tuple[int, int, int]], random: object
) -> None:
    trades: list[tuple[float, int]] = []
    at = 0.0
    for first_id, count, pause in sequences:
        trades += series(at, first_id, count)
        at = trades[-1][0] + pause
    rows = [(each, frame) for frame, each in enumerate(trades)] * 2
    random.shuffle(rows)  # type: ignore[attr-defined]

    once = found(*trades)

    assert found(*[each for each, _ in rows], frames=[frame for _, frame in rows]) == once
    assert list(once.starts) == sorted(set(once.starts))
    edges = [*once.starts, 10**18]
    for begin, end in zip([-1, *once.starts], edges, strict=True):  # within an epoch, two frames never break together
        assert not found(*[each for each in trades if begin <= each[0] * SECOND < end]).starts
