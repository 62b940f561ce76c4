"""Find holes in a venue's trade ids. Pure: ids in, gaps out."""

from collections import deque
from typing import Final, NamedTuple

_REMEMBERED_GAPS: Final = 64


class Gap(NamedTuple):
    """Ids that were not received: from ``first_missing`` to ``last_missing``, both included."""

    symbol: str
    first_missing: int
    last_missing: int

    @property
    def missing(self) -> int:
        """How many ids are missing."""
        return self.last_missing - self.first_missing + 1


class GapTracker:
    """Follow the ids of every symbol of one venue, over all its connections.

    Only for venues whose ids rise by one per symbol. A symbol's first id only sets where it stands: nothing is known
    of what came before. Ids below the expected one are either ``out_of_order`` (they fill one of the last 64 gaps)
    or duplicates, such as those of a snapshot; neither is a gap, and neither moves the expected id.
    """

    def __init__(self) -> None:
        self._expected: dict[str, int] = {}
        self._open: dict[str, deque[tuple[int, int]]] = {}
        self.out_of_order = 0
        self.duplicates = 0

    def see(self, symbol: str, first_id: int, last_id: int) -> Gap | None:
        """Take ids without a hole between them; return the gap before them, if there is one."""
        expected = self._expected.get(symbol)
        if expected == first_id or expected is None:
            self._expected[symbol] = last_id + 1
            return None
        if first_id > expected:
            self._expected[symbol] = last_id + 1
            self._open.setdefault(symbol, deque(maxlen=_REMEMBERED_GAPS)).append((expected, first_id - 1))
            return Gap(symbol, expected, first_id - 1)
        self._late(symbol, first_id, min(last_id, expected - 1))
        if last_id >= expected:
            self._expected[symbol] = last_id + 1
        return None

    def _late(self, symbol: str, first_id: int, last_id: int) -> None:
        """Count late ids and close what they fill of the gaps."""
        filled = 0
        for gap in tuple(self._open.get(symbol, ())):
            first, last = max(gap[0], first_id), min(gap[1], last_id)
            if first <= last:
                self._fill(symbol, gap, first, last)
                filled += last - first + 1
        self.out_of_order += filled
        self.duplicates += last_id - first_id + 1 - filled

    def _fill(self, symbol: str, gap: tuple[int, int], first_id: int, last_id: int) -> None:
        gaps = self._open[symbol]
        gaps.remove(gap)
        for rest in ((gap[0], first_id - 1), (last_id + 1, gap[1])):
            if rest[0] <= rest[1]:
                gaps.append(rest)


def severity(missing: int) -> str:
    """Return how bad a gap is: ``warning`` below 10 missing, ``alert`` to 100, ``critical`` above."""
    if missing < 10:  # noqa: PLR2004  # the bounds that the docstring names
        return "warning"
    return "alert" if missing <= 100 else "critical"  # noqa: PLR2004
