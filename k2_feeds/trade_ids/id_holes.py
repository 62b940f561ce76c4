"""Holes in rising ids, and what two observers of the same ids know together. Pure."""

from typing import Final

import msgspec

_BEYOND: Final = 1 << 63


class Hole(msgspec.Struct, eq=False):
    """Ids that did not come, from ``first`` to ``last``, both included; ``reported`` once an event has named them."""

    first: int
    last: int
    reported: bool = msgspec.field(default=False, name="told")  # the name in files of every version
    reason: str = "the venue's ids jump"
    age_s: float = 0.0

    def without(self, first: int, last: int) -> list["Hole"]:
        """Return the holes that are left when ids within this one came: none, one or two."""
        pieces = ((self.first, first - 1), (last + 1, self.last))
        return [Hole(low, high, self.reported, self.reason, self.age_s) for low, high in pieces if low <= high]

    def less(self, others: list["Hole"]) -> list["Hole"]:
        """Return the holes that are left without the ids of ``others``, which are in order."""
        left = [self]
        for other in others:
            if other.first <= self.last and other.last >= self.first:
                left = [*left[:-1], *left[-1].without(max(other.first, self.first), min(other.last, self.last))]
        return left


class Seen(msgspec.Struct):
    """What an observer knows of a symbol: all from ``lowest`` to below ``expected`` came, but not the holes' ids.

    ``newest_us`` is the event time of the newest of them; None when it is not known.
    """

    lowest: int
    expected: int
    holes: list[Hole] = []
    newest_us: int | None = None

    def unseen(self) -> list[Hole]:
        """Return all ids that this observer did not see, below and above too, in order."""
        below = [Hole(0, self.lowest - 1)] if self.lowest > 0 else []
        return [*below, *self.holes, Hole(self.expected, _BEYOND)]


def overlap(one: Seen, other: Seen) -> Seen:
    """Return what two observers know together: an id is missing if neither saw it, and reported if either did so."""
    # Both lists of unseen ids are in order. Walk them side by side: what overlaps neither observer has seen.
    lowest, expected = min(one.lowest, other.lowest), max(one.expected, other.expected)
    holes, ours, theirs = [], one.unseen(), other.unseen()
    a = b = 0
    while a < len(ours) and b < len(theirs):
        first = max(ours[a].first, theirs[b].first, lowest)
        last = min(ours[a].last, theirs[b].last, expected - 1)
        if first <= last:
            reasons = [each.reason for each in (ours[a], theirs[b]) if each.reason != Hole(0, 0).reason]
            reported = ours[a].reported or theirs[b].reported
            holes.append(Hole(first, last, reported, next(iter(reasons), ours[a].reason)))
        if ours[a].last < theirs[b].last:
            a += 1
        else:
            b += 1
    newest_us = max((each.newest_us for each in (one, other) if each.newest_us is not None), default=None)
    return Seen(lowest, expected, holes, newest_us)
