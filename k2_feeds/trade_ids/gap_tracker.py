"""Find holes in a venue's trade ids. Pure: ids in, gaps out, and no clock."""

from collections.abc import Callable
from copy import copy
from typing import Final, NamedTuple

from k2_core.epochs import BREAK_US
from k2_feeds.trade_ids.id_holes import Hole, Seen, overlap

REPORTED_REMEMBERED: Final = 64  # of a symbol: reported holes that a late id may still fill
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
        return self.last_missing - self.first_missing + 1


class Restart(NamedTuple):
    """A symbol whose ids begin again: the last of the old ones that was seen, and the first of the new."""

    symbol: str
    last_before: int
    first_after: int


class GapTracker:
    """Follow the ids of every symbol of one venue, over all its connections.

    Only for venues whose ids rise by one per symbol. A symbol's first id sets the expected id: nothing is known of the
    ids before it. Ids that jump open a hole, and late ids fill it (``out_of_order``). :meth:`due` reports a hole once,
    when it is still open after the grace. All other ids below the expected one are ``duplicates``, such as those of a
    snapshot: they are no gap and do not change the expected id.

    Ids begin again when two frames, snapshots excepted, bring ids below the expected one, and their event time is over
    a minute later than the newest one. The tracker then follows the new ids, and reports no gap over the break.
    """

    def __init__(
        self,
        seen: dict[str, Seen] | None = None,
        moment: Callable[[bytes, str], int | None] = lambda _payload, _symbol: None,
    ) -> None:
        """Begin with what was seen before.

        Args:
            seen: of each symbol.
            moment: returns the newest event time, in µs, of a symbol's trades in a frame; None if it is not known.
                Without such times, ids never begin again.
        """
        self.out_of_order = 0
        self.duplicates = 0
        self.filled: list[Gap] = []
        """Reported gaps that late ids have filled after all; the reader empties it."""
        self.restarts: list[Restart] = []
        """Symbols whose ids began again; the reader empties it."""
        self._moment = moment
        # Of the newest frame only the bytes are kept: its event time is needed rarely, and parsed when it is.
        self._newest: dict[str, bytes | int | None] = {}
        # The first frame that may be a restart: the id that was expected then, and the first and last id of the frame.
        self._again: dict[str, tuple[int, int, int]] = {}
        self._closed: list[Gap] = []  # open holes of ids that ended by a restart
        self._expected: dict[str, int] = {}
        self._lowest: dict[str, int] = {}
        self._holes: dict[str, list[Hole]] = {}
        for symbol, each in (seen or {}).items():
            self._set(symbol, each)

    def see(self, symbol: str, first_id: int, last_id: int, payload: bytes | None = None) -> None:
        """Take ids without a hole between them, and the frame that carries them."""
        if self._expected.get(symbol) == first_id:
            self._expected[symbol] = last_id + 1
            self._newest[symbol] = payload
        else:
            self._unexpected(symbol, first_id, last_id, payload)

    def lose(self, symbol: str, first_id: int, last_id: int, reason: str, *, reported: bool = False) -> None:
        """Take ids that are known to be lost, unless they were seen; ``reported`` if that was done for them already."""
        expected = self._expected.get(symbol, first_id)
        # Below the expected id: open holes get the reason. A hole counts as reported only if all of it was.
        for hole in self._holes.get(symbol, ()):
            if hole.first <= last_id and hole.last >= first_id and not hole.reported:
                hole.reason = reason
                hole.reported = reported and first_id <= hole.first and hole.last <= last_id
        # From the expected id on: a hole of unknown cause up to the lost ids, and one of the lost ids themselves.
        if last_id >= expected:
            if first_id > expected:
                self._open(symbol, expected, first_id - 1, JUMP)
            self._open(symbol, max(first_id, expected), last_id, reason, reported=reported)
            self._lowest.setdefault(symbol, first_id)
            self._expected[symbol] = last_id + 1

    def due(self, elapsed_s: float, grace_s: float) -> list[Gap]:
        """Let holes age by ``elapsed_s``, a time in which ids could have come; return those to report now."""
        gaps, self._closed = self._closed, []
        for symbol, holes in self._holes.items():
            for hole in holes:
                if hole.reported:
                    continue
                hole.age_s += elapsed_s
                if hole.age_s >= grace_s:
                    hole.reported = True
                    gaps.append(Gap(symbol, hole.first, hole.last, hole.reason))
            if len(holes) > REPORTED_REMEMBERED:  # keep the open holes, and the newest of those that were reported
                for hole in [each for each in holes if each.reported][:-REPORTED_REMEMBERED]:
                    holes.remove(hole)
        return gaps

    def state(self) -> dict[str, Seen]:
        """Return what is known of every symbol, as copies."""
        return {symbol: self._seen(symbol, expected) for symbol, expected in self._expected.items()}

    def learn(self, history: "GapTracker") -> None:
        """Add what another tracker saw, before or at the same time: an id that either of them saw is not missing."""
        for symbol, known in history.state().items():
            expected = self._expected.get(symbol)
            both = known if expected is None else overlap(known, self._seen(symbol, expected))
            self._set(symbol, both)
            for hole in (each for each in known.holes if each.reported):
                came = hole.less(both.holes)  # reported as missing by the other tracker, and seen by this one
                self.filled += [Gap(symbol, each.first, each.last, each.reason) for each in came]

    def _set(self, symbol: str, seen: Seen) -> None:
        self._lowest[symbol], self._expected[symbol] = seen.lowest, seen.expected
        self._holes[symbol] = list(seen.holes)
        self._newest[symbol] = seen.newest_us

    def _seen(self, symbol: str, expected: int) -> Seen:
        holes = list(map(copy, self._holes.get(symbol, ())))
        return Seen(self._lowest[symbol], expected, holes, self._newest_us(symbol))

    def _unexpected(self, symbol: str, first_id: int, last_id: int, payload: bytes | None) -> None:
        expected = self._expected.get(symbol)
        if expected is None:
            self._lowest[symbol], self._expected[symbol] = first_id, last_id + 1
        elif first_id > expected:
            self._open(symbol, expected, first_id - 1, JUMP)
        else:
            # A frame that is over a minute newer than the newest one cannot be late: its ids begin again.
            newest_us, at_us = self._newest_us(symbol), self._moment(payload, symbol) if payload else None
            after_us = 0 if newest_us is None or at_us is None else at_us - newest_us
            if last_id < expected and after_us > BREAK_US:
                self._begin_again(symbol, first_id, last_id, payload)
                return
            self._late(symbol, first_id, min(last_id, expected - 1), reach_back=after_us <= 0)
        if expected is None or last_id >= expected:
            self._expected[symbol], self._newest[symbol] = last_id + 1, payload

    def _newest_us(self, symbol: str) -> int | None:
        newest = self._newest.get(symbol)
        if isinstance(newest, bytes):
            newest = self._newest[symbol] = self._moment(newest, symbol)
        return newest

    def _begin_again(self, symbol: str, first_id: int, last_id: int, payload: bytes | None) -> None:
        """Follow new ids once a second frame brings some; report what is still missing of the old ids at once."""
        expected, *before = self._again.get(symbol, (-1, 0, 0))
        # The first frame, or a repetition of it, proves nothing: remember it, and wait for another one.
        if expected != self._expected[symbol] or before == [first_id, last_id]:
            self._again[symbol] = (self._expected[symbol], first_id, last_id)
            return
        del self._again[symbol]
        self._closed += [Gap(symbol, h.first, h.last, h.reason) for h in self._holes.get(symbol, ()) if not h.reported]
        self.restarts.append(Restart(symbol, self._expected[symbol] - 1, min(before[0], first_id)))
        for name in (self._holes, self._expected, self._lowest):
            name.pop(symbol, None)
        for run in sorted([(before[0], before[1]), (first_id, last_id)]):
            self._unexpected(symbol, *run, payload)

    def _open(self, symbol: str, first_id: int, last_id: int, reason: str, *, reported: bool = False) -> None:
        """Open a hole above all others, or widen the newest one if it ends where this one begins."""
        holes = self._holes.setdefault(symbol, [])
        newest = holes[-1] if holes else None
        if newest is not None and (newest.last + 1, newest.reason, newest.reported) == (first_id, reason, reported):
            newest.last, newest.age_s = last_id, 0.0
        else:
            holes.append(Hole(first_id, last_id, reported=reported, reason=reason))

    def _late(self, symbol: str, first_id: int, last_id: int, *, reach_back: bool) -> None:
        """Count late ids and take them out of the holes. ``reach_back``: ids below the lowest may be new ones."""
        lowest, new, filled = self._lowest[symbol], 0, 0
        # Ids below the lowest are new, and open a hole up to it. Too far below, the frame is old, not late.
        if reach_back and first_id < lowest <= last_id + 1 + _REACH:
            if last_id + 1 < lowest:
                self._holes.setdefault(symbol, []).insert(0, Hole(last_id + 1, lowest - 1))
            self._lowest[symbol] = first_id
            new = min(last_id + 1, lowest) - first_id
        holes = self._holes.get(symbol, [])
        for hole in [each for each in holes if each.first <= last_id and each.last >= first_id]:
            first, last = max(hole.first, first_id), min(hole.last, last_id)
            at = holes.index(hole)
            holes[at : at + 1] = hole.without(first, last)
            if hole.reported:
                self.filled.append(Gap(symbol, first, last, hole.reason))
            filled += last - first + 1
        self.out_of_order += filled
        self.duplicates += last_id - first_id + 1 - filled - new


def severity(missing: int) -> str:
    """Return how bad a gap is: ``warning`` below 10 missing, ``alert`` to 100, ``critical`` above."""
    if missing < 10:  # noqa: PLR2004  # the bounds that the docstring names
        return "warning"
    return "alert" if missing <= 100 else "critical"  # noqa: PLR2004
