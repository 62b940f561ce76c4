"""Child processes that are killed on purpose: started armed, seen to die by SIGKILL, their hits counted.

A fork server has loaded the heavy modules once: a child begins to work in some hundredths of a second. A child reads
what arms it from its environment, as a process of the platform would.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

PATIENCE_S = 600
Kills = Callable[[Sequence[str]], list[tuple[str, int]]]
"""Says of points of crashes at which visits children die there."""
READY = "listens to SIGTERM"
_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(
    [
        *("k2_assets.drain.drain_loop", "k2_assets.refine.refine_loop", "fastavro"),
        # What these load only when they begin to work: as much again.
        *("httpcore2", "truststore", "h11", "encodings.idna", "numpy.ma", "pyarrow.acero"),
        *("pyiceberg_core.transform", "sqlalchemy.dialects.sqlite"),
    ]
)


@dataclass
class Crashes:
    """Starts children of one test, each with a log of its own in ``folder``; none outlives :meth:`end`."""

    folder: Path

    def __post_init__(self) -> None:
        self._children: list[Child] = []
        self._hits = self.folder / "hits"

    def start(self, work: Callable[..., None], *arguments: Any, at: str = "", nth: int = 1) -> "Child":
        """Start ``work(*arguments)`` in a process of its own, to be killed when ``at`` is reached the n-th time."""
        armed = {"K2_CRASH_AT": f"{at}:{nth}", "K2_CRASH_LOG": str(self._hits)} if at else {}
        out = self.folder / f"child-{len(self._children)}.log"
        process = _FORK.Process(target=_live, args=(out, armed, work, arguments), daemon=True)
        process.start()
        child = Child(process, out, time.monotonic())  # noqa: TID251
        self._children.append(child)
        return child

    def hits(self) -> Counter[str]:
        """Return how often each point killed a child, by the children's own log."""
        return Counter(self._hits.read_text().split() if self._hits.exists() else [])

    def end(self) -> None:
        """Kill whoever still lives."""
        for child in self._children:
            child.process.kill()
            child.process.join()


@dataclass
class Child:
    """One process and what it printed."""

    process: ForkServerProcess
    out: Path
    started: float

    @property
    def lives(self) -> bool:
        return self.process.is_alive()

    def await_crash(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Go on with ``meanwhile`` until the armed child has killed itself; any other end is a failure."""
        deadline = time.monotonic() + PATIENCE_S  # noqa: TID251
        while self.lives:
            meanwhile()
            self.process.join(0.05)
            assert time.monotonic() < deadline, f"the point was never reached\n{self.printed()}"  # noqa: TID251
        assert self.process.exitcode == -signal.SIGKILL, self.printed()

    def kill(self) -> None:
        """Kill it from outside; that it still lived is asserted."""
        assert self.lives, self.printed()
        self.process.kill()
        self.process.join()
        assert self.process.exitcode == -signal.SIGKILL, self.printed()

    def end(self) -> None:
        """Ask it to end as planned, as soon as it listens; and wait."""
        deadline = time.monotonic() + PATIENCE_S  # noqa: TID251
        while READY not in self.printed():
            assert self.lives, self.printed()
            assert time.monotonic() < deadline, self.printed()  # noqa: TID251
            time.sleep(0.01)
        self.process.terminate()
        self.await_end()

    def await_end(self) -> float:
        """Wait until it has done its work; return how many seconds that took since it was started."""
        self.process.join(PATIENCE_S)
        assert self.process.exitcode == 0, self.printed()
        return time.monotonic() - self.started  # noqa: TID251

    def printed(self) -> str:
        return f"exit code {self.process.exitcode}\n{self.out.read_text() if self.out.exists() else ''}"


def _live(out: Path, armed: dict[str, str], work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Run in the child: what it prints goes to a file, for the killed cannot hand it over."""
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())
    os.environ.update(armed)  # noqa: TID251  # a test's own setting
    work(*arguments)
