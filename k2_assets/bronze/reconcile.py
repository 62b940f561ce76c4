"""Compare a day of bronze with what Kafka still has of it, and add exactly what is missing."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2_assets.decode.bronze_rows import TIMESTAMP, decode_messages
from k2_assets.kafka.kafka_topic import ADMIN_TIMEOUT_S, admin_client
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.kafka.topic_reader import KafkaReader, Messages, Topic, describe_topic
from k2_assets.lake.first_partition import is_day_of_data
from k2_assets.lake.rewrites import replace_files
from k2_assets.lake.row_filters import day_bounds_us
from k2_assets.lake.source_files import live_files, read_files
from k2_assets.lake.table_lock import lock
from k2_assets.topic_tables.frame_tables import Layers
from k2_core import clock, topics
from k2_core.errors import RemovedByRetention, TopicError
from k2_core.lake import tables
from k2_core.lake.removed_days import RemovedDays
from k2_core.offsets import Offsets
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue

_GROUP: Final = "k2-reconcile"
_LOCK_WAIT_S: Final = 900.0
_READ_S: Final = 1.0
_PATIENCE_S: Final = 60.0
_WRITE_ROWS: Final = 100_000
_EARLIER_US: Final = 3600 * clock.US_PER_SECOND  # Kafka's clock may differ from the feed's
_PLACE: Final = ("topic_id", "kafka_partition", "kafka_offset")
_Ints = npt.NDArray[np.int64]


@dataclass
class Counts:
    """What a comparison found of one day; messages that no drain has read yet are left out."""

    in_kafka: int = 0
    in_bronze: int = 0
    added: int = 0
    no_longer_in_kafka: int = 0
    doubled: int = 0
    silver_days: set[date] = field(default_factory=set)


def reconcile_day(
    catalog: Catalog,
    namespace: str,
    servers: str,
    *,
    venue: Venue,
    day: date,
    schemas: SchemaLookup,
    data: Data = "trades",
    put_back: bool = False,
) -> Counts:
    """Compare the messages of an ingestion day in Kafka and in bronze, and add to bronze those that it lacks.

    Nothing is added twice, however often or wherever this is interrupted. The committed offsets stay as they are.

    Args:
        catalog: of the lake.
        namespace: of its tables.
        servers: Kafka's address.
        venue: whose topic it is.
        day: UTC day at which the frames were received. Kafka is searched from an hour before it to bronze's committed
            offsets, since a feed that could not reach Kafka publishes late.
        schemas: of the registry.
        data: of which of the venue's two topics.
        put_back: compare a day that retention has removed as well, and add again what Kafka still has of it.

    Raises:
        RemovedByRetention: retention has removed the day, and it is not to be put back.
        TopicError: Kafka does not answer, or has no such topic.
        LockBusy: maintenance works on the table's files.
        RegistryError: a schema could not be looked up.
    """
    name = tables.bronze(venue.VENUE, data).name
    if not put_back and day in RemovedDays.of(catalog.load_table((namespace, name)).properties):
        msg = (
            f"{name} of {day} was removed by retention, and nothing was compared; "
            f"a run with put_back in its config adds again what Kafka still has of the day"
        )
        raise RemovedByRetention(msg)
    with lock(catalog, f"files:{name}", _LOCK_WAIT_S) as lease:
        topic = describe_topic(servers, topics.raw_topic(venue.ASSET_CLASS, data, venue.VENUE))
        table = catalog.load_table((namespace, name))
        search = _Search(
            table, topic, servers, layers=Layers(catalog, namespace, venue, data), day=day, schemas=schemas
        )
        for partition in topic.partitions:
            search.partition(partition)
        search.write()
        if search.files:
            replace_files(lambda: catalog.load_table((namespace, name)), lease, [], search.files, {})
    return search.counts


class _Search:
    def __init__(
        self, table: Table, topic: Topic, servers: str, *, layers: Layers, day: date, schemas: SchemaLookup
    ) -> None:
        self.files: list[DataFile] = []
        self._table = table
        self._topic = topic
        self._servers = servers
        self._layers = layers
        self._day = day
        self._schemas = schemas
        self._vector = Offsets.from_properties(table.properties)
        of_day = live_files(table, "ingestion_timestamp", day=day)
        rows = read_files(table, of_day, _PLACE)
        self._existing = rows.unique()
        self.counts = Counts(
            in_bronze=rows.height,
            doubled=rows.height - self._existing.height,
            no_longer_in_kafka=self._existing.height,  # less those that are found there
        )
        self._missing = Messages()

    def partition(self, partition: int) -> None:
        """Compare one partition."""
        mine = pl.col("topic_id") == self._topic.topic_id, pl.col("kafka_partition") == partition
        existing = self._existing.filter(*mine)["kafka_offset"].sort().to_numpy()
        end = self._vector.get(self._topic.topic_id, partition)
        if end is None:
            return
        reader = KafkaReader(self._servers, Topic(self._topic.name, self._topic.topic_id, (partition,)), _GROUP)
        try:
            # Messages of the day lie between the first that Kafka stamped an hour before it, or the first that bronze
            # has of it, and the committed offset.
            oldest, following = reader.bounds()[partition]
            since_us = day_bounds_us(self._day)[0] - _EARLIER_US
            asked = {TopicPartition(self._topic.name, partition): OffsetSpec.for_timestamp(max(since_us // 1000, 0))}
            admin = admin_client(self._servers)  # held by a name: without one it is gone before the answer comes
            try:
                (answer,) = admin.list_offsets(asked, request_timeout=ADMIN_TIMEOUT_S).values()
                stamped: int = answer.result().offset  # negative where Kafka has no message since then
            except KafkaException as error:
                where, reason = f"{self._topic.name} partition {partition}", error.args[0].str()
                msg = f"Kafka at {self._servers} does not give the offsets of {where}: {reason}"
                raise TopicError(msg) from None
            first = min([following if stamped < 0 else stamped, *existing[:1].tolist()])
            for messages in _read(reader, partition, max(first, oldest), min(end, following)):
                self._compare(messages, existing)
        finally:
            reader.close()

    def write(self) -> None:
        """Write the missing messages that were found so far into files that no snapshot names yet."""
        messages, self._missing = self._missing, Messages()
        if not messages:
            return
        for read in self._layers.rows_of(messages, self._topic, self._schemas):
            stored, files = self._layers.stored(read)
            self.files += files.pop("bronze")
            self._layers.discard(files.values())  # silver and rejected follow when their days are rebuilt
            made = stored.by_layer
            rows, silver, rejected = made["bronze"], made["silver"], made["rejected"]
            self.counts.added += rows.num_rows
            for times in (silver["timestamp"], rows["max_event_ts"], rejected["ingestion_timestamp"]):
                days = times.cast(TIMESTAMP).cast(pa.date32()).unique().to_pylist()
                self.counts.silver_days |= {day for day in days if day is not None and is_day_of_data(day)}

    def _compare(self, messages: Messages, existing: _Ints) -> None:
        known = np.isin(np.array(messages.offsets, dtype=np.int64), existing, assume_unique=True)
        self.counts.in_kafka += int(known.sum())
        self.counts.no_longer_in_kafka -= int(known.sum())
        others = messages.chosen(np.flatnonzero(~known).tolist())
        if not others:
            return
        frames, _ = decode_messages(others, self._topic, self._schemas.of(others.values))
        start_us, end_us = day_bounds_us(self._day)
        of_day = (frames.ingestion_us >= start_us) & (frames.ingestion_us < end_us)
        missing = others.chosen(np.flatnonzero(of_day).tolist())
        if missing:
            # Bronze may have them in another day: once its schema is known, a frame may get another time.
            where = (
                f"topic_id = '{self._topic.topic_id}' and kafka_partition = {missing.partitions[0]} "
                f"and kafka_offset >= {min(missing.offsets)} and kafka_offset <= {max(missing.offsets)}"
            )
            rows = self._table.scan(where, selected_fields=("kafka_offset",)).to_arrow()
            elsewhere = np.isin(np.array(missing.offsets), rows["kafka_offset"].to_numpy())
            missing = missing.chosen(np.flatnonzero(~elsewhere).tolist())
        self.counts.in_kafka += len(missing)
        self._missing.absorb(missing)
        if len(self._missing) >= _WRITE_ROWS:
            self.write()


def _read(reader: KafkaReader, partition: int, first: int, end: int) -> Iterator[Messages]:
    """Yield the messages of [first, end)."""
    if first >= end:
        return
    reader.seek(Offsets({(reader.topic.topic_id, partition): first}))
    waits_until = clock.monotonic() + _PATIENCE_S
    while first < end:
        messages = reader.read(_READ_S)
        if messages:
            first, waits_until = messages.offsets[-1] + 1, clock.monotonic() + _PATIENCE_S
            yield messages.chosen([place for place, offset in enumerate(messages.offsets) if offset < end])
        elif reader.stopped or clock.monotonic() > waits_until:
            why = reader.stopped.get(partition, f"nothing came for {_PATIENCE_S:.0f} s")
            msg = f"{reader.topic.name} partition {partition} cannot be read from {first} to {end}: {why}"
            raise TopicError(msg)
