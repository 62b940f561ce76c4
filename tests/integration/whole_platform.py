"""The whole platform, started by the command its users type, on free ports and in a home of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import httpx

from k2_core.settings import DEVELOPMENT_API_KEY, Ports, Settings, child_environment, load_settings
from k2_stack import stack_state, status
from tests.loopback import http

PATIENCE_S = 600
K2 = Path(sys.executable).with_name("k2")


class Platform:
    """A platform that may be up; ``settings`` are variables such as ``K2_DRAIN__WORK_MINUTES``.

    It feeds the trades of one venue, if they do not say otherwise: most tests look at no more, and two cores are few.
    """

    def __init__(self, home: Path, ports: Ports, **settings: str) -> None:
        self.home = home
        self.ports = ports
        sparing = {"K2_FEEDS__VENUES": '["binance"]', "K2_FEEDS__BINANCE__QUOTES": "false"}
        ours = {f"K2_PORTS__{name.upper()}": str(port) for name, port in ports}
        self._environment = child_environment(**{"K2_HOME": str(home)} | sparing | ours | settings)

    @contextmanager
    def up(self, *arguments: str) -> Iterator[None]:
        """Run ``k2 up --detach ARGUMENTS``, and ``k2 down`` in the end."""
        self.k2("up", "--detach", *arguments)
        try:
            yield
        finally:
            self.k2("down")

    def k2(self, *arguments: str) -> str:
        """Run one k2 command and return what it printed; its failure is the test's."""
        done = subprocess.run(
            [K2, *arguments], env=self._environment, capture_output=True, text=True, check=False, timeout=2 * PATIENCE_S
        )
        assert done.returncode == 0, f"k2 {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def settings(self) -> Settings:
        """The settings that its commands read."""
        with mock.patch.dict(os.environ, self._environment, clear=True):  # noqa: TID251  # as the commands find it
            return load_settings()

    def status(self) -> dict[str, Any]:
        """Return what ``k2 status`` finds out, without a process for it: tests ask every second."""
        return status.gather(self.settings)

    def pid(self, part: str) -> int:
        """Return the process of a part."""
        now = stack_state.read(self.settings)
        found = now and now.part(part)
        assert found, part
        assert found.pid, found
        return found.pid

    def api(self, path: str) -> dict[str, Any]:
        """Return the API's answer."""
        url = f"http://127.0.0.1:{self.ports.api}{path}"
        answer = http.get(url, headers={"X-API-Key": DEVELOPMENT_API_KEY})
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.json()

    def trades(self, symbol: str) -> list[dict[str, Any]]:
        """Return every trade of a symbol, page by page, oldest first."""
        rows, cursor = [], ""
        while True:
            page = self.api(f"/v1/trades?symbol={symbol}&order=asc&limit=10000{cursor}")
            rows += page["data"]
            if not page["pagination"]["has_more"]:
                return rows
            cursor = f"&cursor={page['pagination']['next_cursor']}"


def eventually(holds: Callable[[], bool], state: Callable[[], object]) -> None:
    """Wait until something holds; the state is shown when patience ends."""
    deadline = time.monotonic() + PATIENCE_S  # noqa: TID251  # a test's patience
    while not holds():
        assert time.monotonic() < deadline, f"never became true: {state()}"  # noqa: TID251
        time.sleep(2)  # a look costs the platform a fifth of a second
