"""All processes of a platform killed at once under load: ``k2 up`` resumes, and the lake holds what Kafka holds."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from k2_core.settings import Ports
from k2_stack import processes, stack_state
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

UP = ("--source", "simulator", "--rate", "200")
UNDER_LOAD_S = 5


def test_up_resumes_after_everything_was_killed(
    tmp_path: Path, free_ports: Callable[[], Ports], soak: bool, reliability: Faults
) -> None:
    platform = a_whole_platform(tmp_path, free_ports())
    with platform.up(*UP):
        for _ in range(5 if soak else 1):
            platform.working_drain()
            time.sleep(UNDER_LOAD_S)
            kill_everything(platform)
            assert processes.marked(platform.home) == []
            before = platform.origins("bronze_binance_trades").total()
            began_s = now_s()
            platform.k2("up", "--detach", *UP)
            await_rows_beyond(platform, before)
            reliability.record("everything killed, then k2 up", recovered_s=now_s() - began_s)
        assert_nothing_lost_or_doubled(platform, "everything killed, then k2 up", reliability)


def await_rows_beyond(platform: WholePlatform, rows: int) -> None:
    eventually(lambda: platform.origins("bronze_binance_trades").total() > rows, platform.status)


def kill_everything(platform: WholePlatform) -> None:
    """Kill the supervisor and every process of the home with SIGKILL."""
    now = stack_state.read(platform.settings)
    assert now
    with_no_mercy(now.pid)
    while left := processes.marked(platform.home):
        for process in left:
            with_no_mercy(process.pid)
        time.sleep(0.05)
