"""How late a venue's events are at receipt, and how far its clock is from ours. Pure: samples in, sentences out."""

from collections import deque
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from k2_core.clock import NS_PER_SECOND, NS_PER_US
from k2_core.trades import MAX_FUTURE_NS

WINDOW_S: Final = 60.0
_PROOF_SAMPLES: Final = 10
_PROOF_S: Final = 10.0
_RUN: Final = 3  # stale events in a row; one alone may be a venue's straggler
_AHEAD: Final = 3  # frames within the window that came before they were sent; fewer may be wrong themselves
_FLOWING_S: Final = 10.0


class Sample(NamedTuple):
    """One event with a time, as it was received. ``published_us`` is None where the venue does not say."""

    symbol: str
    received_ns: int
    event_us: int
    published_us: int | None

    @property
    def lag_s(self) -> float:
        """How old the event was at receipt."""
        return (self.received_ns - self.event_us * NS_PER_US) / NS_PER_SECOND

    @property
    def delay_s(self) -> float:
        """From the venue's sending, or else the event, to our receipt: transport, and the clocks' difference."""
        sent_us = self.event_us if self.published_us is None else self.published_us
        return (self.received_ns - sent_us * NS_PER_US) / NS_PER_SECOND


@dataclass
class _Second:
    """What came within one second: how many samples, and the least delays of its frames, by their receipt."""

    second: int
    samples: int = 0
    least: dict[int, float] = field(default_factory=dict)


class Lateness:
    """Judge samples of one venue.

    Transport only adds to a delay, so the least delay within a minute is nearly the difference of the clocks. If frames
    arrive before they were sent, the venue's clock is ahead by at least that; it is behind by at most the least delay
    of many frames. An event with a time that silver rejects is never the newest, since all later ones would be older.
    """

    def __init__(self, stale_after_s: float, skew_s: float) -> None:
        self.newest: Sample | None = None
        self._stale_after_s, self._skew_s = stale_after_s, skew_s
        self._seconds: deque[_Second] = deque()
        self._runs: dict[str, tuple[int, Sample]] = {}

    def see(self, sample: Sample) -> None:
        believed = sample.event_us * NS_PER_US <= sample.received_ns + MAX_FUTURE_NS
        if believed and (self.newest is None or sample.event_us >= self.newest.event_us):
            self.newest = sample
        second = sample.received_ns // NS_PER_SECOND
        if not self._seconds or self._seconds[-1].second < second:
            self._seconds.append(_Second(second))
        newest, least = self._seconds[-1], self._seconds[-1].least
        newest.samples += 1
        # The least delays are enough: the largest of too many is dropped.
        least[sample.received_ns] = min(sample.delay_s, least.get(sample.received_ns, sample.delay_s))
        if len(least) > _AHEAD:
            del least[max(least, key=least.__getitem__)]
        # A symbol is stale after some stale events in a row; one fresh event ends that.
        run, _ = self._runs.get(sample.symbol, (0, sample))
        self._runs[sample.symbol] = run + 1 if sample.lag_s > self._stale_after_s else 0, sample

    def skew_s(self, now_ns: int) -> float | None:
        """Return by how much the venue's clock is ahead of ours, negative when it is behind; None if nothing is known.

        Within transport's time: a venue with our time shows a little below zero.
        """
        while self._seconds and self._seconds[0].second < now_ns / NS_PER_SECOND - WINDOW_S:
            self._seconds.popleft()
        # A few frames with negative delays may be wrong themselves: from the third least one on they prove a skew.
        delays = sorted(delay_s for each in self._seconds for delay_s in each.least.values())
        proved = [delay_s for number, delay_s in enumerate(delays) if delay_s >= 0 or number >= _AHEAD - 1]
        return -proved[0] if proved else None

    def skewed(self, now_ns: int) -> dict[tuple[str, str], str]:
        """Return a sentence when the clocks differ by too much."""
        skew_s = self.skew_s(now_ns)
        if skew_s is None or abs(skew_s) <= self._skew_s:
            return {}
        if skew_s < 0:  # a clock that is behind looks like slow transport until there are many samples
            samples, first = sum(each.samples for each in self._seconds), self._seconds[0].second
            if samples < _PROOF_SAMPLES or self._seconds[-1].second - first < _PROOF_S:
                return {}
        way = "ahead of" if skew_s > 0 else "behind"
        return {("", ""): f"the venue's clock is {abs(skew_s):.1f} s {way} ours"}

    def stale(self) -> dict[tuple[str, str], str]:
        """Return a sentence for each symbol whose events are old when they come."""
        return {
            (symbol, ""): f"events of {symbol} are {sample.lag_s:.0f} s old when they come"
            for symbol, (run, sample) in self._runs.items()
            if run >= _RUN
        }

    def keep(self, symbols: Set[str]) -> None:
        """Forget all symbols but these: what is no longer fed is not stale."""
        for symbol in self._runs.keys() - symbols:
            del self._runs[symbol]

    def lagging(self, now_ns: int) -> dict[tuple[str, str], str]:
        """Return a sentence when events come, but the newest of all is old."""
        if self.newest is None or not self._seconds:
            return {}
        if now_ns / NS_PER_SECOND - self._seconds[-1].second > _FLOWING_S:
            return {}
        lag_s = (now_ns - self.newest.event_us * NS_PER_US) / NS_PER_SECOND
        if lag_s <= self._stale_after_s:
            return {}
        return {("", ""): f"events come, but the newest of all is {lag_s:.0f} s old"}
