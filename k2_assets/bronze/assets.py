"""Bronze in the asset graph. The drain fills it; a run compares a day with Kafka and adds what is missing."""

from datetime import date
from typing import Any, Final

import dagster as dg
from pydantic import Field

from k2_assets.bronze.reconcile import Counts, reconcile_day
from k2_assets.decode.feed_event_rows import event_rows
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.kafka.topic_reader import KafkaReader
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.asset_metadata import OWNERS, code_reference, shown_as, topic_key
from k2_assets.orchestration.check_evaluations import evaluation
from k2_assets.orchestration.verdict import counted
from k2_core import clock, topics
from k2_core.lake import tables
from k2_core.lake.tables import BRONZE_FEED_EVENTS, DATA
from k2_core.registry import Registry
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue

_SAME_AS_KAFKA: Final = "same_as_kafka"


class CompareDay(dg.Config):
    """How a day of bronze is compared with Kafka."""

    put_back: bool = Field(
        default=False, description="add what Kafka still has of a day that retention has removed, too"
    )


def bronze_assets(venue: Venue, days: dg.PartitionsDefinition) -> list[dg.AssetSpec | dg.AssetsDefinition]:
    """Return a venue's topics and bronze tables as assets."""
    assets: list[dg.AssetSpec | dg.AssetsDefinition] = []
    for data in DATA:
        topic = topics.raw_topic(venue.ASSET_CLASS, data, venue.VENUE)
        carries = "trades, and whatever is not a quote" if data == "trades" else "quotes"
        doc = f"Kafka topic `{topic}`: {venue.VENUE}'s WebSocket frames, verbatim, in Avro envelopes: {carries}."
        assets += [_kafka(topic, doc, venue=venue.VENUE, data=data), _compared(venue, data, days)]
    return assets


def feed_event_assets(days: dg.PartitionsDefinition) -> list[dg.AssetSpec]:
    """Return the topic of the feeds' events, and their table, which the drain fills."""
    doc = f"Kafka topic `{topics.FEED_EVENTS}`: what happens to the feeds, in Avro."
    spec = BRONZE_FEED_EVENTS
    written = dg.AssetSpec(
        spec.name,
        deps=[topic_key(topics.FEED_EVENTS)],
        description=f"{spec.doc} Written by the drain.",
        kinds={"iceberg", "parquet"},
        partitions_def=days,
        **shown_as(spec, "bronze", event_rows, data="feed-events"),
    )
    return [_kafka(topics.FEED_EVENTS, doc, data="feed-events"), written]


def _kafka(topic: str, description: str, **tags: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        topic_key(topic),
        description=f"{description} The drain reports here how far it has read: offsets, and the lag in messages.",
        group_name="kafka",
        kinds={"kafka"},
        owners=OWNERS,
        tags={"layer": "kafka", **tags},
        metadata={"topic": topic, **code_reference(KafkaReader.read)},
    )


def _compared(venue: Venue, data: Data, days: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    spec = tables.bronze(venue.VENUE, data)

    def bronze(
        context: dg.AssetExecutionContext, config: CompareDay, lake: dg.ResourceParam[Lake]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # beside a check Dagster takes it without a type only
        settings, day = lake.settings, date.fromisoformat(context.partition_key)
        with Registry(settings.registry_url) as registry:
            counts = reconcile_day(
                lake.catalog(),
                lake.namespace,
                settings.bootstrap_servers,
                venue=venue,
                day=day,
                schemas=SchemaLookup(registry),
                data=data,
                put_back=config.put_back,
            )
        check = _check(counts, day)
        if counts.doubled:
            # The check is logged before: what a run that fails would return is lost.
            context.log_event(
                evaluation(dg.AssetCheckKey(context.asset_key, _SAME_AS_KAFKA), check, day, clock.now_s())
            )
            description = f"{spec.name} holds {counts.doubled} messages of {day} twice: nothing was removed."
            raise dg.Failure(description, metadata=_metadata(counts), allow_retries=False)
        return dg.MaterializeResult(metadata=_metadata(counts), check_results=[check])

    as_asset = dg.asset(
        key=spec.name,
        deps=[topic_key(topics.raw_topic(venue.ASSET_CLASS, data, venue.VENUE))],
        description=f"{spec.doc} Written by the drain; a run adds what Kafka still has of its day and bronze lacks.",
        kinds={"iceberg", "parquet"},
        partitions_def=days,
        check_specs=[
            dg.AssetCheckSpec(
                _SAME_AS_KAFKA,
                asset=spec.name,
                partitions_def=days,
                description="Bronze holds each message of the day that Kafka still has, once. A run of the day adds "
                "what is missing: then this is a warning until the day is run again.",
            )
        ],
        pool=spec.name,
        **shown_as(spec, "bronze", reconcile_day, venue=venue.VENUE, data=data),
    )
    made: dg.AssetsDefinition = as_asset(bronze)
    return made


def _check(counts: Counts, day: date) -> dg.AssetCheckResult:
    found = []
    if counts.doubled:
        found.append(f"{counted(counts.doubled, 'message')} of bronze twice, nothing was removed")
    if counts.added:
        days = ", ".join(each.isoformat() for each in sorted(counts.silver_days)) or "none"
        found.append(f"{counted(counts.added, 'missing message')} added, silver days to rebuild: {days}")
    compared = f"{counted(counts.in_kafka, 'message')} of {day} in Kafka, {counts.in_bronze:,} in bronze"
    return dg.AssetCheckResult(
        check_name=_SAME_AS_KAFKA,
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR if counts.doubled else dg.AssetCheckSeverity.WARN,
        description=f"{compared}: {'; '.join(found) or 'bronze lacks none'}.",
        metadata=_metadata(counts),
    )


def _metadata(counts: Counts) -> dict[str, Any]:
    days = ", ".join(day.isoformat() for day in sorted(counts.silver_days))
    return {
        "in Kafka": counts.in_kafka,
        "in bronze": counts.in_bronze,
        "added": counts.added,
        "no longer in Kafka": counts.no_longer_in_kafka,
        "doubled": counts.doubled,
        "silver days to rebuild": days or "none",
    }
