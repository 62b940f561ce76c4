"""Parts killed under load, in turn: afterwards the lake holds what Kafka holds, each row once.

What the feed could not receive while it was dead is a gap in the venue's ids, no loss: the measure is Kafka's content,
as a plain consumer reads it.
"""

import random
import time
from collections.abc import Callable, Iterator

import pytest

from k2_core.settings import Ports
from tests.integration.whole_platform import eventually
from tests.reliability.measured import Faults
from tests.reliability.whole import (
    WholePlatform,
    a_whole_platform,
    assert_nothing_lost_or_doubled,
    now_s,
    with_no_mercy,
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.reliability("parts"),
    pytest.mark.drawn("platforms"),
]

PARTS = ("broker", "feed", "dagster-code", "dagster-daemon", "registry")
RATE = "200"
UNDER_LOAD_S = 5


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, free_ports: Callable[[], Ports]) -> Iterator[WholePlatform]:
    found = a_whole_platform(tmp_path_factory.mktemp("killed"), free_ports())
    with found.up("--source", "simulator", "--rate", RATE):
        yield found


def test_parts_killed_under_load_lose_and_double_nothing(
    platform: WholePlatform, soak: bool, rng: random.Random, reliability: Faults
) -> None:
    for part in PARTS * 5 if soak else rng.sample(PARTS, 2):
        noticed_s, recovered_s = kill(platform, part)
        reliability.record(f"{part} killed", noticed_s=noticed_s, recovered_s=recovered_s)
    assert_nothing_lost_or_doubled(platform, "these parts killed in turn", reliability)


def kill(platform: WholePlatform, part: str) -> tuple[float, float]:
    """Kill a part under load; return when the supervisor said so, and when a trade stood that was sent afterwards."""
    eventually(lambda: all(platform.is_ready(each) for each in PARTS), platform.status)
    platform.working_drain()
    time.sleep(UNDER_LOAD_S)
    old, began_s = platform.pid(part), now_s()
    with_no_mercy(old)
    eventually(lambda: not platform.is_ready(part) or platform.pid(part) != old, platform.status)
    noticed_s = now_s() - began_s
    eventually(lambda: platform.is_ready(part), platform.status)
    eventually(lambda: newest_received_s(platform) > began_s + noticed_s, platform.status)
    return noticed_s, now_s() - began_s


def newest_received_s(platform: WholePlatform) -> float:
    return max(received for (received,) in platform.rows("silver_binance_trades", "received_ns")) / 1e9
