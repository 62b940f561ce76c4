import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from k2_core import process_identity
from k2_core.settings import Ports, Settings, child_environment
from k2_stack import processes, stack_state
from k2_stack.supervisor import end_all

PROGRAM = Path(__file__).with_name("small_platform.py")
WITHIN_S = 240


class Small:
    """The small platform in a home of its own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        ports = {f"K2_PORTS__{name.upper()}": str(port) for name, port in settings.ports}
        self.environment = child_environment(K2_HOME=str(settings.home), **ports)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def k2(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "k2_stack", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.k2("status", "--json").stdout)
        return found

    def part(self, name: str) -> stack_state.PartState:
        now = stack_state.read(self.settings)
        assert now
        found = now.part(name)
        assert found
        return found

    def runs(self) -> bool:
        now = stack_state.read(self.settings)
        return now is not None and now.ready

    def left(self) -> list[psutil.Process]:
        return processes.marked(self.settings.home)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S  # noqa: TID251
    while not condition():
        assert time.monotonic() < deadline, f"not within {WITHIN_S} s"  # noqa: TID251
        time.sleep(0.1)


@pytest.fixture
def small(tmp_path: Path, free_ports: Callable[[], Ports]) -> Iterator[Small]:
    platform = Small(Settings(home=tmp_path, ports=free_ports()))
    yield platform
    now = stack_state.read(platform.settings)
    if now:
        now.identity.kill()
    processes.end_marked(tmp_path, grace_s=0)


@pytest.fixture
def running(small: Small) -> Iterator[tuple[Small, subprocess.Popen[str]]]:
    with small.start() as supervisor:
        until(lambda: small.runs() or supervisor.poll() is not None)
        assert supervisor.poll() is None, supervisor.communicate()
        yield small, supervisor
        supervisor.kill()


def test_status_tells_each_part_when_the_platform_runs(running: tuple[Small, subprocess.Popen[str]]) -> None:
    small, _ = running

    found = small.status()

    assert set(found) == {
        *("ready", "source", "api_key", "home", "parts", "lag", "tables", "newest_candle", "layers", "warnings"),
        "alerts",
    }
    assert (found["ready"], found["source"], found["home"]) == (True, "simulator", str(small.settings.home))
    registry, feed = found["parts"]
    assert set(registry) == {"name", "state", "pid", "port", "url", "rss_mb", "restarts", "message"}
    assert (registry["name"], registry["state"], registry["port"]) == (
        "registry",
        "ready",
        small.settings.ports.registry,
    )
    assert psutil.pid_exists(feed["pid"])
    assert feed["rss_mb"] > 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_supervisor_leaves_no_process_when_it_is_asked_to_end(
    running: tuple[Small, subprocess.Popen[str]], number: signal.Signals
) -> None:
    small, supervisor = running
    assert len(small.left()) == 3

    supervisor.send_signal(number)

    assert supervisor.wait(WITHIN_S) == 0
    assert small.left() == []


def test_down_leaves_no_process_when_the_platform_runs(running: tuple[Small, subprocess.Popen[str]]) -> None:
    small, supervisor = running

    done = small.k2("down")

    assert (done.returncode, done.stdout) == (0, "K2 has ended.\n")
    assert supervisor.wait(WITHIN_S) == 0
    assert small.left() == []
    assert small.status()["ready"] is False


def test_down_ends_orphans_when_the_supervisor_was_killed(running: tuple[Small, subprocess.Popen[str]]) -> None:
    small, supervisor = running
    supervisor.kill()
    supervisor.wait()
    assert [part["state"] for part in small.status()["parts"]] == ["orphaned", "orphaned"]

    done = small.k2("down")

    assert done.stdout == "K2 has ended, with 3 processes that no supervisor held any more.\n"
    assert small.left() == []
    assert small.k2("down").stdout == f"Nothing of {small.settings.home} is running.\n"


def test_down_ends_orphans_when_nothing_was_noted(running: tuple[Small, subprocess.Popen[str]]) -> None:
    small, supervisor = running
    supervisor.kill()
    supervisor.wait()
    (small.settings.home / "run" / "stack.json").unlink()

    assert small.k2("down").returncode == 0

    assert small.left() == []


def test_up_takes_over_when_the_supervisor_before_was_killed(running: tuple[Small, subprocess.Popen[str]]) -> None:
    small, supervisor = running
    supervisor.kill()
    supervisor.wait()
    before = small.part("registry").pid

    with small.start() as second:
        until(lambda: small.runs() and small.part("registry").pid != before)
        second.terminate()
        said, _ = second.communicate(timeout=WITHIN_S)

    assert "Ended 3 processes that an earlier run had left." in said
    assert small.left() == []


def test_up_says_so_when_it_runs_already(running: tuple[Small, subprocess.Popen[str]]) -> None:
    small, supervisor = running

    second = small.k2("up", "--source", "simulator")

    assert second.returncode == 1
    assert second.stderr == (
        f"k2: K2 is already running in {small.settings.home} (pid {supervisor.pid}): see `k2 status`, or end it with "
        "`k2 down`.\n"
    )
    assert small.runs()


def test_part_is_started_again_when_it_was_killed(running: tuple[Small, subprocess.Popen[str]]) -> None:
    small, _ = running
    before = small.part("feed").pid
    assert before

    os.kill(before, signal.SIGKILL)

    until(lambda: small.part("feed").restarts == 1)
    assert "killed by SIGKILL" in small.part("feed").message
    until(small.runs)
    feed = next(part for part in small.status()["parts"] if part["name"] == "feed")
    assert (feed["restarts"], feed["message"]) == (1, "restarted after it was killed by SIGKILL")
    assert feed["pid"] not in {None, before}


def test_successor_is_kept_when_somebody_asked_for_a_handover(running: tuple[Small, subprocess.Popen[str]]) -> None:
    small, _ = running
    predecessor = small.part("feed").pid

    (small.settings.home / "handover.request").touch()

    until(lambda: small.part("feed").pid not in {None, predecessor} and small.part("feed").state == "ready")
    assert small.part("feed").restarts == 0
    assert predecessor not in {process.pid for process in small.left()}
    assert not (small.settings.home / "handover.request").exists()


def test_process_goes_on_when_its_successor_fails(running: tuple[Small, subprocess.Popen[str]]) -> None:
    small, _ = running
    predecessor = small.part("feed").pid
    request, unable = (small.settings.home / name for name in ("handover.request", "unable"))
    unable.touch()
    request.touch()
    until(lambda: not request.exists())

    until(lambda: len(small.left()) == 3)  # registry, feed and what it breeds: the successor has gone
    assert (small.part("feed").pid, small.part("feed").restarts) == (predecessor, 0)
    unable.unlink()
    request.touch()  # one that failed is in nobody's way
    until(lambda: small.part("feed").pid not in {None, predecessor} and small.part("feed").state == "ready")


def test_part_that_hangs_is_ended_and_started_again(small: Small) -> None:
    small.environment["K2_SUPERVISOR__SILENT_AFTER_S"] = "10"
    with small.start() as supervisor:
        until(small.runs)
        before = small.part("registry").pid
        assert before
        os.kill(before, signal.SIGSTOP)

        until(lambda: small.part("registry").state == stack_state.FAILING)
        assert "does not answer" in small.part("registry").message
        until(lambda: small.part("registry").restarts == 1 and small.runs())

        registry = small.part("registry")
        assert registry.pid not in {None, before}
        assert registry.message.startswith("restarted after it gave no sign of life for ")
        assert small.part("feed").restarts == 0
        assert not psutil.pid_exists(before)
        supervisor.terminate()
        supervisor.wait(WITHIN_S)
    assert small.left() == []


def test_up_starts_nothing_when_a_port_is_taken(small: Small) -> None:
    port = small.settings.ports.feed_health
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with small.start() as supervisor:
            said, _ = supervisor.communicate(timeout=WITHIN_S)

    name = psutil.Process().name()
    assert supervisor.returncode == 1
    assert said == (
        f"k2: port {port}, which the feed needs, is taken by {name} (pid {os.getpid()}): stop that, or choose another "
        "port with K2_PORTS__FEED_HEALTH=…\n"
    )
    assert not (small.settings.home / "logs").exists()


def test_up_leaves_nothing_when_a_step_fails(small: Small) -> None:
    with small.start(
        "import time; time.sleep(2); print('Kafka cannot be fetched.'); raise SystemExit(1)"
    ) as supervisor:
        said, _ = supervisor.communicate(timeout=WITHIN_S)

    assert (supervisor.returncode, said.splitlines()[-1]) == (1, "k2: Kafka cannot be fetched.")
    assert small.left() == []


def test_up_leaves_nothing_when_a_part_ends_while_starting(small: Small) -> None:
    program = "import pathlib; pathlib.Path('http.py').write_text('not Python')"
    with small.start(program) as supervisor:  # parts run in the home folder, where the feed now finds another http
        said, _ = supervisor.communicate(timeout=WITHIN_S)

    assert supervisor.returncode == 1
    assert "ended while starting (exit status 1): NameError" in said.splitlines()[-1]
    assert small.left() == []


def test_detached_up_passes_on_why_it_cannot_start_when_the_home_is_relative(small: Small) -> None:
    small.environment["K2_HOME"] = "here"
    port = small.settings.ports.api
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        done = subprocess.run(
            [sys.executable, "-m", "k2_stack", "up", "--source", "simulator", "--detach"],
            env=small.environment,
            cwd=small.settings.home,
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode == 1
    assert done.stderr.startswith(f"k2: port {port}, which the api needs, is taken by")
    assert [path.name for path in small.settings.home.iterdir()] == ["here"]
    assert not (small.settings.home / "here" / "here").exists()


NOTES_ITS_END = """
import pathlib, signal, sys, time
def end(*_):
    with open("ends", "a") as ends:
        ends.write(sys.argv[1] + "\\n")
    sys.exit()
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1]).touch()
time.sleep(600)
"""


def test_daemon_ends_before_the_code_server_and_the_broker_last(tmp_path: Path) -> None:
    """The daemon calls a run failed whose process ends while it is started."""
    names = ("broker", "dagster-code", "dagster-daemon")
    started = [
        subprocess.Popen([sys.executable, "-c", NOTES_ITS_END, name], cwd=tmp_path, start_new_session=True)
        for name in names
    ]
    deadline = time.monotonic() + WITHIN_S  # noqa: TID251  # a test's patience
    while not all((tmp_path / name).exists() for name in names):
        assert time.monotonic() < deadline  # noqa: TID251
        time.sleep(0.02)
    leaders = [process_identity.of(process.pid) for process in started]
    parts = [
        stack_state.PartState(name, pid=leader.pid, process_started=leader.started)
        for name, leader in zip(names, leaders, strict=True)
        if leader
    ]

    end_all(Settings(home=tmp_path), stack_state.StackState(str(tmp_path), "", 0, 0.0, parts))

    assert [process.wait() for process in started] == [0, 0, 0]
    assert (tmp_path / "ends").read_text().split() == ["dagster-daemon", "dagster-code", "broker"]
