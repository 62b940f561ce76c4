"""The checks of a day of gold. Runs of Dagster and refine evaluate the same ones."""

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

_WHERE: Final = {True: "the whole day", False: "its newest files and those beside them"}


@dataclass(frozen=True)
class GoldCheck:
    """A check of one table of gold.

    Args:
        table: that it judges.
        name: of the check.
        description: what holds when it passes.
        judge: evaluates it for a day: for the whole day, or for its newest files and those that overlap them in time.
        blocking: whether the tables made of this one wait until it passes.
    """

    table: str
    name: str
    description: str
    judge: Callable[[Lake, date, bool], dg.AssetCheckResult]
    blocking: bool = False

    @property
    def key(self) -> dg.AssetCheckKey:
        """Dagster's key of it."""
        return dg.AssetCheckKey(dg.AssetKey(self.table), self.name)

    def definition(self, days: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
        """Return the check for Dagster, which a person runs for whole days."""

        @dg.asset_check(  # type: ignore[arg-type]  # it takes outputs too
            asset=self.table,
            name=self.name,
            partitions_def=days,
            description=self.description,
            blocking=self.blocking,
        )
        def gold_check(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.Output[None]:
            return evaluate_each(context, lambda day: self.judge(lake, day, True))

        return gold_check


def _unique(data: Data, lake: Lake, day: date, whole: bool) -> dg.AssetCheckResult:
    # A whole day may hold a hundred million ids: refine reads them all only after a failure.
    table = lake.table(GOLD[data].name)
    files = live_files(table, "timestamp", day=day)
    ids = read_files(table, files if whole else newest_and_beside(files), ("message_id",))
    twice = ids.height - ids["message_id"].n_unique()
    one = data.removesuffix("s")
    return dg.AssetCheckResult(
        passed=twice == 0,
        description=f"{counted(twice, f'repeated {one}')} among {ids.height:,} in {_WHERE[whole]}.",
        metadata={"rows": ids.height, "repeated": twice},
    )


def _fit_for_candles(lake: Lake, day: date, whole: bool) -> dg.AssetCheckResult:
    found = fitness(lake, day, whole=whole)
    return dg.AssetCheckResult(
        passed=not found.unfit,
        description=f"{counted(found.trades, 'trade')} in {_WHERE[whole]}: {found}.",
        metadata={"trades": found.trades, **found.unfit},
    )


def _ids_go_on(lake: Lake, day: date, _whole: bool) -> dg.AssetCheckResult:
    epochs = read_epochs(epochs_table(lake.catalog(), lake.namespace))
    found = {
        f"{exchange} {symbol}": ", ".join(clock.from_us(start).isoformat() for start in starts)
        for exchange, symbol in epochs
        if (starts := [each for each in epochs.starts(exchange, symbol) if clock.from_us(each).date() == day])
    }
    listed = "; ".join(f"{name} at {when}" for name, when in sorted(found.items()))
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Ids begin again: {listed}." if found else "No ids begin again.",
        metadata={**found},
    )


def _candle_invariants(spec: TableSpec, lake: Lake, day: date, _whole: bool) -> dg.AssetCheckResult:
    candles = lake.rows_of_day(spec, day, row_checks.CANDLE_COLUMNS)
    broken = row_checks.broken_invariants(candles)
    found = "; ".join(f"{name}: {count:,} not" for name, count in broken.items()) or "every invariant holds"
    return dg.AssetCheckResult(
        passed=not broken,
        description=f"{counted(candles.height, 'candle')}: {found}.",
        metadata={"candles": candles.height, **broken},
    )


_SCOPE: Final = "Refine reads the newest files of the day and those that overlap them in time; a run by hand reads all."
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
        f"Each trade has a positive price and quantity, and a time of its day. Candles wait until they do. {_SCOPE}",
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


def gold_checks(days: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """Return the checks of gold's trades, quotes and candles."""
    return [each.definition(days) for each in GOLD_CHECKS]
