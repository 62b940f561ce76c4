"""The checks of a day of gold: what each reads, judges and says. Dagster's checks and refine evaluate the same ones."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Final

import dagster as dg

from k2_assets.checks import gold
from k2_assets.gold.day import day_of
from k2_assets.lake_files import LakeFile, Seen, live_files, read_files
from k2_assets.presentation import counted
from k2_assets.rebuilt import Taken
from k2_assets.reference.epochs import epochs_table, read_epochs
from k2_assets.resources.lake import Lake
from k2_core import clock
from k2_core.tables import GOLD, GOLD_OHLCV_1M, GOLD_TRADES
from k2_core.venues.routing import Data

FIT: Final = "fit_for_candles"
_NEWEST_COMMITS: Final = 10


@dataclass(frozen=True)
class GoldCheck:
    """A check of one table of gold.

    Args:
        table: that it judges.
        name: of the check.
        description: what holds when it passes.
        judge: evaluates it for a day: for the whole day, or for its newest files and all that lie beside them.
        blocking: whether what is made of the day waits until it passes.
    """

    table: str
    name: str
    description: str
    judge: Callable[[Lake, date, bool], dg.AssetCheckResult]
    blocking: bool = False


def _unique(data: Data, lake: Lake, day: date, whole: bool) -> dg.AssetCheckResult:
    """Count repeated message ids. A whole day may hold a hundred million: refine reads it only after a failure."""
    table = lake.table(GOLD[data].name)
    ids = read_files(table, _judged(live_files(table, "timestamp", day=day), whole), ("message_id",))
    twice = gold.repeated(ids)
    one = data.removesuffix("s")
    return dg.AssetCheckResult(
        passed=twice == 0,
        description=f"{counted(twice, f'repeated {one}')} among {ids.height:,} in {_where(day, whole)}.",
        metadata={"day": day.isoformat(), "rows": ids.height, "repeated": twice},
    )


def _fit_for_candles(lake: Lake, day: date, whole: bool) -> dg.AssetCheckResult:
    """Count the trades of which no candle can be made."""
    table, candles = lake.table(GOLD_TRADES.name), lake.table(GOLD_OHLCV_1M.name)
    files = live_files(table, "timestamp", day=day)
    if not whole and day not in Taken.of(candles).behind(table):
        # All that candles would take in: an unfit trade blocks them for as long as they have not taken it in.
        newest = {each.file.file_path for each in (*_judged(files, whole), *Seen.of(candles).newer(table, files))}
        files = [each for each in files if each.file.file_path in newest]
    trades = read_files(table, files, gold.FIT_COLUMNS)
    unfit = gold.unfit_for_candles(trades, day)
    found = "; ".join(f"{name}: {count:,} not" for name, count in unfit.items()) or "candles can be made of all"
    return dg.AssetCheckResult(
        passed=not unfit,
        description=f"{counted(trades.height, 'trade')} in {_where(day, whole)}: {found}.",
        metadata={"day": day.isoformat(), "trades": trades.height, **unfit},
    )


def _ids_go_on(lake: Lake, day: date, _whole: bool) -> dg.AssetCheckResult:
    """Warn of the epochs that start on the day."""
    epochs = read_epochs(epochs_table(lake.catalog(), lake.namespace))
    found = {
        f"{exchange} {symbol}": ", ".join(clock.from_us(start).isoformat() for start in starts)
        for exchange, symbol in epochs
        if (starts := [each for each in epochs.starts(exchange, symbol) if clock.from_us(each).date() == day])
    }
    said = "; ".join(f"{name} at {when}" for name, when in sorted(found.items()))
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Ids begin again on {day}: {said}." if found else f"No ids begin again on {day}.",
        metadata={"day": day.isoformat(), **found},
    )


def _candle_invariants(lake: Lake, day: date, _whole: bool) -> dg.AssetCheckResult:
    """Count candles of the day that break an invariant."""
    candles = day_of(lake, GOLD_OHLCV_1M.name, "window_start", day, gold.CANDLE_COLUMNS)
    broken = gold.broken_invariants(candles)
    found = "; ".join(f"{name}: {count:,} not" for name, count in broken.items()) or "every invariant holds"
    return dg.AssetCheckResult(
        passed=not broken,
        description=f"{counted(candles.height, 'candle')} of {day}: {found}.",
        metadata={"day": day.isoformat(), "candles": candles.height, **broken},
    )


_SCOPE: Final = "Refine reads the newest files of the day and all that lie in their time range, a person's run all."
GOLD_CHECKS: Final = (
    *(
        GoldCheck(
            GOLD[data].name,
            "unique_message_id",
            f"No {data.removesuffix('s')} appears twice. {_SCOPE}",
            partial(_unique, data),
        )
        for data in GOLD
    ),
    GoldCheck(
        GOLD_TRADES.name,
        "ids_go_on",
        "The trade ids of no instrument begin again on the day. Where they do, both trades of an id are stored, and no "
        "candle over the break is complete.",
        _ids_go_on,
    ),
    GoldCheck(
        GOLD_TRADES.name,
        FIT,
        f"Each trade has a positive price and quantity, and a time of its day. Candles wait for it. {_SCOPE}",
        _fit_for_candles,
        blocking=True,
    ),
    GoldCheck(
        GOLD_OHLCV_1M.name,
        "candle_invariants",
        "low ≤ open, close, vwap ≤ high; positive volume and count; one candle a window.",
        _candle_invariants,
    ),
)


def beside_newest(files: list[LakeFile], commits: int) -> list[LakeFile]:
    """Return the files of the newest ``commits`` sequence numbers, and all that overlap them in time."""
    newest = max((each.sequence for each in files), default=0)
    recent = [each for each in files if each.sequence > newest - commits]
    first, last = min((r.first_us for r in recent), default=0), max((r.last_us for r in recent), default=0)
    return [each for each in files if each.last_us >= first and each.first_us <= last]


def _judged(files: list[LakeFile], whole: bool) -> list[LakeFile]:
    return files if whole else beside_newest(files, _NEWEST_COMMITS)


def _where(day: date, whole: bool) -> str:
    return f"the whole of {day}" if whole else f"the newest files of {day} and those beside them"
