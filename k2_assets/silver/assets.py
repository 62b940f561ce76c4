"""Silver in the asset graph. The drain fills it from bronze's frames; a run rebuilds a day of it from them."""

from datetime import date, timedelta
from typing import Any, Final

import dagster as dg

from k2_assets.decode.silver_rows import rejected_rows
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.asset_metadata import shown_as
from k2_assets.orchestration.run_days import rebuild_each
from k2_assets.silver.rebuild_day import rebuild_day
from k2_core.lake import tables
from k2_core.lake.tables import DATA
from k2_core.registry import Registry
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue

_DAYS_A_RUN: Final = 7
# A drain reports every ten minutes what it committed, and that nothing waits when nothing came.
_FRESH: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(minutes=30), warn_window=timedelta(minutes=15))
_FRESH_MEANS: Final = "Fresh: within 15 minutes the drain has stored rows here, or has seen that Kafka has no more."


def silver_assets(venue: Venue, days: dg.PartitionsDefinition) -> list[dg.AssetSpec | dg.AssetsDefinition]:
    """Return a venue's silver and rejected tables as assets."""
    rejected = tables.silver_rejected(venue.VENUE)
    description = f"{rejected.doc} The drain writes it; a rebuild of a day of silver replaces its rows too."
    return [
        *(_rebuilt(venue, data, days) for data in DATA),
        dg.AssetSpec(
            rejected.name,
            description=description,
            deps=rejected.made_from,
            kinds={"iceberg", "parquet"},
            partitions_def=days,
            **shown_as(rejected, "silver", rejected_rows, venue=venue.VENUE, data="rejected"),
        ),
    ]


def _rebuilt(venue: Venue, data: Data, days: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    spec = tables.silver(venue.VENUE, data)

    def silver(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> None:
        with Registry(lake.settings.registry_url) as registry:
            schemas = SchemaLookup(registry)

            def rebuild(day: date) -> dict[str, Any]:
                outcome = rebuild_day(lake.catalog(), lake.namespace, venue, day, schemas, data=data)
                if lost := outcome.frames_without_bronze:
                    context.log.warning("%d frames of %s are not in bronze any more: their rows stay", lost, day)
                return {
                    "frames read": outcome.frames_read,
                    "rows written": outcome.rows_written,
                    "rows replaced": outcome.rows_replaced,
                    "rejected rows written": outcome.rejected_written,
                    "rejected rows replaced": outcome.rejected_replaced,
                    "days changed": ", ".join(day.isoformat() for day in outcome.days_changed) or "none",
                    "frames not in bronze any more": outcome.frames_without_bronze,
                }

            rebuild_each(context, lake.settings, rebuild)

    as_asset = dg.asset(
        key=spec.name,
        deps=spec.made_from,
        kinds={"iceberg", "parquet"},
        partitions_def=days,
        description=f"{spec.doc} The drain writes it; a run rebuilds its day from bronze, with the current parser. "
        f"{_FRESH_MEANS}",
        pool=spec.name,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=_DAYS_A_RUN),
        freshness_policy=_FRESH,
        **shown_as(spec, "silver", rebuild_day, venue=venue.VENUE, data=data),
    )
    asset: dg.AssetsDefinition = as_asset(silver)
    return asset
