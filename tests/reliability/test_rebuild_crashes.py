"""Rebuilds killed at every commit while a drain appends to the same days: nothing is lost, and again makes it right."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest

from k2_core.lake.tables import GOLD_OHLCV_1M, GOLD_TRADES
from tests.assets.by_hand import candles_by_hand, contents
from tests.assets.drained import REJECTED, SILVER
from tests.assets.lakes import DAY
from tests.reliability import rebuild_lives
from tests.reliability.crashes import Crashes, Kills
from tests.reliability.drains import AS_USUAL
from tests.reliability.lives import refine_gold
from tests.reliability.measured import Faults
from tests.reliability.rebuild_lives import NEXT, PARSERS, RebuiltLake
from tests.reliability.waiting import wait_until

pytestmark = pytest.mark.reliability("rebuilds")

BOTH_VISITS = (0, 3)  # with both parsers
EITHER_WORK = (0, 2)  # with the other parser: that changes something
LONG_ROUNDS = range(15)
MOMENTS = ("replace", "replaced")


@pytest.fixture(name="crashes")
def children(tmp_path: Path) -> Iterator[Crashes]:
    made = Crashes(tmp_path)
    yield made
    made.end()


@pytest.fixture(name="lake")
def a_lake(tmp_path: Path) -> Iterator[RebuiltLake]:
    made = RebuiltLake(tmp_path / "home")
    made.drain_more(80)
    yield made
    made.catalog.close()


@pytest.fixture
def rounds(soak: bool, rng: random.Random, point: str) -> Sequence[int]:
    """Rounds of a point: two where a rebuild visits it twice, elsewhere one by chance; 15 in the long form."""
    return LONG_ROUNDS if soak else BOTH_VISITS if REJECTED.name in point else [rng.choice(EITHER_WORK)]


@contextmanager
def a_drain(lake: RebuiltLake, crashes: Crashes) -> Iterator[None]:
    """Drain in a process of its own, which has committed before the block begins."""
    before = lake.vector()
    child = crashes.start(rebuild_lives.drain_on, lake.home)
    wait_until(lambda: lake.vector() != before, child.printed)
    yield
    child.process.terminate()
    child.await_end()


@pytest.mark.parametrize("point", [f"{spec.name}.{moment}" for spec in (REJECTED, SILVER) for moment in MOMENTS])
def test_a_silver_rebuild_killed_at_a_commit(
    lake: RebuiltLake, crashes: Crashes, reliability: Faults, rounds: Sequence[int], point: str
) -> None:
    """Rejected has two commits: what turned bad comes before silver's, what turned good goes after it."""
    with a_drain(lake, crashes):
        for round_ in rounds:
            parser = PARSERS[(round_ + 1) % 2]
            nth = 1 + _alternating(round_) if REJECTED.name in point else 1
            crashes.start(rebuild_lives.rebuild, lake.home, DAY, parser, at=point, nth=nth).await_crash()
            nowhere = lake.places() - (lake.standing(SILVER) + lake.standing(REJECTED))
            assert not nowhere, f"stand neither in silver nor in rejected: {nowhere}"
            recovered_s = crashes.start(rebuild_lives.rebuild, lake.home, DAY, parser).await_end()
            reliability.record(f"silver rebuild killed at {_said(point)}", recovered_s=recovered_s)
    assert crashes.hits()[point] == len(rounds)

    rebuild_all(lake, parser)
    wanted, stands = lake.places(), lake.standing(SILVER) + lake.standing(REJECTED)
    lost, doubled = (wanted - stands).total(), (stands - wanted).total()
    fault = f"silver rebuild killed at {_said(point)}"
    reliability.record(fault, injected=0, compared=stands.total(), lost=lost, doubled=doubled)
    assert (lost, doubled) == (0, 0)
    assert lake.standing(SILVER) == lake.places(trades_of=parser)


def rebuild_all(lake: RebuiltLake, parser: str) -> None:
    """What the drain appended was read by its own parser: the days once more, when it has ended."""
    for day in (DAY, NEXT):
        rebuild_lives.rebuild(lake.home, day, parser)


