"""The one table that a drain fills from the feeds' events."""

import pyarrow as pa
from pyiceberg.catalog import Catalog

from k2_assets.decode.bronze_rows import SchemasOf
from k2_assets.decode.feed_event_rows import event_rows
from k2_assets.kafka.kafka_topic import Topic
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.kafka.topic_reader import Messages
from k2_assets.topic_tables.drained_tables import DrainedTables, Rows
from k2_core import topics
from k2_core.lake.tables import BRONZE_FEED_EVENTS


class EventLayers(DrainedTables):
    """Bronze alone: no other layer follows from feed events."""

    def __init__(self, catalog: Catalog, namespace: str) -> None:
        super().__init__(catalog, namespace, topics.FEED_EVENTS, {"bronze": BRONZE_FEED_EVENTS})

    def decoded(self, messages: Messages, topic: Topic, schemas: SchemaLookup) -> Rows:
        return Rows({"bronze": event_rows(messages, topic, schemas.of(messages.values), self.schemas["bronze"])})

    def made_of(self, bronze: pa.Table, schemas_of: SchemasOf) -> Rows:  # noqa: ARG002
        return Rows({})
