"""Keep within a venue's limits: so many connection attempts, or messages, within a period. Opens no socket."""

import asyncio
from collections import deque
from typing import Final

from k2_core import clock
from k2_core.venues.limits import Limits

MESSAGES_PER_S: Final = 20.0
"""To a venue that publishes no limit; far below what any bans for."""
_MARGIN_S: Final = 0.05  # the venue's clock and the network's delays are not ours
_PONGS: Final = 1  # a venue counts them as messages
LONGEST_HOLD_S: Final = 3600.0


class Pace:
    """At most ``count`` times within any ``period_s``, for all that share it; whoever asks first goes first."""

    def __init__(self, count: int, period_s: float) -> None:
        self._times: deque[float] = deque(maxlen=max(count, 1))
        self._period_s = period_s + _MARGIN_S
        self.held_until = 0.0  # by the monotonic clock: until then nobody goes, as the venue asked
        self._queue = asyncio.Lock()

    async def wait(self) -> None:
        async with self._queue:
            while True:
                full = len(self._times) == self._times.maxlen
                due_at = max(self._times[0] + self._period_s if full else 0.0, self.held_until)
                if (left_s := due_at - clock.monotonic()) <= 0:
                    break
                await asyncio.sleep(left_s)
            self._times.append(clock.monotonic())

    def hold(self, seconds: float) -> None:
        """Let nobody go for so long, because the venue asked for it."""
        self.held_until = max(self.held_until, clock.monotonic() + min(seconds, LONGEST_HOLD_S))


class Paces:
    """A venue's limits for this process: its connections share them, as they share an address."""

    def __init__(self, limits: Limits) -> None:
        self.attempts = Pace(limits.connection_attempts, limits.connection_attempts_period_s)
        per_s = limits.messages_per_s or MESSAGES_PER_S
        self.messages = Pace(int(per_s) - _PONGS, 1.0)
