"""Gold in the asset graph. Refine keeps its days up to date; a person's run or a backfill rebuilds them."""

from datetime import date, timedelta
from typing import Any, Final

import dagster as dg

from k2_assets.gold.day_report import facts
from k2_assets.gold.gold_day import GoldDay
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.asset_metadata import shown_as
from k2_assets.orchestration.run_days import rebuild_each
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import GOLD, GOLD_TABLES
from k2_core.timeframes import ONE_MINUTE

_FRESH: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(minutes=12), warn_window=timedelta(minutes=6))
_FRESH_WIDER: Final = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(minutes=36), warn_window=timedelta(minutes=18)
)
"""Candles of more than a minute are reported a third as often."""
# Dagster puts assets of one policy into one run, in which candles of no day would start when one day of trades fails.
# So candles have another policy than trades.
_DATA: Final[dict[str, str]] = {spec.name: data for data, spec in GOLD.items()}
_DAYS_A_RUN, _DAYS_OF_CANDLES_A_RUN = 30, 31
_FIRST_COPY: Final = "Of several copies the first that was received is kept."
_COMPLETE: Final = "Each candle says whether it is complete."
_FRESH_MEANS: Final = "Fresh: it was lately refreshed, or found to have all that the layer below has."


def gold_assets(days: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Return gold's trades, quotes and candles as assets."""
    return [_asset(spec, days) for spec in GOLD_TABLES.values()]


def _asset(spec: TableSpec, days: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    days_a_run = _DAYS_A_RUN if spec.timeframe is None else _DAYS_OF_CANDLES_A_RUN
    tags = (
        {"data": _DATA[spec.name]} if spec.timeframe is None else {"data": "candles", "timeframe": spec.timeframe.name}
    )

    @dg.asset(
        key=spec.name,
        deps=spec.made_from,
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=days_a_run),
        freshness_policy=_FRESH if spec.timeframe in {None, ONE_MINUTE} else _FRESH_WIDER,
        kinds={"iceberg", "polars"},
        pool=spec.name,
        description=f"{spec.doc} {_FIRST_COPY if spec.timeframe is None else _COMPLETE} {_FRESH_MEANS}",
        **shown_as(spec, "gold", GoldDay.rebuild, **tags),
    )
    def gold(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> None:
        """Rebuild each day from all that the layer below has."""

        def rebuild(each: date) -> dict[str, Any]:
            day = GoldDay(lake, spec.name, each)
            return facts(day, day.rebuild())

        rebuild_each(context, lake.settings, rebuild)

    return gold
