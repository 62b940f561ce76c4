"""A small lake that was drained without Kafka: frames in; bronze, rejected and silver out, as the drain commits."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.kafka.topic_reader import Messages
from k2_assets.kafka.writer_schema import WriterSchema
from k2_assets.silver.rebuild_day import Outcome, rebuild_day
from k2_assets.topic_tables.drained_tables import Batch, Rows
from k2_assets.topic_tables.frame_tables import Layers
from k2_core.lake import tables
from k2_core.lake.table_spec import TableSpec
from k2_core.offsets import Offsets
from k2_core.venues import binance
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue
from tests.assets.frames import NOON_MS, SCHEMAS, TOPIC, a_frame, an_envelope
from tests.assets.lakes import DAY, SmallLake

BRONZE, REJECTED, SILVER = (
    make("binance") for make in (tables.bronze_trades, tables.silver_rejected, tables.silver_trades)
)
Place = tuple[str, int, int]


class KnownSchemas(SchemaLookup):
    """Answers without a registry."""

    def __init__(self) -> None:
        pass

    def of(self, values: list[bytes]) -> dict[int, WriterSchema]:  # noqa: ARG002
        return dict(SCHEMAS)


def received(payload: bytes, at_ms: int = NOON_MS) -> bytes:
    """The Kafka value of a frame that was received at ``at_ms``."""
    return an_envelope(payload, received_ns=at_ms * 1_000_000)


def at(moment_ms: int, trade_id: int = 1, **fields: Any) -> bytes:
    """The Kafka value of a trade that happened, and was received, at ``moment_ms``."""
    return received(a_frame(trade_id, T=moment_ms, E=moment_ms, **fields), moment_ms)


class DrainedLake(SmallLake):
    """A lake whose drained tables grow by :meth:`drain`."""

    def drain(
        self,
        *values: bytes,
        partition: int = 0,
        topic_id: str = TOPIC.topic_id,
        venue: Venue = binance,
        data: Data = "trades",
    ) -> Batch:
        """Commit Kafka values behind those of the same partition, as a drain with ``venue``'s parser does."""
        layers = Layers(self.catalog, self.namespace, venue, data)
        first = layers.vector("bronze").get(topic_id, partition)
        offsets = list(range(first or 0, (first or 0) + len(values)))
        read = Messages(
            [partition] * len(values), offsets, [NOON_MS] * len(values), [b"BTCUSDT"] * len(values), list(values)
        )
        rows = Rows.joined(list(layers.rows_of(read, replace(TOPIC, topic_id=topic_id), KnownSchemas())))
        start = Offsets({(topic_id, partition): first} if first is not None else {})
        return layers.commit(Batch(start, read.following(topic_id), rows))

    def rebuild(self, day: date = DAY, venue: Venue = binance, data: Data = "trades") -> Outcome:
        """Rebuild a day of silver."""
        return rebuild_day(self.catalog, self.namespace, venue, day, KnownSchemas(), data=data)

    def picture(self, spec: TableSpec) -> Counter[str]:
        """Count the rows of a table by all that they say."""
        return Counter(repr(sorted(row.items())) for row in self.rows(spec))

    def frames(self, spec: TableSpec) -> Counter[Place]:
        """Count the rows of a table by their frame."""
        return Counter((row["topic_id"], row["kafka_partition"], row["kafka_offset"]) for row in self.rows(spec))

    def ids(self, spec: TableSpec = SILVER) -> list[int]:
        """Return the trade ids of a table of trades, in order."""
        return sorted(row["source_sequence"] for row in self.rows(spec))


def only_once(commit: Callable[..., Any]) -> Callable[..., Any]:
    """Let the first commit pass; every other one finds a disk that is gone."""
    calls = iter([True])

    def commits(*arguments: Any) -> Any:
        if next(calls, False):
            return commit(*arguments)
        raise OSError("the disk is gone")

    return commits
