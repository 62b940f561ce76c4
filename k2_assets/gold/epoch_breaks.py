"""Where the trade ids of one instrument begin again: the rule of epochs over a set of trades. Pure.

A trade breaks when its id is at or below that of a trade of its epoch more than a minute earlier. Breaking trades that
follow each other open an epoch when they came in at least two frames, snapshots aside; so one odd frame opens none.
Everything is judged by event time: in which order trades arrived, or were read, changes nothing.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from k2_core.epochs import BREAK_US

_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]
_FRAMES: Final = 2


@dataclass(frozen=True)
class Breaks:
    """The starts of the epochs after the first, and the times of trades that break without opening one; in µs."""

    starts: tuple[int, ...]
    odd_us: tuple[int, ...]


def find_breaks(times_us: _Ints, ids: _Ints, frames: npt.NDArray[np.uint64], heard: _Bools) -> Breaks:
    """Find the epochs in trades of one instrument; all arguments in parallel, in any order.

    Args:
        times_us: event times.
        ids: of the venue.
        frames: the frame of each, as a number.
        heard: whether the frame was heard as it happened: no snapshot, no repair. A trade may have several copies.
    """
    order = np.lexsort((ids, times_us))  # by time, then id; copies of a trade are then neighbours
    times_us, ids, frames, heard = times_us[order], ids[order], frames[order], heard[order]
    first_copy = np.append(True, (np.diff(times_us) != 0) | (np.diff(ids) != 0))[: len(ids)]
    trade_of = np.cumsum(first_copy) - 1
    times_us, ids = times_us[first_copy], ids[first_copy]
    starts: list[int] = []
    odd: list[int] = []
    begin = 0
    while begin < len(ids):  # once for each epoch, from its first trade on
        epoch_times, epoch_ids = times_us[begin:], ids[begin:]
        broken = breaking(epoch_times, epoch_ids)
        start = len(epoch_ids)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], broken, [False]]).astype(np.int8)))
        for first, end in edges.reshape(-1, 2).tolist():
            # The breaking trades [first, end) follow each other. One frame and its copies begin with the same trade, so
            # a run opens an epoch when its frames begin with two different ones.
            chosen = heard & (trade_of >= begin + first) & (trade_of < begin + end)
            _, first_rows = np.unique(frames[chosen], return_index=True)
            if len(np.unique(trade_of[chosen][first_rows])) >= _FRAMES:
                start = _start(epoch_times, epoch_ids, first)
                starts.append(int(epoch_times[start]))
                break
        odd += epoch_times[:start][broken[:start]].tolist()
        begin += start
    return Breaks(tuple(starts), tuple(odd))


def breaking(times_us: _Ints, ids: _Ints) -> _Bools:
    """Return which trades of an epoch break; ``times_us`` rise."""
    # A trade breaks when the highest id of all trades more than a minute earlier is at or above its own.
    earlier = np.searchsorted(times_us, times_us - BREAK_US, "left")
    highest = np.maximum.accumulate(ids)
    found: _Bools = (earlier > 0) & (ids <= highest[np.maximum(earlier - 1, 0)])
    return found


def _start(times_us: _Ints, ids: _Ints, opening: int) -> int:
    """Return where the sequence begins of which ``opening`` is the first trade that breaks."""
    # When the old sequence had lasted less than a minute, the first trades of the new one do not break themselves. So
    # the new one begins where the ids fall furthest since the last trade that ``opening`` breaks with.
    earlier = int(np.searchsorted(times_us, times_us[opening] - BREAK_US, "left"))
    over = int(np.flatnonzero(ids[:earlier] >= ids[opening])[-1])
    falls = ids[over:opening] - ids[over + 1 : opening + 1]
    return over + int(np.argmax(falls)) + 1
