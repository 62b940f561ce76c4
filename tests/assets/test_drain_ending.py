"""A drain that is asked to end, or is due, commits what it has read and ends as planned; two never work at once."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from k2_assets.kept_runs.heartbeat import STOPPED, Beat, read_beat
from k2_assets.kept_runs.kept_run import KeptRun, kept_drain
from k2_assets.kept_runs.liveness import successor_waits
from k2_assets.kept_runs.run_lease import leased, leases_in
from k2_assets.kept_runs.stop_signals import signals_set
from k2_core.errors import LockBusy
from k2_core.settings import Drain, Kafka, Registry, Settings
from tests.assets.own_topic import NEVER_S, TRADE, OwnTopic

RUN = """
import sys
import dagster as dg
from k2_assets.drain.drain_job import drain_job
from k2_assets.lake.lake_resource import Lake
from k2_core import logs
from k2_core.settings import Settings
from tests.venue_builder import a_venue

logs.configure("dagster")
settings = Settings.model_validate_json(sys.argv[1])
with dg.DagsterInstance.local_temp(sys.argv[3]) as instance:
    job = drain_job(settings, [a_venue(VENUE=sys.argv[2])])
    done = job.execute_in_process(instance=instance, resources={"lake": Lake(settings)}, raise_on_error=False)
    print(instance.get_run_by_id(done.run_id).status.value, flush=True)
"""


@pytest.fixture
def own_topic(broker: str, registry: str, tmp_path: Path) -> OwnTopic:
    return OwnTopic(broker, registry, tmp_path / "home")


def settings_of(own_topic: OwnTopic, **drain: float) -> Settings:
    return Settings(
        home=own_topic.home,
        kafka=Kafka(bootstrap_servers=own_topic.broker),
        registry=Registry(url=own_topic.registry_url),
        drain=Drain(commit_interval_s=NEVER_S, beat_interval_s=0.1, **drain),
    )


@contextmanager
def a_run(settings: Settings, own_topic: OwnTopic, dagster_home: Path) -> Iterator["subprocess.Popen[str]"]:
    dagster_home.mkdir(exist_ok=True)
    command = [sys.executable, "-c", RUN, settings.model_dump_json(), own_topic.venue.VENUE, str(dagster_home)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            yield process
        finally:
            process.kill()


def await_beat(settings: Settings, phase: str) -> Beat:
    deadline = time.monotonic() + 120  # noqa: TID251  # a test's patience
    while (beat := read_beat(kept_drain(settings).store, "main")) is None or beat.phase != phase:
        assert time.monotonic() < deadline, beat  # noqa: TID251
        time.sleep(0.02)
    return beat


@pytest.mark.integration
def test_drain_that_is_terminated_commits_what_it_has_read_and_succeeds(own_topic: OwnTopic, tmp_path: Path) -> None:
    settings = settings_of(own_topic)
    with a_run(settings, own_topic, tmp_path) as process:
        await_beat(settings, "waiting")
        time.sleep(3)  # beyond the first commit of a life, which comes early
        own_topic.produce(1_000, kinds=(TRADE,))
        await_beat(settings, "reading")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate()
    assert said.split() == ["SUCCESS"]
    assert await_beat(settings, STOPPED).pid == process.pid
    with own_topic.lane() as lane:  # what was read stands; the rest is Kafka's
        assert lane.layers.drained == lane.layers.vector("bronze")
    read = own_topic.origins("bronze").total()
    assert read > 0
    assert own_topic.origins("silver").total() == read
    logged = [json.loads(line) for line in (settings.home / "logs" / "drain.log").read_text().splitlines()]
    reported = [
        each["event"] for each in logged if each["event"] in {"the run begins", "committed", "the run has ended"}
    ]
    assert (reported[0], reported[-2:]) == ("the run begins", ["committed", "the run has ended"])
    own_topic.drain()
    own_topic.assert_everything_stands_once()


@pytest.mark.integration
def test_drain_that_is_due_hands_over_to_its_successor(own_topic: OwnTopic, tmp_path: Path) -> None:
    settings = settings_of(own_topic, work_minutes=0.05)
    with a_run(settings, own_topic, tmp_path / "first") as first:
        await_beat(settings, "waiting")
        own_topic.produce(500, kinds=(TRADE,))
        with a_run(settings, own_topic, tmp_path / "second") as second:
            assert first.communicate()[0].split() == ["SUCCESS"]
            while await_beat(settings, "waiting").pid != second.pid:
                assert second.poll() is None
            own_topic.produce(500, kinds=(TRADE,))
            second.send_signal(signal.SIGTERM)
            assert second.communicate()[0].split() == ["SUCCESS"]
    own_topic.drain()
    own_topic.assert_everything_stands_once()


@pytest.mark.integration
def test_drain_that_is_due_goes_on_while_nobody_could_follow(own_topic: OwnTopic, tmp_path: Path) -> None:
    settings = settings_of(own_topic, work_minutes=0.1)
    with a_run(settings, own_topic, tmp_path) as process:
        began = await_beat(settings, "waiting")
        assert process.communicate()[0].split() == ["SUCCESS"]
    ended = await_beat(settings, STOPPED)
    assert ended.beat_at > began.due_at


def kept(home: Path, dead_after_s: float = 60) -> KeptRun:
    return kept_drain(Settings(home=home, drain=Drain(dead_after_s=dead_after_s, beat_interval_s=0.1)))


@contextmanager
def a_holder(home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process that holds the lease."""
    holding = (
        "import sys, threading, time; from k2_assets.kept_runs.kept_run import kept_drain\n"
        "from k2_assets.kept_runs.run_lease import leased; from k2_core.settings import Settings\n"
        "with leased(kept_drain(Settings(home=sys.argv[1])), 'first', threading.Event()) as free:\n"
        "    print('holds' if free else 'waits', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", holding, str(home)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"holds\n"
            yield process
        finally:
            process.kill()


def test_lease_passes_to_the_one_that_waits_when_its_holder_is_killed(tmp_path: Path) -> None:
    with a_holder(tmp_path) as holder:
        threading.Timer(0.5, holder.kill).start()
        with leased(kept(tmp_path), "next", threading.Event()) as free:
            assert free
            now = leases_in(kept(tmp_path).folder).holder("main")
            assert now
            assert now.process.pid == os.getpid()


def test_third_run_is_refused_while_one_works_and_another_waits(tmp_path: Path) -> None:
    stop = threading.Event()

    def wait_in_line() -> bool:
        with leased(kept(tmp_path), "second", stop) as free:
            return free

    with a_holder(tmp_path) as holder, ThreadPoolExecutor() as beside:
        second = beside.submit(wait_in_line)
        while not successor_waits(kept(tmp_path)):
            time.sleep(0.02)
        with (
            pytest.raises(LockBusy, match=f"as process {holder.pid}, and another waits"),
            leased(kept(tmp_path, dead_after_s=0.3), "third", threading.Event()),
        ):
            pass
        stop.set()
        assert second.result() is False
    assert not successor_waits(kept(tmp_path))


def test_signals_set_the_event_and_are_given_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    for number in (signal.SIGTERM, signal.SIGINT):
        stop = threading.Event()
        with signals_set(stop):
            os.kill(os.getpid(), number)
            assert stop.wait(60)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
