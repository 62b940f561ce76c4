"""Two drains at once, killed at random moments under load: whatever a kill interrupts, each row stands exactly once."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.reliability.crash_rooms import CrashRoom
from tests.reliability.crashes import PATIENCE_S, Child, Crashes
from tests.reliability.drains import Drains
from tests.reliability.lives import Conditions
from tests.reliability.measured import Reliability

pytestmark = [pytest.mark.integration, pytest.mark.reliability]

READING, BETWEEN = "reading", "between two reads"
IDLE = ("acknowledged", "caught_up")


@pytest.fixture
def drains(broker: str, registry: str, tmp_path: Path, reliability: Reliability) -> Iterator[Drains]:
    made = Drains(CrashRoom(broker, registry, tmp_path / "home"), Crashes(tmp_path), reliability)
    yield made
    made.crashes.end()


@dataclass
class Traced:
    """A drain that writes down where its threads are."""

    child: Child
    trace: Path

    def interrupted(self) -> tuple[str, str]:
        """Return what the thread that reads and the thread that commits were doing last."""
        last = {"MainThread": "starting", "commit": "idle"}
        for line in self.trace.read_text().splitlines() if self.trace.exists() else []:
            thread, _, where = line.partition(" ")
            last[thread.split("_")[0]] = where
        return last["MainThread"], last["commit"]


@dataclass
class Storm:
    """Keeps two drains at work and kills one of them again and again."""

    drains: Drains
    seed: int
    interrupted: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._working = [self._another(), self._another()]

    def kill_one(self) -> None:
        """Send on for a random while, then kill a random one of the two, and put another in its place."""
        until = time.monotonic() + self._rng.uniform(0.0, 1.0)  # noqa: TID251
        while time.monotonic() < until:  # noqa: TID251
            self.drains.room.send(30)
            time.sleep(self._rng.uniform(0.0, 0.05))
        which = self._rng.randrange(2)
        victim = self._working[which]
        victim.child.kill()
        self.interrupted.append(victim.interrupted())
        self._working[which] = self._another()

    def end(self) -> None:
        """Let both commit what they have read, and end."""
        for each in self._working:
            each.child.end()

    def _another(self) -> Traced:
        trace = self.drains.crashes.folder / f"trace-{self.seed}-{len(self.interrupted)}-{self._rng.random()}"
        return Traced(self.drains.start(Conditions(trace=trace)), trace)


def table_of(where: str) -> str:
    """Return ``commit`` of ``silver_venue_1_trades.commit``, and anything else as it is."""
    return where.rpartition(".")[2]


def test_every_row_stands_once_after_random_kills_of_two_drains(drains: Drains, soak: bool) -> None:
    """Kills are dealt until enough of them fell into a commit while the other thread was reading on."""
    kills, wanted = (120, 20) if soak else (25, 3)
    storm = Storm(drains, seed=4)
    while len(storm.interrupted) < kills or amid_both(storm) < wanted:
        storm.kill_one()
        assert len(storm.interrupted) < 10 * kills, Counter(storm.interrupted)
    storm.end()

    drains.judge("one of two drains killed at a random moment under load", len(storm.interrupted))


def amid_both(storm: Storm) -> int:
    """Count the kills in the middle of a batch's commits, in one thread, while the other read from Kafka."""
    return sum(
        reading == READING and table_of(committing) not in {*IDLE, "idle"} for reading, committing in storm.interrupted
    )


def test_every_row_stands_once_when_two_drains_race(drains: Drains, soak: bool) -> None:
    """Nobody is killed: only the compare-and-set keeps them apart. Each is refused several times."""
    racing, wanted = [drains.start(), drains.start()], 40 if soak else 4
    deadline = time.monotonic() + PATIENCE_S  # noqa: TID251
    while min(refusals(child) for child in racing) < wanted:
        drains.room.send(30)
        time.sleep(0.03)
        assert time.monotonic() < deadline, [child.printed() for child in racing]  # noqa: TID251
    for child in racing:
        child.end()

    drains.judge("commit of one of two drains refused, the other being first", sum(map(refusals, racing)))


def refusals(drain: Child) -> int:
    return drain.printed().count("another writer was first")
