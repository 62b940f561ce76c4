"""How much memory this process uses, and whether it grows: a straight line through the samples."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import psutil

from k2_core import clock, metrics

SAMPLE_S: Final = 10.0
SAMPLES: Final = 360  # an hour's
_FEWEST: Final = 30  # five minutes' growth says nothing of an hour
_BYTES_PER_MB: Final = 1_000_000
_S_PER_HOUR: Final = 3600.0


class Sample(NamedTuple):
    """Resident memory at a moment of the monotonic clock."""

    at_s: float
    rss_bytes: int


def leak_score(samples: Sequence[Sample]) -> float:
    """Return the slope of memory over time in MB an hour, times R², how well a straight line describes it.

    A leak grows steadily: its score is its rate. What only moves up and down has a small R², and a score near 0. So
    have fewer than 30 samples.
    """
    if len(samples) < _FEWEST:
        return 0.0
    mean_s = sum(sample.at_s for sample in samples) / len(samples)
    mean_bytes = sum(sample.rss_bytes for sample in samples) / len(samples)
    apart = [(sample.at_s - mean_s, sample.rss_bytes - mean_bytes) for sample in samples]
    together = sum(seconds * size for seconds, size in apart)
    of_time, of_size = sum(seconds * seconds for seconds, _ in apart), sum(size * size for _, size in apart)
    if not of_time or not of_size:
        return 0.0
    r_squared = together * together / (of_time * of_size)
    return together / of_time * _S_PER_HOUR / _BYTES_PER_MB * r_squared


class Memory:
    """Sample this process's memory."""

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._process = psutil.Process()

    def sample(self) -> None:
        self.samples.append(Sample(clock.monotonic(), self._process.memory_info().rss))
        metrics.PROCESS_MEMORY.set(self.samples[-1].rss_bytes)
        metrics.MEMORY_LEAK_SCORE.set(leak_score(self.samples))

    async def run(self) -> None:
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_S)
