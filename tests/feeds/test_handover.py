import asyncio
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from k2_core.errors import PartError, SettingsError
from k2_core.settings import Settings
from k2_feeds import handover
from k2_feeds.handover import Feeder, TakeOver


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def a_feeder(process: subprocess.Popen[bytes], *venues: str, supervisor: int = 0) -> Feeder:
    return Feeder(process.pid, psutil.Process(process.pid).create_time(), 9101, venues, supervisor)


def a_process() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_a_pid_that_is_used_again_feeds_nothing_and_is_never_ended(settings: Settings) -> None:
    process = a_process()
    try:
        stale = a_feeder(process, "binance")._replace(started=1_000_000.0)
        handover.claim(settings, stale, "binance")
        stale.process.terminate()

        assert handover.feeder_of(settings, "binance") is None
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


async def test_a_predecessor_ends_once_all_of_its_venues_are_fed(settings: Settings) -> None:
    process = a_process()
    try:
        taking_over = TakeOver([a_feeder(process, "binance", "kraken")])
        first = asyncio.create_task(taking_over.ended("binance"))
        await asyncio.sleep(0.3)
        assert process.poll() is None
        assert not first.done()
        assert await taking_over.ended("coinbase") is None
        second = asyncio.create_task(taking_over.ended("kraken"))
        await asyncio.to_thread(process.wait)
        async with asyncio.timeout(30):
            gone = await asyncio.gather(first, second)
        assert {feeder.pid for feeder in gone if feeder} == {process.pid}
    finally:
        process.kill()
        process.wait()


COUNTS_SIGTERM = """
import signal, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
print("listens", flush=True)
while not asked:
    time.sleep(0.01)
time.sleep(1)
print(len(asked), flush=True)
"""


async def test_a_predecessor_of_several_venues_is_asked_to_end_once() -> None:
    """A second SIGTERM would kill a feed that has given up its handlers and still ends."""
    with subprocess.Popen([sys.executable, "-c", COUNTS_SIGTERM], stdout=subprocess.PIPE) as process:  # noqa: ASYNC220
        try:
            assert process.stdout
            assert process.stdout.readline() == b"listens\n"
            venues = ("binance", "kraken", "coinbase")
            taking_over = TakeOver([a_feeder(process, *venues)])
            async with asyncio.timeout(60):
                await asyncio.gather(*map(taking_over.ended, venues))
            assert process.stdout.read() == b"1\n"
        finally:
            process.kill()


def test_a_supervised_feed_is_handed_over_by_request_and_a_part_never(settings: Settings) -> None:
    process = a_process()
    try:
        with pytest.raises(PartError, match=r"nothing feeds kraken .* k2 feed run kraken"):
            handover.request_handover(settings, "kraken")
        alone = a_feeder(process, "kraken")
        handover.claim(settings, alone, "kraken")
        with pytest.raises(PartError, match="k2 feed run kraken --take-over"):
            handover.request_handover(settings, "kraken")
        assert not handover.request_file(settings).exists()

        watched = a_feeder(process, "kraken", supervisor=psutil.Process().pid)
        handover.claim(settings, watched, "kraken")
        assert handover.request_handover(settings, "kraken") == watched
        assert handover.request_file(settings).read_bytes() == b'{"venue": "kraken"}'
        with pytest.raises(PartError, match=f"process {process.pid} still feeds it"):
            handover.await_successor(settings, "kraken", watched, 0.2)
    finally:
        process.kill()
        process.wait()


def test_a_venue_that_is_being_taken_over_has_no_second_successor(settings: Settings) -> None:
    process = a_process()
    try:
        handover.announce(settings, a_feeder(process, "binance"))
        with pytest.raises(PartError, match=f"process {process.pid} takes over binance just now"):
            handover.predecessors(settings, ("binance",), take_over=True)
        handover.give_up(settings, a_feeder(process, "binance"))
        assert handover.predecessors(settings, ("binance",), take_over=True) == []
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("content", [b"[1,1.0,9101,[", b'[1,1.0,9101,["kr\xff"],0]'])
def test_a_file_that_cannot_be_read_names_nobody(settings: Settings, content: bytes) -> None:
    handover.make_folder(settings)
    (handover.feed_folder(settings) / "kraken.pid.json").write_bytes(content)

    assert handover.feeder_of(settings, "kraken") is None


def test_a_home_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "home").touch()

    with pytest.raises(SettingsError, match=f"K2_HOME={tmp_path}/home cannot be used: Not a directory"):
        handover.make_folder(Settings(home=tmp_path / "home"))
