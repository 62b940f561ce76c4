"""Two drains at once, killed at random moments under load: whatever a kill interrupts, each row stands exactly once."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from tests.reliability.crash_topic import CrashTopic
from tests.reliability.crashes import PATIENCE_S, Child, Crashes
from tests.reliability.drains import AS_USUAL, Drains
from tests.reliability.lives import Conditions, refine_gold
from tests.reliability.measured import Faults

pytestmark = [pytest.mark.integration, pytest.mark.reliability("races"), pytest.mark.drawn("races")]

READING = "reading"
IDLE = ("idle", "acknowledged")


@pytest.fixture
def drains(broker: str, registry: str, tmp_path: Path, reliability: Faults) -> Iterator[Drains]:
    made = Drains(CrashTopic(broker, registry, tmp_path / "home"), Crashes(tmp_path), reliability)
    yield made
    made.crashes.end()


@dataclass
class Traced:
    """A child that writes down where its threads are."""

    child: Child
    trace: Path

    def has_begun_a_commit(self) -> bool:
        return self.trace.exists() and ".commit\n" in self.trace.read_text()

    def interrupted(self) -> tuple[str, str]:
        """Return what the main thread and the thread that commits a drain's batches were doing last."""
        last = {"MainThread": "starting", "commit": "idle"}
        for line in self.trace.read_text().splitlines() if self.trace.exists() else []:
            thread, _, where = line.partition(" ")
            last[thread.split("_")[0]] = where.rpartition(".")[2]
        return last["MainThread"], last["commit"]


@dataclass
class Storm:
    """Keeps some children at work beside each other, and kills one of them again and again."""

    drains: Drains
    starts: list[Callable[[Conditions], Child]]
    rng: random.Random
    interrupted: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._traces = (self.drains.crashes.folder / f"trace-{number}" for number in count())
        self._working = [self._start(which) for which in range(len(self.starts))]

    def kill_one(self) -> None:
        """Kill a random one at a random moment, one in five while it still starts; put another in its place."""
        which = self.rng.randrange(len(self.starts))
        victim = self._working[which]
        if self.rng.random() < 0.8:
            self._send_until(victim.has_begun_a_commit)
        kill_at = time.monotonic() + self.rng.uniform(0.0, 0.5)  # noqa: TID251
        self._send_until(lambda: time.monotonic() > kill_at)  # noqa: TID251
        victim.child.kill()
        self.interrupted.append(victim.interrupted())
        self._working[which] = self._start(which)

    def _send_until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S  # noqa: TID251
        while not holds():
            self.drains.own_topic.send(30)
            time.sleep(self.rng.uniform(0.0, 0.05))
            assert time.monotonic() < deadline, [each.child.printed() for each in self._working]  # noqa: TID251

    def end(self) -> None:
        """Let all finish what they have begun."""
        for each in self._working:
            each.child.end()

    def amid_both(self) -> int:
        """Count the kills in the middle of a batch's commits, in one thread, while the other read from Kafka."""
        return sum(main == READING and committing not in IDLE for main, committing in self.interrupted)

    def _start(self, which: int) -> Traced:
        trace = next(self._traces)
        return Traced(self.starts[which](Conditions(trace=trace)), trace)


def test_every_row_stands_once_after_random_kills_of_two_drains(drains: Drains, rng: random.Random, soak: bool) -> None:
    """Kills are dealt until enough of them fell into a commit while the other thread was reading on."""
    kills, wanted = (120, 20) if soak else (10, 1)
    storm = Storm(drains, [drains.start, drains.start], rng)
    while len(storm.interrupted) < kills or storm.amid_both() < wanted:
        storm.kill_one()
        assert len(storm.interrupted) < 20 * kills, Counter(storm.interrupted)
    storm.end()

    drains.judge({"one of two drains killed at a random moment under load": len(storm.interrupted)})


def test_gold_holds_each_trade_once_after_random_kills_of_all_that_make_it(
    drains: Drains, rng: random.Random, soak: bool
) -> None:
    """Two drains and two refines, from Kafka to candles."""
    kills, silver = 120 if soak else 6, drains.table("silver")

    def refine(conditions: Conditions, until_done: bool = False) -> Child:
        return drains.crashes.start(refine_gold, drains.settings, silver, conditions, until_done)

    storm = Storm(drains, [drains.start, drains.start, refine, refine], rng)
    for _ in range(kills):
        storm.kill_one()
    storm.end()
    fault = "drain or refine killed at a random moment under load"
    drains.judge({fault: kills})
    recovered_s = refine(AS_USUAL, True).await_end()

    drains.reliability.record(fault, injected=0, recovered_s=recovered_s, **drains.own_topic.compare_gold().counts())
    drains.own_topic.assert_gold_is_what_was_sent()


def test_every_row_stands_once_when_two_drains_race(drains: Drains, soak: bool) -> None:
    """Nobody is killed: only the compare-and-set keeps them apart, and refuses some of their commits."""
    racing, wanted = [drains.start(), drains.start()], 80 if soak else 2
    deadline = time.monotonic() + PATIENCE_S  # noqa: TID251
    while sum(map(refusals, racing)) < wanted:
        drains.own_topic.send(30)
        time.sleep(0.03)
        assert time.monotonic() < deadline, [child.printed() for child in racing]  # noqa: TID251
    for child in racing:
        child.end()

    drains.judge({"commit of one of two drains refused, the other being first": sum(map(refusals, racing))})


def refusals(drain: Child) -> int:
    return drain.printed().count("another writer was first")
