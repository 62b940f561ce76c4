"""A drain that kills itself at every point of its commits, again and again: each row stands exactly once afterwards."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.assets.own_topic import LAYERS, NEVER_S
from tests.reliability.crash_topic import CrashTopic
from tests.reliability.crashes import PATIENCE_S, Crashes, Kills
from tests.reliability.drains import Drains
from tests.reliability.lives import Conditions, LostAnswers
from tests.reliability.measured import Faults

pytestmark = [pytest.mark.integration, pytest.mark.reliability("drain")]

AROUND_A_COMMIT = {
    "commit": "drain killed before the commit of {}",
    "committed": "drain killed after the commit of {}, before it knows",
    "acknowledged": "drain killed between the commit of {} and the next",
}
WHILE_CATCHING_UP = {
    "catch_up": "drain killed while {} catches up from bronze",
    "commit": "drain killed while {} catches up, before a commit",
    "committed": "drain killed while {} catches up, before it knows of a commit",
    "caught_up": "drain killed while {} catches up, between two commits",
}
BATCH, PIECE = 75, 15  # at least five pieces, however the batch falls over the partitions
WHOLE_BATCHES = Conditions({"k2_assets.drain.topic_lane:_FIRST_COMMIT_S": NEVER_S})
SMALL_PIECES = Conditions({"k2_assets.topic_tables.frame_tables:_CATCH_UP_OFFSETS": PIECE})


@pytest.fixture
def drains(broker: str, registry: str, tmp_path: Path, reliability: Faults) -> Iterator[Drains]:
    made = Drains(CrashTopic(broker, registry, tmp_path / "home"), Crashes(tmp_path), reliability)
    yield made
    made.crashes.end()


@pytest.mark.parametrize("layer", LAYERS)
def test_every_row_stands_once_after_kills_around_a_commit(drains: Drains, kills: Kills, layer: str) -> None:
    said = {f"{drains.table(layer)}.{moment}": text.format(layer) for moment, text in AROUND_A_COMMIT.items()}
    planned = kills(list(said))
    for point, nth in planned:
        drains.own_topic.send()
        drains.start(at=point, nth=nth).await_crash(meanwhile=drains.own_topic.send)

    hits = drains.crashes.hits()
    assert hits == Counter(point for point, _ in planned)
    drains.judge({said[point]: often for point, often in hits.items()})


@pytest.mark.parametrize("layer", ["rejected", "silver"])
def test_every_row_stands_once_after_kills_while_catching_up(drains: Drains, kills: Kills, layer: str) -> None:
    """Bronze is ahead, for a drain was killed after its commit; the next one dies at one of its small pieces."""
    ahead = f"{drains.table('bronze')}.acknowledged"
    said = {f"{drains.table(layer)}.{moment}": text.format(layer) for moment, text in WHILE_CATCHING_UP.items()}
    planned = kills(list(said))
    for point, nth in planned:
        drains.own_topic.send(BATCH)
        drains.start(WHOLE_BATCHES, at=ahead, commit_rows=BATCH, commit_interval_s=NEVER_S).await_crash()
        bronze, rejected, silver = drains.own_topic.vectors()
        assert bronze != rejected == silver
        drains.start(SMALL_PIECES, at=point, nth=nth).await_crash()
        assert drains.own_topic.vectors()[0] == bronze, "it died before it read anything new"

    hits = drains.crashes.hits()
    assert hits.pop(ahead) == len(planned)
    assert hits == Counter(point for point, _ in planned)
    drains.judge({said[point]: often for point, often in hits.items()})


@pytest.mark.drawn("lost answers")
@pytest.mark.parametrize("layer", LAYERS)
def test_every_row_stands_once_though_answers_of_commits_are_lost(
    drains: Drains, tmp_path: Path, soak: bool, layer: str
) -> None:
    times = 40 if soak else 4
    lost = LostAnswers(drains.table(layer), times, tmp_path / "lost")
    child = drains.start(Conditions({"k2_assets.drain.drain_loop:_RETRY_FIRST_S": 0.05}, lost_answers=lost))
    deadline = time.monotonic() + PATIENCE_S * (5 if soak else 1)  # noqa: TID251
    while lost.injected() < times:
        drains.own_topic.send()
        time.sleep(0.05)
        assert child.lives, child.printed()
        assert time.monotonic() < deadline, child.printed()  # noqa: TID251
    child.end()

    drains.judge({f"commit of {layer} succeeds, its answer lost": times})
