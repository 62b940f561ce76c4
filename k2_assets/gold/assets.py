"""Gold in the asset graph. Refine keeps its days up to date; a person's run or a backfill rebuilds them."""

from datetime import date, timedelta
from typing import Any, Final

import dagster as dg

from k2_assets.gold.day_report import facts
from k2_assets.gold.gold_day import SILVER, GoldDay
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.asset_metadata import OWNERS, spec_metadata
from k2_assets.orchestration.run_days import rebuild_each
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import DATA, GOLD, GOLD_OHLCV_1M, GOLD_TRADES

_FRESH: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(minutes=12), warn_window=timedelta(minutes=6))
# Dagster puts assets of one policy into one run, where a step that fails for one day keeps the next from all its days.
# So candles have another policy than trades.
_DAYS_A_RUN: Final = {GOLD_OHLCV_1M.name: 31} | dict.fromkeys((each.name for each in GOLD.values()), 30)
_FIRST_STAYS: Final = "Of several copies the first received stays."
_SAYS_ITSELF: Final = "A candle says itself whether it is proved complete."


def gold_assets(days: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Return gold's trades, quotes and candles as assets."""
    return [
        *(_asset(GOLD[data], SILVER[data], days, _FIRST_STAYS) for data in DATA),
        _asset(GOLD_OHLCV_1M, (GOLD_TRADES.name,), days, _SAYS_ITSELF),
    ]


def _asset(spec: TableSpec, deps: tuple[str, ...], days: dg.PartitionsDefinition, says: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=spec.name,
        deps=deps,
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=_DAYS_A_RUN[spec.name]),
        freshness_policy=_FRESH,
        group_name="gold",
        kinds={"iceberg", "polars"},
        owners=OWNERS,
        pool=spec.name,
        description=f"{spec.doc} {says}",
        metadata=spec_metadata(spec),
    )
    def gold(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> None:
        """Rebuild each day from all that the layer below has."""

        def rebuild(each: date) -> dict[str, Any]:
            day = GoldDay(lake, spec.name, each)
            return facts(day, day.rebuild())

        rebuild_each(context, lake.settings, rebuild)

    return gold
