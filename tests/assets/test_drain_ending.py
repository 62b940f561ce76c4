"""A drain that is asked to end commits what it has read and ends as planned; and there is never a second beside it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from k2_assets.drain.beat import STOPPED, Beat, read_beat
from k2_assets.drain.drain import beat_store
from k2_assets.drain.ending import signals_set
from k2_assets.drain.job import drain_job
from k2_assets.drain.sole import alone
from k2_assets.resources.lake import Lake
from k2_core.errors import LockBusy
from k2_core.settings import Drain, Kafka, Registry, Settings
from tests.assets.rooms import TRADE, Room

RUN = """
import sys
import dagster as dg
from k2_assets.drain.job import drain_job
from k2_assets.resources.lake import Lake
from k2_core import logs
from k2_core.settings import Settings
from k2_core.venues import VENUES
from tests.assets.rooms import a_venue

logs.configure("dagster")
settings = Settings.model_validate_json(sys.argv[1])
VENUES.clear()
VENUES[sys.argv[2]] = a_venue(sys.argv[2])
with dg.DagsterInstance.local_temp(sys.argv[3]) as instance:
    job = drain_job(settings.drain)
    done = job.execute_in_process(instance=instance, resources={"lake": Lake(settings)}, raise_on_error=False)
    print(instance.get_run_by_id(done.run_id).status.value, flush=True)
"""


@pytest.fixture
def room(broker: str, registry: str, tmp_path: Path) -> Room:
    return Room(broker, registry, tmp_path / "home")


def settings_of(room: Room, **drain: float) -> Settings:
    return Settings(
        home=room.home,
        kafka=Kafka(bootstrap_servers=room.broker),
        registry=Registry(url=room.registry_url),
        drain=Drain(commit_interval_s=3600, beat_interval_s=0.1, **drain),
    )


@contextmanager
def a_run(settings: Settings, room: Room, dagster_home: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", RUN, settings.model_dump_json(), room.venue.VENUE, str(dagster_home)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            yield process
        finally:
            process.kill()


def await_beat(settings: Settings, phase: str) -> Beat:
    deadline = time.monotonic() + 120  # noqa: TID251  # a test's patience
    while (beat := read_beat(beat_store(settings), "main")) is None or beat.phase != phase:
        assert time.monotonic() < deadline, beat  # noqa: TID251
        time.sleep(0.02)
    return beat


@pytest.mark.integration
def test_drain_that_is_terminated_commits_what_it_has_read_and_succeeds(room: Room, tmp_path: Path) -> None:
    settings = settings_of(room)
    with a_run(settings, room, tmp_path) as process:
        await_beat(settings, "waiting")
        time.sleep(3)  # beyond the first commit of a life, which comes early
        room.produce(1_000, kinds=(TRADE,))
        await_beat(settings, "reading")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate()
    assert said.split() == ["SUCCESS"]
    assert await_beat(settings, STOPPED).pid == process.pid
    with room.lane() as lane:  # what was read stands; the rest is Kafka's
        assert lane.layers.drained == lane.layers.vector("bronze")
    read = room.origins("bronze").total()
    assert read > 0
    assert room.origins("silver").total() == read
    logged = [json.loads(line) for line in (settings.home / "logs" / "drain.log").read_text().splitlines()]
    told = [
        each["event"] for each in logged if each["event"] in {"the drain begins", "committed", "the drain has ended"}
    ]
    assert (told[0], told[-2:]) == ("the drain begins", ["committed", "the drain has ended"])
    room.drain()
    room.assert_everything_stands_once()


@pytest.mark.integration
def test_second_drain_fails_with_the_first_ones_process_and_leaves_it_alone(room: Room, tmp_path: Path) -> None:
    settings = settings_of(room, dead_after_s=0.5)
    with a_run(settings, room, tmp_path) as first:
        before = await_beat(settings, "waiting")
        with dg.DagsterInstance.ephemeral() as instance, pytest.raises(LockBusy, match=f"as process {first.pid}"):
            drain_job(settings.drain).execute_in_process(instance=instance, resources={"lake": Lake(settings)})
        assert first.poll() is None
        assert await_beat(settings, "waiting").run_id == before.run_id


def test_lock_passes_to_the_next_when_its_holder_is_killed(tmp_path: Path) -> None:
    lock, stop = tmp_path / "run" / "main.lock", threading.Event()
    holding = (
        "import sys, threading, time; from pathlib import Path; from k2_assets.drain.sole import alone\n"
        "with alone(Path(sys.argv[1]), threading.Event(), 0): print('holds', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", holding, str(lock)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"holds\n"
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(LockBusy, match=f"as process {holder.pid}"), alone(lock, stop, 0.3):
            pass
        threading.Timer(0.5, holder.kill).start()
        with alone(lock, stop, 60):
            assert lock.read_text() == str(os.getpid())


def test_waiting_for_the_lock_ends_when_the_run_is_asked_to_end(tmp_path: Path) -> None:
    lock, stop = tmp_path / "main.lock", threading.Event()
    with alone(lock, stop, 0):
        threading.Timer(0.3, stop.set).start()
        with pytest.raises(LockBusy), alone(lock, stop, 3600):
            pass


def test_signals_set_the_event_and_are_given_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    for number in (signal.SIGTERM, signal.SIGINT):
        stop = threading.Event()
        with signals_set(stop):
            os.kill(os.getpid(), number)
            assert stop.wait(60)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
