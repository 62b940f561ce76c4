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
from k2_core.tables import BRONZE_FEED_EVENTS, DATA
from k2_core.venues import VENUES
from k2_core.venues.routing import Data


def bronze_assets(venue: str) -> list[dg.AssetSpec | dg.AssetsDefinition]:
    """Return a venue's topics and bronze tables as assets."""
    return [each for data in DATA for each in (_topic(venue, data), _reconciled(venue, data))]


def feed_event_assets() -> list[dg.AssetSpec]:
    """Return the topic of the feeds' events, and their table, which the drain fills."""
    doc = f"Kafka topic `{topics.FEED_EVENTS}`: what happens to the feeds, in Avro."
    spec = BRONZE_FEED_EVENTS
    written = dg.AssetSpec(
        spec.name,
        deps=[_key(topics.FEED_EVENTS)],
        description=f"{spec.doc} Written by the drain.",
        group_name="bronze",
        kinds={"iceberg", "parquet"},
        owners=OWNERS,
        partitions_def=DAILY,
        metadata=spec_metadata(spec),
    )
    return [_kafka(topics.FEED_EVENTS, doc), written]


def _topic(venue: str, data: Data) -> dg.AssetSpec:
    topic = topics.raw_topic("crypto", data, venue)
    carries = "trades, and whatever is not a quote" if data == "trades" else "quotes"
    return _kafka(topic, f"Kafka topic `{topic}`: {venue}'s WebSocket frames, verbatim, in Avro envelopes: {carries}.")


def _kafka(topic: str, description: str) -> dg.AssetSpec:
    return dg.AssetSpec(_key(topic), description=description, group_name="bronze", kinds={"kafka"}, owners=OWNERS)


def _key(topic: str) -> dg.AssetKey:
    return dg.AssetKey(["kafka", topic.replace(".", "_")])


def _reconciled(venue: str, data: Data) -> dg.AssetsDefinition:
    spec = tables.bronze(venue, data)

    def bronze(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult[None]:
        settings, day = lake.settings, date.fromisoformat(context.partition_key)
        with Registry(settings.registry_url) as registry:
            counts = reconcile_day(
                lake.catalog(),
                lake.namespace,
                settings.bootstrap_servers,
                venue=VENUES[venue],
                day=day,
                schemas=SchemaLookup(registry),
                data=data,
            )
        if counts.doubled:
            description = f"{spec.name} holds {counts.doubled} messages of {day} twice: nothing was taken away."
            raise dg.Failure(description, metadata=_metadata(counts), allow_retries=False)
        return dg.MaterializeResult(metadata=_metadata(counts))

    as_asset = dg.asset(
        key=spec.name,
        deps=[_key(topics.raw_topic("crypto", data, venue))],
        description=f"{spec.doc} Written by the drain; a run adds what Kafka still has of its day and bronze lacks.",
        group_name="bronze",
        kinds={"iceberg", "parquet"},
        owners=OWNERS,
        partitions_def=DAILY,
        pool=spec.name,
        metadata=spec_metadata(spec),
    )
    made: dg.AssetsDefinition = as_asset(bronze)
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
