"""Epochs: where the trade ids of an instrument begin again, and what that means for its trades. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Key = tuple[str, str]
"""Exchange and symbol."""
BREAK_US: Final = 60_000_000
"""An id that comes again more than so much later, by event time, is another trade's; sooner it is the same trade."""


class Epochs:
    """The starts of all epochs but the first, of every instrument that has any; µs since 1970, rising.

    An epoch is a function of event time alone: a trade belongs to the newest one that starts at or before it.
    """

    def __init__(self, starts: Mapping[Key, Iterable[int]] | None = None) -> None:
        self._starts = {key: tuple(sorted(each)) for key, each in (starts or {}).items()}

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._starts)

    def starts(self, exchange: str, symbol: str) -> tuple[int, ...]:
        """Return the starts of an instrument's epochs; empty while its ids have never begun again."""
        return self._starts.get((exchange, symbol), ())

    def names(self, exchange: str, symbols: Sequence[str], event_us: npt.NDArray[np.int64]) -> Sequence[str]:
        """Return the symbols as the key of a ``message_id`` spells them: a later epoch's with its start."""
        if not any((exchange, symbol) in self._starts for symbol in set(symbols)):
            return symbols
        return [self.name(exchange, symbol, at) for symbol, at in zip(symbols, event_us.tolist(), strict=True)]

    def name(self, exchange: str, symbol: str, event_us: int) -> str:
        """Return one symbol as :meth:`names` does."""
        starts = self.starts(exchange, symbol)
        # A trade at the very start belongs to the epoch. Ids of the first epoch keep the plain symbol, so that those
        # which were made before anybody knew of a second one stay what they are.
        place = bisect_right(starts, event_us)
        return f"{symbol}|{starts[place - 1]}" if place else symbol


NO_EPOCHS: Final = Epochs()
