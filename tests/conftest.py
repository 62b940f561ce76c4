"""Real parts for tests: one broker and one registry a session, on free ports, in a folder of their own."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from k2_core.settings import Ports, Settings, child_environment
from k2_stack import java, probes, processes
from tests.reliability.measured import Reliability

READY_WITHIN_S = 120
RECORDINGS = Path(__file__).parents[2] / "shared" / "recordings"
_MEASURED = pytest.StashKey[Reliability]()

hypothesis_settings.register_profile("k2", deadline=None)  # no test asserts a duration: the machine may be busy
hypothesis_settings.load_profile("k2")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long forms of the suites that inject faults")
    parser.addoption("--reliability", metavar="PAGE", help="write what was measured into this page's table")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_MEASURED] = Reliability()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests that have only a long form to ``--soak``."""
    if not config.getoption("--soak"):
        long = [item for item in items if item.get_closest_marker("soak")]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if page := session.config.getoption("--reliability"):
        session.config.stash[_MEASURED].write(Path(page))


@pytest.fixture(scope="session")
def soak(pytestconfig: pytest.Config) -> bool:
    """Whether the long form is wanted; the short one takes a minute or two."""
    return bool(pytestconfig.getoption("--soak"))


@pytest.fixture(scope="session")
def reliability(pytestconfig: pytest.Config) -> Reliability:
    """Where a test notes the faults that it injected."""
    return pytestconfig.stash[_MEASURED]


@pytest.fixture(scope="session")
def free_ports() -> Callable[[], Ports]:
    """Make settings of ports, every one free on this machine when it was looked for."""

    def ports() -> Ports:
        names = list(Ports.model_fields)
        sockets = [socket.socket() for _ in names]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        found = dict(zip(names, (each.getsockname()[1] for each in sockets), strict=True))
        for each in sockets:
            each.close()
        return Ports(**found)

    return ports


@pytest.fixture(scope="session")
def parts_settings(tmp_path_factory: pytest.TempPathFactory, free_ports: Callable[[], Ports]) -> Settings:
    """Settings of the session's broker and registry."""
    return Settings(home=tmp_path_factory.mktemp("parts"), ports=free_ports())


@pytest.fixture(scope="session")
def broker(parts_settings: Settings) -> Iterator[str]:
    """The address of a real Kafka broker."""
    java.prepare_broker(parts_settings)
    address = parts_settings.bootstrap_servers
    with running("broker", java.broker_command(parts_settings), parts_settings, lambda: probes.broker(address)):
        yield address


@pytest.fixture(scope="session")
def registry(parts_settings: Settings) -> Iterator[str]:
    """The URL of a real schema registry's Confluent-compatible API."""
    url = parts_settings.registry_url
    with running("registry", java.registry_command(parts_settings), parts_settings, lambda: probes.own_registry(url)):
        yield url


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of recordings of real venues: K2_TEST_RECORDINGS, or the one beside the project."""
    folder = Path(os.environ.get("K2_TEST_RECORDINGS", RECORDINGS))  # noqa: TID251  # a test's own setting
    if not folder.is_dir():
        missing = f"{folder} is missing: set K2_TEST_RECORDINGS to a folder of recordings"
        if os.environ.get("CI"):  # noqa: TID251
            pytest.fail(missing)
        pytest.skip(missing)
    return folder


@contextmanager
def running(name: str, command: list[str], settings: Settings, probe: Callable[[], probes.Answer]) -> Iterator[None]:
    """Run a part until the block ends, and leave nothing of it behind."""
    log = settings.home / "logs" / f"{name}.log"
    process = processes.start(command, log=log, env=child_environment(), cwd=settings.home)
    leader = processes.identity(process.pid)
    assert leader
    try:
        _await_ready(name, process.poll, probe, log)
        yield
    finally:
        processes.end([leader], grace_s=10)
        process.wait()


def _await_ready(name: str, poll: Callable[[], int | None], probe: Callable[[], probes.Answer], log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S  # noqa: TID251
    while True:
        try:
            probe()
        except probes.NotYet as reason:
            if poll() is not None or time.monotonic() > deadline:  # noqa: TID251
                pytest.fail(f"{name} is not ready: {reason}\n{log.read_text()[-4000:]}")
            time.sleep(0.1)
        else:
            return
