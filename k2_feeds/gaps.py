"""Find holes in a venue's trade ids. Pure: ids in, gaps out, and no clock."""

from typing import Final, NamedTuple

from k2_feeds.holes import Hole, Seen, overlap

TOLD_REMEMBERED: Final = 64  # of a symbol: told holes that a late id may still fill
JUMP: Final = "the venue's ids jump"
_REACH: Final = 1000  # ids that come so far below a symbol's first are judged; further down they are long ago


class Gap(NamedTuple):
    """Ids that were not received: from ``first_missing`` to ``last_missing``, both included."""

    symbol: str
    first_missing: int
    last_missing: int
    reason: str = JUMP

    @property
    def missing(self) -> int:
        """How many ids are missing."""
        return self.last_missing - self.first_missing + 1


class GapTracker:
    """Follow the ids of every symbol of one venue, over all its connections.

    Only for venues whose ids rise by one per symbol. A symbol's first id only sets where it stands: nothing is known
    of what came before. Ids that jump open a hole; late ones fill it (``out_of_order``); one that is still open after
    the grace is told by :meth:`due`, once. All other ids below the expected one are ``duplicates``, such as those of a
    snapshot: no gap, and they do not move the expected id.
    """

    def __init__(self, seen: dict[str, Seen] | None = None) -> None:
        self.out_of_order = 0
        self.duplicates = 0
        self.filled: list[Gap] = []
        """Told gaps that late ids have filled after all; whoever reads this empties it."""
        self._expected: dict[str, int] = {}
        self._lowest: dict[str, int] = {}
        self._holes: dict[str, list[Hole]] = {}
        for symbol, each in (seen or {}).items():
            self._set(symbol, each)

    def see(self, symbol: str, first_id: int, last_id: int) -> None:
        """Take ids without a hole between them."""
        if self._expected.get(symbol) == first_id:
            self._expected[symbol] = last_id + 1
        else:
            self._unexpected(symbol, first_id, last_id)

    def lose(self, symbol: str, first_id: int, last_id: int, reason: str, *, told: bool = False) -> None:
        """Take ids that are known to be lost, unless they were seen; ``told`` when it was told already."""
        expected = self._expected.get(symbol, first_id)
        for hole in self._holes.get(symbol, ()):
            if hole.first <= last_id and hole.last >= first_id and not hole.told:
                hole.reason = reason
                hole.told = told and first_id <= hole.first and hole.last <= last_id
        if last_id >= expected:
            if first_id > expected:
                self._open(symbol, expected, first_id - 1, JUMP)
            self._open(symbol, max(first_id, expected), last_id, reason, told=told)
            self._lowest.setdefault(symbol, first_id)
            self._expected[symbol] = last_id + 1

    def due(self, elapsed_s: float, grace_s: float) -> list[Gap]:
        """Let holes age by ``elapsed_s``, a time in which ids could have come; return those that are old enough."""
        gaps = []
        for symbol, holes in self._holes.items():
            for hole in holes:
                if hole.told:
                    continue
                hole.age_s += elapsed_s
                if hole.age_s >= grace_s:
                    hole.told = True
                    gaps.append(Gap(symbol, hole.first, hole.last, hole.reason))
            if len(holes) > TOLD_REMEMBERED:
                _forget(holes)
        return gaps

    def state(self) -> dict[str, Seen]:
        """Return what is known of every symbol, as copies."""
        return {symbol: self._seen(symbol, expected) for symbol, expected in self._expected.items()}

    def learn(self, history: "GapTracker") -> None:
        """Judge anew with what another tracker saw, before or at the same time: what either saw is not missing."""
        for symbol, known in history.state().items():
            expected = self._expected.get(symbol)
            both = known if expected is None else overlap(known, self._seen(symbol, expected))
            self._set(symbol, both)
            for hole in (each for each in known.holes if each.told):
                came = hole.less(both.holes)
                self.filled += [Gap(symbol, each.first, each.last, each.reason) for each in came]

    def _set(self, symbol: str, seen: Seen) -> None:
        self._lowest[symbol], self._expected[symbol] = seen.lowest, seen.expected
        self._holes[symbol] = list(seen.holes)

    def _seen(self, symbol: str, expected: int) -> Seen:
        return Seen(self._lowest[symbol], expected, [hole.copy() for hole in self._holes.get(symbol, ())])

    def _unexpected(self, symbol: str, first_id: int, last_id: int) -> None:
        expected = self._expected.get(symbol)
        if expected is None:
            self._lowest[symbol], self._expected[symbol] = first_id, last_id + 1
            return
        if first_id > expected:
            self._open(symbol, expected, first_id - 1, JUMP)
        else:
            self._late(symbol, first_id, min(last_id, expected - 1))
        self._expected[symbol] = max(expected, last_id + 1)

    def _open(self, symbol: str, first_id: int, last_id: int, reason: str, *, told: bool = False) -> None:
        """Open a hole above all others, or widen the newest one when both are one."""
        holes = self._holes.setdefault(symbol, [])
        newest = holes[-1] if holes else None
        if newest is not None and (newest.last + 1, newest.reason, newest.told) == (first_id, reason, told):
            newest.last, newest.age_s = last_id, 0.0
        else:
            holes.append(Hole(first_id, last_id, told=told, reason=reason))

    def _late(self, symbol: str, first_id: int, last_id: int) -> None:
        """Count late ids and close what they fill of the holes."""
        lowest = self._lowest[symbol]
        new = self._reach_back(symbol, lowest, first_id, last_id) if first_id < lowest else 0
        filled = 0
        for hole in [each for each in self._holes.get(symbol, ()) if each.first <= last_id and each.last >= first_id]:
            first, last = max(hole.first, first_id), min(hole.last, last_id)
            self._fill(symbol, hole, first, last)
            filled += last - first + 1
        self.out_of_order += filled
        self.duplicates += last_id - first_id + 1 - filled - new

    def _reach_back(self, symbol: str, lowest: int, first_id: int, last_id: int) -> int:
        """Take ids below the first that was seen; return how many are new."""
        if last_id + 1 < lowest - _REACH:
            return 0
        if last_id + 1 < lowest:
            self._holes.setdefault(symbol, []).insert(0, Hole(last_id + 1, lowest - 1))
        self._lowest[symbol] = first_id
        return min(last_id + 1, lowest) - first_id

    def _fill(self, symbol: str, hole: Hole, first_id: int, last_id: int) -> None:
        holes = self._holes[symbol]
        at = holes.index(hole)
        holes[at : at + 1] = hole.without(first_id, last_id)
        if hole.told:
            self.filled.append(Gap(symbol, first_id, last_id, hole.reason))


def _forget(holes: list[Hole]) -> None:
    """Keep those that are not told, and the newest of those that are."""
    told = [hole for hole in holes if hole.told]
    for hole in told[:-TOLD_REMEMBERED]:
        holes.remove(hole)


def severity(missing: int) -> str:
    """Return how bad a gap is: ``warning`` below 10 missing, ``alert`` to 100, ``critical`` above."""
    if missing < 10:  # noqa: PLR2004  # the bounds that the docstring names
        return "warning"
    return "alert" if missing <= 100 else "critical"  # noqa: PLR2004
