"""The subscriptions that are in Kafka and not yet in the lake: one may be only seconds older than its frames."""

from typing import Final

import polars as pl
from pyiceberg.table import Table

from k2_assets.decode.feed_event_rows import event_rows
from k2_assets.kafka.kafka_topic import NoTopic, describe_topic
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.kafka.topic_reader import KafkaReader
from k2_assets.lake.commits import arrow_schema
from k2_assets.lake.source_files import as_frame
from k2_assets.reference.register_reader import EVENT_COLUMNS
from k2_core import clock, topics
from k2_core.lake.tables import BRONZE_FEED_EVENTS
from k2_core.logs import logger
from k2_core.offsets import Offsets

log = logger(__name__)

_GROUP: Final = "k2-register"
_QUEUED_MB: Final = 8
_PATIENCE_S: Final = 5.0
_READ_S: Final = 0.05


class RecentSubscriptions:
    """Reads the topic of the feeds' events from the lake's vector at the first question on. Not safe for threads."""

    def __init__(self, bootstrap_servers: str, schemas: SchemaLookup) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._schemas = schemas
        self._schema = arrow_schema(BRONZE_FEED_EVENTS)
        self._reader: KafkaReader | None = None
        self._next: dict[int, int] = {}
        self._found = pl.DataFrame(schema=dict.fromkeys(EVENT_COLUMNS[:3], pl.String) | {EVENT_COLUMNS[3]: pl.Int64})

    def read(self, events: Table) -> pl.DataFrame:
        """Return the subscriptions of all venues that came after those in ``events``, up to Kafka's newest.

        Raises:
            KafkaException: Kafka does not answer.
            TopicError: the same.
            RegistryError: a schema could not be looked up.
        """
        if self._reader is None:
            try:
                topic = describe_topic(self._bootstrap_servers, topics.FEED_EVENTS)
            except NoTopic:
                return self._found
            self._reader = KafkaReader(self._bootstrap_servers, topic, _GROUP, _QUEUED_MB)
            vector = Offsets.from_properties(events.properties)
            oldest = {partition: first for partition, (first, _) in self._reader.bounds().items()}
            self._reader.seek(vector)
            committed = {partition: vector.get(topic.topic_id, partition) for partition in topic.partitions}
            self._next = {part: oldest[part] if offset is None else offset for part, offset in committed.items()}
        reader = self._reader
        # Kafka's newest offsets of this moment are the end: feeds that go on writing must not keep a drain here.
        ends = {partition: end for partition, (_, end) in reader.bounds().items()}
        deadline = clock.monotonic() + _PATIENCE_S
        while any(self._next[each] < end for each, end in ends.items() if each not in reader.stopped):
            if messages := reader.read(_READ_S):
                rows = event_rows(messages, reader.topic, self._schemas.of(messages.values), self._schema)
                found = as_frame(rows.select(list(EVENT_COLUMNS))).filter(pl.col("kind") == "subscribe")
                self._found = pl.concat([self._found, found]).unique()
                for (_, partition), following in messages.following(reader.topic.topic_id).items():
                    self._next[partition] = following
            if clock.monotonic() > deadline:
                log.warning("subscriptions could not be read to their end", topic=reader.topic.name)
                break
        return self._found

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
