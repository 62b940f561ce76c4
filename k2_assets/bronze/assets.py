"""Bronze in the asset graph. The drain fills it; a run holds a day of it against Kafka and adds what is missing."""

from datetime import date
from typing import Any

import dagster as dg

from k2_assets.bronze.reconcile import Counts, reconcile_day
from k2_assets.drain.schemas import SchemaLookup
from k2_assets.partitions import DAILY
from k2_assets.presentation import OWNERS, spec_metadata
from k2_assets.resources.lake import Lake
from k2_core import tables, topics
from k2_core.registry import Registry
from k2_core.venues import VENUES


def bronze_assets(venue: str) -> list[dg.AssetSpec | dg.AssetsDefinition]:
    """Return a venue's topic and bronze table as assets."""
    topic = topics.raw_topic("crypto", "trades", venue)
    return [
        dg.AssetSpec(
            topic_key(venue),
            description=f"Kafka topic `{topic}`: {venue}'s WebSocket frames, verbatim, in Avro envelopes.",
            group_name="bronze",
            kinds={"kafka"},
            owners=OWNERS,
        ),
        _reconciled(venue),
    ]


def topic_key(venue: str) -> dg.AssetKey:
    """Return the asset key of a venue's trades topic."""
    return dg.AssetKey(["kafka", topics.raw_topic("crypto", "trades", venue).replace(".", "_")])


def _reconciled(venue: str) -> dg.AssetsDefinition:
    spec = tables.bronze_trades(venue)

    def bronze_trades(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult[None]:
        settings, day = lake.settings, date.fromisoformat(context.partition_key)
        with Registry(settings.registry_url) as registry:
            schemas = SchemaLookup(registry)
            counts = reconcile_day(
                lake.catalog(),
                lake.namespace,
                settings.bootstrap_servers,
                venue=VENUES[venue],
                day=day,
                schemas=schemas,
            )
        if counts.doubled:
            description = f"{spec.name} holds {counts.doubled} messages of {day} twice: nothing was taken away."
            raise dg.Failure(description, metadata=_metadata(counts), allow_retries=False)
        return dg.MaterializeResult(metadata=_metadata(counts))

    as_asset = dg.asset(
        key=spec.name,
        deps=[topic_key(venue)],
        description=f"{spec.doc} Written by the drain; a run adds what Kafka still has of its day and bronze lacks.",
        group_name="bronze",
        kinds={"iceberg", "parquet"},
        owners=OWNERS,
        partitions_def=DAILY,
        pool=spec.name,
        metadata=spec_metadata(spec),
    )
    made: dg.AssetsDefinition = as_asset(bronze_trades)
    return made


def _metadata(counts: Counts) -> dict[str, Any]:
    days = ", ".join(day.isoformat() for day in sorted(counts.silver_days))
    return {
        "in Kafka": counts.in_kafka,
        "in bronze": counts.in_bronze,
        "added": counts.added,
        "no longer in Kafka": counts.no_longer_in_kafka,
        "doubled": counts.doubled,
        "silver days to make anew": days or "none",
    }
