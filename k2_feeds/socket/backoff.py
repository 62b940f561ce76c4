"""How long to wait before the next attempt. Pure, but for chance."""

import random
from collections.abc import Callable


class Backoff:
    """Delays that double from ``first_s`` to ``last_s``, each with jitter of ±50 %, and never end."""

    def __init__(self, first_s: float, last_s: float, chance: Callable[[], float] = random.random) -> None:
        self._first_s, self._last_s, self._chance = first_s, last_s, chance
        self._next_s = first_s

    def delay_s(self) -> float:
        delay, self._next_s = self._next_s, min(self._next_s * 2, self._last_s)
        return delay * (0.5 + self._chance())

    def reset(self) -> None:
        self._next_s = self._first_s
