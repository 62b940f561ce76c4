"""The checks of a day of gold: what each reads, judges and says. Dagster's checks and refine evaluate the same ones."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Final

import dagster as dg

from k2_assets.gold import row_checks
from k2_assets.gold.candle_fitness import FIT, fitness
from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.source_files import live_files, newest_and_beside, read_files
from k2_assets.orchestration.asset_metadata import counted
from k2_assets.orchestration.check_evaluations import evaluate_each
from k2_assets.reference.epoch_register import epochs_table, read_epochs
from k2_core import clock
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import CANDLES, GOLD, GOLD_TRADES
from k2_core.venues.routing import Data


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

    @property
    def key(self) -> dg.AssetCheckKey:
        """By which Dagster knows it."""
        return dg.AssetCheckKey(dg.AssetKey(self.table), self.name)


def _unique(data: Data, lake: Lake, day: date, whole: bool) -> dg.AssetCheckResult:
    """Count repeated message ids. A whole day may hold a hundred million: refine reads it only after a failure."""
    table = lake.table(GOLD[data].name)
    files = live_files(table, "timestamp", day=day)
    ids = read_files(table, files if whole else newest_and_beside(files), ("message_id",))
    twice = row_checks.repeated(ids)
    one = data.removesuffix("s")
    return dg.AssetCheckResult(
        passed=twice == 0,
        description=f"{counted(twice, f'repeated {one}')} among {ids.height:,} in {_where(whole)}.",
        metadata={"rows": ids.height, "repeated": twice},
    )


def _fit_for_candles(lake: Lake, day: date, whole: bool) -> dg.AssetCheckResult:
    """Count the trades of which no candle can be made."""
    found = fitness(lake, day, whole=whole)
    return dg.AssetCheckResult(
        passed=not found.unfit,
        description=f"{counted(found.trades, 'trade')} in {_where(whole)}: {found}.",
        metadata={"trades": found.trades, **found.unfit},
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
        description=f"Ids begin again: {said}." if found else "No ids begin again.",
        metadata={**found},
    )


def _candle_invariants(spec: TableSpec, lake: Lake, day: date, _whole: bool) -> dg.AssetCheckResult:
    """Count candles of the day that break an invariant."""
    candles = lake.rows_of_day(spec, day, row_checks.CANDLE_COLUMNS)
    broken = row_checks.broken_invariants(candles)
    found = "; ".join(f"{name}: {count:,} not" for name, count in broken.items()) or "every invariant holds"
    return dg.AssetCheckResult(
        passed=not broken,
        description=f"{counted(candles.height, 'candle')}: {found}.",
        metadata={"candles": candles.height, **broken},
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
    *(
        GoldCheck(
            spec.name,
            "candle_invariants",
            "low ≤ open, close, vwap ≤ high; positive volume and count; one candle a window.",
            partial(_candle_invariants, spec),
        )
        for spec in CANDLES
    ),
)


def _where(whole: bool) -> str:
    return "the whole day" if whole else "its newest files and those beside them"


def gold_checks(days: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """Return the checks of gold's trades, quotes and candles; a person runs them of a whole day."""
    return [_check(each, days) for each in GOLD_CHECKS]


def _check(judged: GoldCheck, days: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    @dg.asset_check(  # type: ignore[arg-type]  # it takes outputs too
        asset=judged.table,
        name=judged.name,
        partitions_def=days,
        description=judged.description,
        blocking=judged.blocking,
    )
    def gold_check(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.Output[None]:
        return evaluate_each(context, lambda day: judged.judge(lake, day, True))

    return gold_check
