"""Gold in the asset graph: shells around the refreshes, a day at a time."""

from collections.abc import Callable, Iterable
from datetime import date, timedelta
from typing import Any, Final

import dagster as dg
import polars as pl

from k2_assets.automation import FOLLOW
from k2_assets.gold.refresh import GoldRefresh
from k2_assets.gold.refresh_candles import CandlesRefresh
from k2_assets.lake_files import live_files, read_files
from k2_assets.presentation import OWNERS, ROW_COUNT, microseconds, spec_metadata, table_metadata
from k2_assets.resources.lake import Lake
from k2_core import tables
from k2_core.candles import TIMEFRAMES
from k2_core.table_spec import TableSpec
from k2_core.tables import DATA, GOLD, GOLD_OHLCV_1M, GOLD_TRADES
from k2_core.venues import VENUES
from k2_core.venues.routing import Data

SILVER: Final[dict[Data, tuple[str, ...]]] = {
    data: tuple(tables.silver(venue, data).name for venue in VENUES) for data in DATA
}
"""What each gold table is made of."""
_FRESH: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(minutes=5), warn_window=timedelta(minutes=2))
_BY_MACHINE: Final = {"dagster/sensor_name", "dagster/from_automation_condition", "dagster/auto_materialize"}
_NEWEST: Final = (
    *("symbol", "exchange", "window_start", "open_price", "high_price", "low_price", "close_price"),
    *("volume", "trade_count", "is_complete", "missing_trades"),
)


def gold_assets(days: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Return gold's trades, quotes and candles as assets."""
    return [_each_once("trades", days), _each_once("quotes", days), _candles(days)]


def _each_once(data: Data, days: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    spec = GOLD[data]

    def gold(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult[None]:
        """Append what silver has and gold has not; started by a person, make the day anew."""
        day = date.fromisoformat(context.partition_key)
        refresh = GoldRefresh(lake.catalog(), lake.namespace, SILVER[data], day, data)
        outcome = refresh.append_new() if is_by_machine(context.run.tags) else refresh.replace_day()
        if outcome.conflicting:
            context.log.warning("%d copies differ from the one that stands", outcome.conflicting)
        return dg.MaterializeResult(
            metadata={
                "rows added": outcome.rows_added,
                "silver rows read": outcome.rows_read,
                "repeats dropped": outcome.repeated,
                "copies that differ": outcome.conflicting,
                **_state(lake, spec.name, "timestamp", day),
            }
        )

    return _asset(gold, spec, SILVER[data], days, "Of several copies the first received stays.")


def _candles(days: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    says = "A candle says itself whether it is proved complete."
    return _asset(_candles_of_day, GOLD_OHLCV_1M, (GOLD_TRADES.name,), days, says)


def _asset(
    of_day: Callable[..., Any], spec: TableSpec, deps: Iterable[str], days: dg.PartitionsDefinition, says: str
) -> dg.AssetsDefinition:
    """Make the asset of a table of gold, whose days ``of_day`` brings up to date."""
    as_asset = dg.asset(
        key=spec.name,
        deps=deps,
        partitions_def=days,
        automation_condition=FOLLOW,
        freshness_policy=_FRESH,
        group_name="gold",
        kinds={"iceberg", "polars"},
        owners=OWNERS,
        pool=spec.name,
        description=f"{spec.doc} {says}",
        metadata=spec_metadata(spec),
    )
    made: dg.AssetsDefinition = as_asset(of_day)
    return made


def _candles_of_day(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult[None]:
    """Recompute the windows that new trades touch; started by a person, every window of the day."""
    day = date.fromisoformat(context.partition_key)
    refresh = CandlesRefresh(lake.catalog(), lake.namespace, GOLD_OHLCV_1M, TIMEFRAMES["1m"], day)
    outcome = refresh.recompute_touched() if is_by_machine(context.run.tags) else refresh.recompute_day()
    candles = day_of(lake, GOLD_OHLCV_1M.name, "window_start", day, _NEWEST)
    incomplete = candles.filter(~pl.col("is_complete")).height if candles.height else 0
    return dg.MaterializeResult(
        metadata={
            "windows computed": outcome.windows_computed,
            "windows changed": outcome.windows_changed,
            "windows not complete": incomplete,
            "newest candles": table_metadata(candles.sort("window_start", "symbol", descending=True).head(12), _NEWEST),
            **_state(lake, GOLD_OHLCV_1M.name, "window_start", day),
        }
    )


def day_of(lake: Lake, name: str, time_column: str, day: date, columns: tuple[str, ...]) -> pl.DataFrame:
    """Read some columns of one day of a table."""
    table = lake.table(name)
    return read_files(table, live_files(table, time_column, day=day), columns)


def _state(lake: Lake, name: str, time_column: str, day: date) -> dict[str, dg.MetadataValue]:
    """Return how the day stands now: rows, files, the newest row's time."""
    files = live_files(lake.table(name), time_column, day=day)
    state: dict[str, dg.MetadataValue] = {
        ROW_COUNT: dg.MetadataValue.int(sum(each.file.record_count for each in files)),
        "files of the day": dg.MetadataValue.int(len(files)),
    }
    if files:
        state["newest row"] = microseconds(max(each.last_us for each in files))
    return state


def is_by_machine(tags: Iterable[str]) -> bool:
    """Tell whether automation or a sensor started this run; a person's run makes the day anew."""
    return not _BY_MACHINE.isdisjoint(tags)