GOLD_WORK: dict[str, tuple[Callable[[Path, date], None], Callable[[Path, date], None]]] = {
    GOLD_TRADES.name: (rebuild_lives.replace_gold, rebuild_lives.follow_gold),
    GOLD_OHLCV_1M.name: (rebuild_lives.recompute_candles, rebuild_lives.follow_candles),
}


@pytest.mark.parametrize("point", [f"{table}.{moment}" for table in GOLD_WORK for moment in ("commit", "committed")])
def test_a_replaced_day_killed_at_its_commit(
    lake: RebuiltLake, crashes: Crashes, reliability: Faults, rounds: Sequence[int], point: str
) -> None:
    """By hand, and by itself after silver's mark."""
    table = point.partition(".")[0]
    refresh_all(lake)
    with a_drain(lake, crashes):
        for round_ in rounds:
            parser = PARSERS[(round_ + 1) % 2]
            rebuild_lives.rebuild(lake.home, DAY, parser)
            if table == GOLD_OHLCV_1M.name:
                rebuild_lives.follow_gold(lake.home, DAY)
            work = GOLD_WORK[table][_alternating(round_)]
            crashes.start(work, lake.home, DAY, at=point).await_crash()
            recovered_s = crashes.start(work, lake.home, DAY).await_end()
            reliability.record(f"day of gold replaced, killed at {_said(point)}", recovered_s=recovered_s)
    assert crashes.hits()[point] == len(rounds)

    rebuild_all(lake, parser)
    refresh_all(lake)
    judge_gold(lake, reliability, f"day of gold replaced, killed at {_said(point)}")


def test_a_backfill_killed_at_its_commits_beside_refine_and_a_drain(
    lake: RebuiltLake, crashes: Crashes, reliability: Faults, kills: Kills, soak: bool
) -> None:
    """All three write the same days: the drain appends, refine takes in, the backfill puts others in their place.

    Nobody joins small files here, and each round takes longer than the one before: so a quarter of the usual kills.
    """
    planned = kills([f"{table}.{moment}" for table in GOLD_WORK for moment in ("commit", "committed")])
    if soak:
        planned = planned[::4]
    with a_drain(lake, crashes):
        refine = crashes.start(refine_gold, lake.settings, SILVER.name, AS_USUAL)
        for point, nth in planned:
            crashes.start(rebuild_lives.backfill, lake.home, (NEXT, DAY), at=point, nth=nth).await_crash()
            assert refine.lives, refine.printed()
    refine.end()
    assert crashes.hits() == Counter(point for point, _ in planned)

    rebuild_all(lake, PARSERS[0])
    recovered_s = crashes.start(refine_gold, lake.settings, SILVER.name, AS_USUAL, True).await_end()
    fault = "backfill of gold killed at a commit, beside refine and a drain"
    reliability.record(fault, injected=len(planned), recovered_s=recovered_s)
    judge_gold(lake, reliability, fault)


def judge_gold(lake: RebuiltLake, reliability: Faults, fault: str) -> None:
    """Hold gold's trades against silver's, and its candles against those made by hand."""
    wanted = Counter({(row["symbol"], row["trade_id"]): 1 for row in lake.rows(SILVER)})
    stands = Counter((row["symbol"], row["trade_id"]) for row in lake.rows(GOLD_TRADES))
    lost, doubled = (wanted - stands).total(), (stands - wanted).total()
    reliability.record(fault, injected=0, compared=stands.total(), lost=lost, doubled=doubled)
    assert (lost, doubled) == (0, 0)
    prices = {row["message_id"]: row["price"] for row in lake.rows(SILVER)}
    assert {row["message_id"]: row["price"] for row in lake.rows(GOLD_TRADES)} == prices
    assert contents(lake.rows(GOLD_OHLCV_1M)) == candles_by_hand(lake.rows(GOLD_TRADES))


def refresh_all(lake: RebuiltLake) -> None:
    """As refine does: each day by itself."""
    for day in (DAY, NEXT):
        lake.trades_refresh(day).take_in_news()
    for day in (DAY, NEXT):
        lake.candles_refresh(day).take_in_news()


def _alternating(round_: int) -> int:
    return round_ // 2 % 2


def _said(point: str) -> str:
    table, _, moment = point.rpartition(".")
    return f"{table}: {'before' if moment in {'replace', 'commit'} else 'after'} the commit"
