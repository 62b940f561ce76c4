"""A real drain: its sign of life, and how it waits for what is not there yet."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from k2_assets.drain.drain_loop import drain
from k2_assets.kept_runs.heartbeat import read_beat
from k2_assets.kept_runs.kept_run import kept_drain
from k2_assets.lake.lake_resource import Lake
from k2_core.settings import Drain, Kafka, Registry, Settings
from tests.assets.own_topic import OwnTopic

pytestmark = pytest.mark.integration

DRAIN = """
import sys, threading
from k2_assets.drain.drain_loop import drain
from k2_assets.lake.lake_resource import Lake
from k2_core.settings import Settings
from tests.venue_builder import a_venue

settings = Settings.model_validate_json(sys.argv[1])
print("ready", flush=True)
for lane, committed in drain(Lake(settings), [a_venue(VENUE=sys.argv[2])], "child", threading.Event()):
    if committed is not None:
        print("committed", flush=True)
"""


@pytest.fixture
def own_topic(broker: str, registry: str, tmp_path: Path) -> OwnTopic:
    return OwnTopic(broker, registry, tmp_path / "home")


def settings_of(own_topic: OwnTopic) -> Settings:
    return Settings(
        home=own_topic.home,
        kafka=Kafka(bootstrap_servers=own_topic.broker),
        registry=Registry(url=own_topic.registry_url),
        drain=Drain(commit_interval_s=0.1, commit_rows=1_000, work_minutes=5, beat_interval_s=0.2),
    )


@contextmanager
def a_drain(own_topic: OwnTopic) -> Iterator["subprocess.Popen[str]"]:
    """Run a drain in a process of its own; killed at the latest when the block ends."""
    settings = settings_of(own_topic).model_dump_json()
    command = [sys.executable, "-c", DRAIN, settings, own_topic.venue.VENUE]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.stderr and process.stderr.read()
            yield process
        finally:
            process.kill()


def await_a_commit(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "committed\n", process.stderr and process.stderr.read()


def drain_the_rest(own_topic: OwnTopic) -> None:
    """Drain in this process until nothing more arrives, and end as a run does."""
    stop = threading.Event()
    deadline = time.monotonic() + 120  # noqa: TID251
    for lane, _ in drain(Lake(settings_of(own_topic)), [own_topic.venue], "the last", stop):
        if own_topic.owns(lane) and lane.reader.lag(lane.layers.drained) == 0:
            stop.set()
        assert time.monotonic() < deadline, own_topic.vectors()  # noqa: TID251


def test_a_drain_beats_while_it_works_and_says_when_it_has_stopped(own_topic: OwnTopic) -> None:
    store = kept_drain(settings_of(own_topic)).store
    own_topic.produce(500)
    with a_drain(own_topic) as process:
        await_a_commit(process)
        beat = read_beat(store, "main")
        assert beat is not None
        assert (beat.run_id, beat.pid) == ("child", process.pid)
        assert beat.process.is_running()
    process.wait()
    assert not beat.process.is_running()

    drain_the_rest(own_topic)

    last = read_beat(store, "main")
    assert last is not None
    assert (last.run_id, last.phase) == ("the last", "stopped")


def test_a_drain_waits_for_a_topic_and_goes_on_when_it_is_there(
    own_topic: OwnTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when Kafka, the registry or the feed comes up later than the drain."""
    own_topic.admin.delete_topics([own_topic.topic_name])[own_topic.topic_name].result(timeout=30)
    monkeypatch.setattr("k2_assets.drain.drain_loop._RETRY_FIRST_S", 0.1)
    made = threading.Timer(1.5, own_topic.make_topic)
    made.start()
    topic_is_back = threading.Event()

    def produce_when_it_is_there() -> None:
        made.join()
        own_topic.produce(40)
        topic_is_back.set()

    producing = threading.Thread(target=produce_when_it_is_there)
    producing.start()
    stop = threading.Event()
    for lane, _ in drain(Lake(settings_of(own_topic)), [own_topic.venue], "patient", stop):
        if topic_is_back.is_set() and own_topic.owns(lane) and lane.reader.lag(lane.layers.drained) == 0:
            stop.set()
    producing.join()

    own_topic.assert_everything_stands_once()
