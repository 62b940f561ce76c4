"""Real parts for tests: one broker and one registry a session, on free ports, in a folder of their own."""

import itertools
import os
import random
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from k2_core import process_identity
from k2_core.settings import Ports, Settings, child_environment
from k2_stack import java, probes, processes
from tests import selection
from tests.reliability.crashes import Kills
from tests.reliability.measured import Faults, Reliability

READY_WITHIN_S = 300
RECORDINGS = Path(__file__).parents[2] / "shared" / "recordings"
_MEASURED = pytest.StashKey[Reliability]()

# No test asserts a duration: the machine may be busy. Examples are the same in every run but those of `search`.
hypothesis_settings.register_profile("k2", deadline=None, derandomize=True)
hypothesis_settings.register_profile("search", deadline=None, max_examples=2_000, print_blob=True)
hypothesis_settings.load_profile("k2")


def pytest_addoption(parser: pytest.Parser) -> None:
    parts = ", ".join(selection.PARTS)
    parser.addoption("--soak", metavar="PART", help=f"run the long forms of a part: {parts}, or all")
    parser.addoption("--undrawn", action="store_true", help="run every short form; else K2_TEST_SEED draws some")
    parser.addoption("--reliability", metavar="PAGE", help="write what was measured into this page's tables")


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault("K2_TEST_SEED", str(secrets.randbelow(10_000)))  # noqa: TID251  # workers inherit it
    soak = config.getoption("--soak")
    if soak and soak not in (*selection.PARTS, "all"):
        msg = f"--soak {soak}: there is no such part; there are {', '.join(selection.PARTS)}, and all"
        raise pytest.UsageError(msg)
    config.stash[_MEASURED] = Reliability("long" if soak else "short")


def pytest_report_header() -> str:
    return (
        f"K2_TEST_SEED={_seed()} draws crash points, suites of kills and a quarter of the slow tests; set it to repeat"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = selection.chosen(items, config.getoption("--soak"), _seed(), undrawn=config.getoption("--undrawn"))
    kept = set(chosen)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = chosen


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Share tests out by :func:`selection.unit`, so that one whole platform runs at a time.

    The first worker that comes to tests which need the session's broker takes all of those: it starts the only one.
    """

    class ByUnit(LoadScopeScheduling):
        def __init__(self) -> None:
            super().__init__(config, log)
            self._with_broker: WorkerController | None = None

        def _split_scope(self, nodeid: str) -> str:
            return selection.unit(nodeid)

        def _assign_work_unit(self, node: WorkerController) -> None:
            if self._with_broker is not None:
                self._put_first(needs_broker=node is self._with_broker)
            if selection.needs_broker(next(iter(self.workqueue))):
                self._with_broker = node
            super()._assign_work_unit(node)

        def _put_first(self, *, needs_broker: bool) -> None:
            wanted = (unit for unit in self.workqueue if selection.needs_broker(unit) is needs_broker)
            if found := next(wanted, None):
                self.workqueue.move_to_end(found, last=False)

    return ByUnit()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if page := session.config.getoption("--reliability"):
        session.config.stash[_MEASURED].write(Path(page))


def _seed() -> int:
    return int(os.environ["K2_TEST_SEED"])  # noqa: TID251  # a test's own setting


@pytest.fixture(scope="session")
def soak(pytestconfig: pytest.Config) -> bool:
    """Whether the long form is wanted; the short one takes seconds."""
    return bool(pytestconfig.getoption("--soak"))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Chance that the printed seed decides, for this test alone."""
    return random.Random(f"{_seed()} {request.node.nodeid}")


@pytest.fixture
def kills(soak: bool, rng: random.Random) -> Kills:
    """Say where children die, and at which visit: once at every point and again at one; 20 times in the long form."""

    def kills(points: Sequence[str]) -> list[tuple[str, int]]:
        if soak:
            return list(itertools.product(points, [1, 2, 3, 1, 2] * 4))
        return [*((point, 1) for point in points), (rng.choice(points), rng.randint(2, 3))]

    return kills


@pytest.fixture
def reliability(request: pytest.FixtureRequest) -> Faults:
    """Where a test notes the faults that it injected."""
    return request.config.stash[_MEASURED].of(selection.part_of(request.node))


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
    leader = process_identity.of(process.pid)
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
