import math
import random

import pytest
from prometheus_client import REGISTRY

from k2_feeds.health.memory_trend import SAMPLES, Memory, Sample, leak_score

MB = 1_000_000


def samples_of(*megabytes: float) -> list[Sample]:
    return [Sample(10.0 * number, int(size * MB)) for number, size in enumerate(megabytes)]


def test_leak_score_is_the_rate_when_memory_grows_steadily() -> None:
    assert leak_score(samples_of(*(100 + number / 36 for number in range(360)))) == pytest.approx(10.0)  # 10 MB an hour
    assert leak_score(samples_of(*(100 - number / 36 for number in range(360)))) == pytest.approx(-10.0)


def test_leak_score_is_near_zero_when_memory_only_moves() -> None:
    chance = random.Random(1)
    assert abs(leak_score(samples_of(*(100 + chance.uniform(-20, 20) for _ in range(360))))) < 1
    assert abs(leak_score(samples_of(*(100 + 20 * math.sin(number) for number in range(360))))) < 1
    assert leak_score(samples_of(*[100.0] * 360)) == 0.0


def test_leak_score_says_nothing_of_a_few_samples() -> None:
    assert leak_score([]) == 0.0
    assert leak_score(samples_of(*range(100, 129))) == 0.0


def test_memory_is_sampled_and_exported_and_its_history_is_bounded() -> None:
    memory = Memory()
    for _ in range(SAMPLES + 5):
        memory.sample()

    assert len(memory.samples) == SAMPLES
    found = REGISTRY.get_sample_value("k2_process_memory_rss_bytes")
    assert found is not None
    assert 10 * MB < found < 10_000 * MB
    assert REGISTRY.get_sample_value("k2_memory_leak_score") is not None
