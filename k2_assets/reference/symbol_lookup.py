"""What a venue's symbol meant when a frame was received: versions of the register, and what feeds subscribed to. Pure.

A symbol is unknown only when no version that held then has it and no feed had subscribed to it. Where the register
holds nothing of the venue yet, symbols mean what they spell.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from k2_core.instruments import Instrument, unsplit
from k2_core.venues.venue_protocol import Venue

_ALWAYS: Final = -(1 << 63)
_FOR_EVER: Final = (1 << 63) - 1


class Version(NamedTuple):
    """An instrument as the register has it, from ``from_ns`` until before ``to_ns``."""

    venue_symbol: str
    from_ns: int
    to_ns: int | None
    instrument: Instrument


class _Steps(NamedTuple):
    """What a symbol means over time: the answer of each start holds until the next."""

    starts_ns: list[int]
    answers: list[Instrument | None]

    def place(self, received_ns: int) -> int:
        return bisect_right(self.starts_ns, received_ns) - 1


class Register:
    """The register of one venue as it was read. Its answer for a moment never depends on when it is asked."""

    def __init__(self, versions: Iterable[Version], subscribed_ns: Mapping[str, int], venue: Venue) -> None:
        """Keep what was read.

        Args:
            versions: of the venue, in any order.
            subscribed_ns: when a feed first subscribed to a symbol.
            venue: whose symbols are looked up.
        """
        self._versions: dict[str, list[Version]] = {}
        for version in versions:
            self._versions.setdefault(version.venue_symbol, []).append(version)
        starts = (version.from_ns for of_symbol in self._versions.values() for version in of_symbol)
        self._begins_ns = min(starts, default=_FOR_EVER)
        self._subscribed_ns = subscribed_ns
        self._spelled: Callable[[str], Instrument | None] = venue.instrument_of
        self._steps: dict[str, _Steps] = {}

    def of(self, venue_symbol: str, received_ns: int) -> Instrument | None:
        """Return what a symbol meant at a moment; None when it was unknown."""
        steps = self._steps_of(venue_symbol)
        return steps.answers[steps.place(received_ns)]

    def __call__(self, symbols: Sequence[str], received_ns: npt.NDArray[np.int64]) -> list[Instrument | None]:
        """Return :meth:`of` for many rows."""
        # Symbols are few and seldom change their meaning: if none does between the first and the last row, one answer
        # for each symbol is enough.
        if not symbols:
            return []
        first, last = int(received_ns.min()), int(received_ns.max())
        steps = {symbol: self._steps_of(symbol) for symbol in set(symbols)}
        meant = {symbol: each.answers[each.place(first)] for symbol, each in steps.items()}
        if any(each.place(first) != each.place(last) for each in steps.values()):
            return [self.of(symbol, at) for symbol, at in zip(symbols, received_ns.tolist(), strict=True)]
        return [meant[symbol] for symbol in symbols]

    def _steps_of(self, symbol: str) -> _Steps:
        if symbol in self._steps:
            return self._steps[symbol]
        # The meaning can change only where a version begins or ends, where the register begins, and where a feed first
        # subscribed. It is judged at each of these edges; an edge that changes nothing is no step.
        versions = self._versions.get(symbol, [])
        edges = {_ALWAYS, self._begins_ns, self._subscribed_ns.get(symbol, _FOR_EVER)}
        edges |= {edge for each in versions for edge in (each.from_ns, each.to_ns) if edge is not None}
        starts, answers = [_ALWAYS], [self._judge(symbol, versions, _ALWAYS)]
        for start in sorted(edges):
            answer = self._judge(symbol, versions, start)
            if answer != answers[-1]:
                starts.append(start)
                answers.append(answer)
        self._steps[symbol] = _Steps(starts, answers)
        return self._steps[symbol]

    def _judge(self, symbol: str, versions: list[Version], at_ns: int) -> Instrument | None:
        # A version that held decides. Without one, a symbol means what it spells if a feed had subscribed to it, or if
        # the register held nothing yet. A subscribed symbol that cannot be split is an instrument all the same.
        for each in versions:
            if each.from_ns <= at_ns and (each.to_ns is None or at_ns < each.to_ns):
                return each.instrument
        subscribed = self._subscribed_ns.get(symbol, _FOR_EVER) <= at_ns
        if subscribed or at_ns < self._begins_ns:
            return self._spelled(symbol) or (unsplit(symbol) if subscribed else None)
        return None
