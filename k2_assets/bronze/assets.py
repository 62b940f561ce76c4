"""Bronze in the asset graph. The drain fills it; nothing else writes it."""

import dagster as dg

from k2_assets.partitions import DAILY
from k2_assets.presentation import OWNERS, spec_metadata
from k2_core import tables, topics


def bronze_assets(venue: str) -> list[dg.AssetSpec]:
    """Return a venue's topic and bronze table as assets."""
    topic = topics.raw_topic("crypto", "trades", venue)
    spec = tables.bronze_trades(venue)
    return [
        dg.AssetSpec(
            topic_key(venue),
            description=f"Kafka topic `{topic}`: {venue}'s WebSocket frames, verbatim, in Avro envelopes.",
            group_name="bronze",
            kinds={"kafka"},
            owners=OWNERS,
        ),
        dg.AssetSpec(
            spec.name,
            deps=[topic_key(venue)],
            description=f"{spec.doc} Written by the drain.",
            group_name="bronze",
            kinds={"iceberg", "parquet"},
            owners=OWNERS,
            partitions_def=DAILY,
            metadata=spec_metadata(spec),
        ),
    ]


def topic_key(venue: str) -> dg.AssetKey:
    """Return the asset key of a venue's trades topic."""
    return dg.AssetKey(["kafka", topics.raw_topic("crypto", "trades", venue).replace(".", "_")])
