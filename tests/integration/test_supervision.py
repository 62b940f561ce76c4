"""Drains killed in every way are replaced, never by two; runs without a process are found; a quiet market kills nobody.

The whole platform with its own settings, under load: nothing here is set to hurry.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator

import dagster as dg
import psutil
import pytest

from k2_assets.kept_runs.heartbeat import WAITING, Beat
from k2_core.settings import Ports
from tests.integration.whole_platform import eventually
from tests.reliability.measured import Faults
from tests.reliability.whole import WholePlatform, a_whole_platform, now_s, with_no_mercy

pytestmark = [
    pytest.mark.integration,
    pytest.mark.reliability("supervision"),
    pytest.mark.drawn("platforms"),
]

RATE = "100"
HUNG_AFTER_S = 40

Kill = Callable[[WholePlatform, Beat], None]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, free_ports: Callable[[], Ports]) -> Iterator[WholePlatform]:
    home = tmp_path_factory.mktemp("supervised")
    found = a_whole_platform(home, free_ports(), K2_DRAIN__HUNG_AFTER_S=str(HUNG_AFTER_S))
    with found.up("--source", "simulator", "--rate", RATE):
        yield found


def the_drain(_: WholePlatform, drain: Beat) -> None:
    os.kill(drain.pid, signal.SIGKILL)


def stopping_the_drain(_: WholePlatform, drain: Beat) -> None:
    os.kill(drain.pid, signal.SIGSTOP)


def the_drain_and_the_code_server(platform: WholePlatform, drain: Beat) -> None:
    with_no_mercy(platform.pid("dagster-code"))
    with_no_mercy(drain.pid)


def the_drain_and_the_daemon(platform: WholePlatform, drain: Beat) -> None:
    with_no_mercy(platform.pid("dagster-daemon"))
    with_no_mercy(drain.pid)


def the_fork_server(platform: WholePlatform, drain: Beat) -> None:
    """The code server then believes that the drain, which works on, is gone."""
    parent = psutil.Process(drain.pid).parent()
    assert parent
    assert parent.ppid() == platform.pid("dagster-code")
    parent.kill()


WAYS: dict[str, Kill] = {
    "drain killed": the_drain,
    "fork server of runs killed": the_fork_server,
    "drain stopped (SIGSTOP)": stopping_the_drain,
    "drain and code server killed": the_drain_and_the_code_server,
    "drain and Dagster's daemon killed": the_drain_and_the_daemon,
}

LONG_ONLY = {"drain killed", "fork server of runs killed", "drain and Dagster's daemon killed"}


@pytest.mark.parametrize("way", [pytest.param(way, marks=[pytest.mark.soak] * (way in LONG_ONLY)) for way in WAYS])
def test_drain_killed_in_any_way_is_replaced_and_never_by_two(
    platform: WholePlatform, way: str, soak: bool, reliability: Faults
) -> None:
    for _ in range(5 if soak else 1):
        eventually(lambda: platform.is_ready("dagster-code") and platform.is_ready("dagster-daemon"), platform.status)
        drain = platform.working_drain()
        began_s = now_s()
        WAYS[way](platform, drain)
        following = platform.replaced(drain)
        recovered_s = now_s() - began_s
        assert not drain.process.is_running()
        old = platform.ended(drain.run_id)
        assert old.dagster_run.status is dg.DagsterRunStatus.FAILURE
        assert old.end_time is not None
        assert platform.run(following.run_id).dagster_run.status is dg.DagsterRunStatus.STARTED
        platform.assert_never_two_drains()
        reliability.record(way, noticed_s=old.end_time - began_s, recovered_s=recovered_s)


def test_refine_killed_with_the_code_server_is_replaced_and_gold_goes_on(
    platform: WholePlatform, soak: bool, reliability: Faults
) -> None:
    for _ in range(5 if soak else 1):
        eventually(lambda: platform.is_ready("dagster-code"), platform.status)
        refine, began_s = platform.working("refine"), now_s()
        with_no_mercy(platform.pid("dagster-code"))
        with_no_mercy(refine.pid)
        platform.replaced(refine)
        recovered_s = now_s() - began_s
        old = platform.ended(refine.run_id)
        assert old.dagster_run.status is dg.DagsterRunStatus.FAILURE
        assert old.end_time is not None
        before = platform.rows_in("gold_crypto_trades")
        eventually(lambda before=before: platform.rows_in("gold_crypto_trades") > before, platform.status)
        fault = "refine and code server killed"
        reliability.record(fault, noticed_s=old.end_time - began_s, recovered_s=recovered_s)


@pytest.mark.soak  # the short form is a test of the sensor's
def test_quiet_market_kills_nobody(platform: WholePlatform, reliability: Faults) -> None:
    drain = platform.working_drain()
    platform.stop_venue()
    try:
        began_s = now_s()
        while now_s() < began_s + HUNG_AFTER_S + 20:
            time.sleep(1)
        beat = platform.beat()
    finally:
        platform.let_venue_go_on()
    assert beat
    assert (beat.pid, beat.run_id, beat.phase) == (drain.pid, drain.run_id, WAITING)
    assert beat.process.is_running()
    reliability.record("market quiet for longer than a drain may hang")


def test_down_ends_the_drain_as_planned(platform: WholePlatform) -> None:
    """The last test of this platform."""
    drain = platform.working_drain()
    platform.k2("down")
    assert platform.run(drain.run_id).dagster_run.status is dg.DagsterRunStatus.SUCCESS
    assert not drain.process.is_running()
    platform.assert_never_two_drains()
