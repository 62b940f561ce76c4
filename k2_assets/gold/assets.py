"""Gold in the asset graph. Refine keeps its days up to date; a person's run or a backfill rebuilds them."""

from datetime import date, timedelta
from typing import Final

import dagster as dg

from k2_assets.gold.day import SILVER, GoldDay
from k2_assets.presentation import OWNERS, spec_metadata
from k2_assets.resources.lake import Lake
from k2_core.table_spec import TableSpec
from k2_core.tables import DATA, GOLD, GOLD_OHLCV_1M, GOLD_TRADES

_FRESH: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(minutes=5), warn_window=timedelta(minutes=2))
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
        freshness_policy=_FRESH,
        group_name="gold",
        kinds={"iceberg", "polars"},
        owners=OWNERS,
        pool=spec.name,
        description=f"{spec.doc} {says}",
        metadata=spec_metadata(spec),
    )
    def gold(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult[None]:
        """Rebuild the day from all that the layer below has."""
        day = GoldDay(lake, spec.name, date.fromisoformat(context.partition_key))
        return dg.MaterializeResult(metadata=day.facts(day.rebuild()))

    return gold
