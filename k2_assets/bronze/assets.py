"""Bronze in the asset graph. The drain fills it; a run holds a day of it against Kafka and adds what is missing."""

from datetime import date
from typing import Any, Final

import dagster as dg

from k2_assets.bronze.reconcile import Counts, reconcile_day
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.asset_metadata import OWNERS, counted, spec_metadata
from k2_core import topics
from k2_core.lake import tables
from k2_core.lake.tables import BRONZE_FEED_EVENTS, DATA
from k2_core.registry import Registry
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue

_SAME_AS_KAFKA: Final = "same_as_kafka"


def bronze_assets(venue: Venue, days: dg.PartitionsDefinition) -> list[dg.AssetSpec | dg.AssetsDefinition]:
    """Return a venue's topics and bronze tables as assets."""
    return [each for data in DATA for each in (_topic(venue, data), _reconciled(venue, data, days))]


def feed_event_assets(days: dg.PartitionsDefinition) -> list[dg.AssetSpec]:
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
        partitions_def=days,
        metadata=spec_metadata(spec),
    )
    return [_kafka(topics.FEED_EVENTS, doc), written]


def _topic(venue: Venue, data: Data) -> dg.AssetSpec:
    topic = topics.raw_topic(venue.ASSET_CLASS, data, venue.VENUE)
    carries = "trades, and whatever is not a quote" if data == "trades" else "quotes"
    return _kafka(
        topic, f"Kafka topic `{topic}`: {venue.VENUE}'s WebSocket frames, verbatim, in Avro envelopes: {carries}."
    )


def _kafka(topic: str, description: str) -> dg.AssetSpec:
    return dg.AssetSpec(_key(topic), description=description, group_name="bronze", kinds={"kafka"}, owners=OWNERS)


def _key(topic: str) -> dg.AssetKey:
    return dg.AssetKey(["kafka", topic.replace(".", "_")])


def _reconciled(venue: Venue, data: Data, days: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    spec = tables.bronze(venue.VENUE, data)

    def bronze(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:  # type: ignore[type-arg]  # beside a check Dagster takes it without a type only
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
            )
        check = _judged(counts, day)
        if counts.doubled:
            _log(context, check)
            description = f"{spec.name} holds {counts.doubled} messages of {day} twice: nothing was taken away."
            raise dg.Failure(description, metadata=_metadata(counts), allow_retries=False)
        return dg.MaterializeResult(metadata=_metadata(counts), check_results=[check])

    as_asset = dg.asset(
        key=spec.name,
        deps=[_key(topics.raw_topic(venue.ASSET_CLASS, data, venue.VENUE))],
        description=f"{spec.doc} Written by the drain; a run adds what Kafka still has of its day and bronze lacks.",
        group_name="bronze",
        kinds={"iceberg", "parquet"},
        owners=OWNERS,
        partitions_def=days,
        check_specs=[
            dg.AssetCheckSpec(
                _SAME_AS_KAFKA,
                asset=spec.name,
                partitions_def=days,
                description="Bronze holds each message of the day that Kafka still has, once. Judged by a run of the "
                "day, which adds what is missing: a warning until it is run again.",
            )
        ],
        pool=spec.name,
        metadata=spec_metadata(spec),
    )
    made: dg.AssetsDefinition = as_asset(bronze)
    return made


def _judged(counts: Counts, day: date) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=_SAME_AS_KAFKA,
        passed=not counts.doubled and not counts.added,
        severity=dg.AssetCheckSeverity.ERROR if counts.doubled else dg.AssetCheckSeverity.WARN,
        description=_sentence(counts, day),
        metadata=_metadata(counts),
    )


def _log(context: dg.AssetExecutionContext, check: dg.AssetCheckResult) -> None:
    """Report a check at once: what a run that fails would return is lost."""
    found = dg.AssetCheckEvaluation(
        asset_key=context.asset_key,
        check_name=_SAME_AS_KAFKA,
        partition=context.partition_key,
        passed=check.passed,
        severity=check.severity,
        description=check.description,
        metadata=check.metadata,
    )
    context.log_event(found)


def _sentence(counts: Counts, day: date) -> str:
    compared = f"{counted(counts.in_kafka, 'message')} of {day} in Kafka, {counts.in_bronze:,} in bronze"
    found = [f"{counted(counts.doubled, 'message')} of bronze twice, nothing was taken away"] if counts.doubled else []
    if counts.added:
        days = ", ".join(each.isoformat() for each in sorted(counts.silver_days)) or "none"
        found.append(f"{counted(counts.added, 'missing message')} added, silver days to rebuild: {days}")
    return f"{compared}: {'; '.join(found) or 'bronze lacks none'}."


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
