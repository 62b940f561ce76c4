"""The tables that a drain fills from one topic, and how rows of one feed the next."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2_assets.bronze.transforms import Frames, bronze_rows, decode_messages, frames_of_bronze
from k2_assets.drain.schemas import SchemaLookup
from k2_assets.kafka_reader import Messages
from k2_assets.kafka_topic import Topic
from k2_assets.lake_writer.commits import arrow_schema, commit_drained
from k2_assets.reference.reader import RegisterReader
from k2_assets.silver.transforms import Refined, refine
from k2_core import tables, topics
from k2_core.crash_points import reach
from k2_core.offsets import Offsets
from k2_core.table_spec import TableSpec
from k2_core.venues.routing import Data

_CATCH_UP_OFFSETS: Final = 250_000
_REFINED_FROM: Final = (
    "topic",
    "topic_id",
    "kafka_partition",
    "kafka_offset",
    "received_ns",
    "payload",
    "ingestion_timestamp",
)


@dataclass(frozen=True)
class Rows:
    """What became of some messages: rows by layer, in the order in which layers are committed."""

    by_layer: Mapping[str, pa.Table]
    control_frames: int = 0

    @property
    def rejected_bytes(self) -> int:
        """What the rejected rows take in memory."""
        rejected = self.by_layer.get("rejected")
        return 0 if rejected is None else rejected.nbytes

    @classmethod
    def joined(cls, parts: "list[Rows]") -> "Rows":
        """Return the rows of all parts; at least one, all of the same layers."""
        by_layer = {layer: pa.concat_tables([part.by_layer[layer] for part in parts]) for layer in parts[0].by_layer}
        return cls(by_layer, sum(part.control_frames for part in parts))


@dataclass(frozen=True)
class Batch:
    """Rows of one commit of each layer, and the vectors before and after it."""

    start: Offsets
    following: Offsets
    rows: Rows

    @property
    def bronze(self) -> pa.Table:
        """The rows of bronze: one for each message."""
        return self.rows.by_layer["bronze"]


@dataclass(frozen=True)
class _Piece:
    """The offsets [first, end) of one partition."""

    topic_id: str
    partition: int
    first: int
    end: int

    @property
    def key(self) -> tuple[str, int]:
        return self.topic_id, self.partition


class DrainedTables(ABC):
    """The tables of one topic, by layer, in the order in which they are committed."""

    def __init__(self, catalog: Catalog, namespace: str, topic: str, specs: Mapping[str, TableSpec]) -> None:
        self.topic = topic
        self.specs = dict(specs)
        self.schemas = {layer: arrow_schema(spec) for layer, spec in self.specs.items()}
        self._catalog = catalog
        self._namespace = namespace
        self._tables: dict[str, Table] = {}
        self.reload()

    def reload(self) -> None:
        """Load every table's newest state."""
        for layer, spec in self.specs.items():
            self._tables[layer] = self._catalog.load_table((self._namespace, spec.name))

    def vector(self, layer: str) -> Offsets:
        """Return the vector that a layer's table carries, as last loaded."""
        return Offsets.from_properties(self._tables[layer].properties)

    @property
    def drained(self) -> Offsets:
        """The vector of the last layer: what lies below it stands in all of them."""
        return self.vector(list(self.specs)[-1])

    @abstractmethod
    def rows_of(self, messages: Messages, topic: Topic, schemas: SchemaLookup) -> Rows:
        """Return what becomes of messages.

        Raises:
            RegistryError: a schema could not be looked up.
        """

    def commit(self, batch: Batch) -> None:
        """Commit the layers one after the other.

        Raises:
            CommitConflict: another writer was first in one of them; reload and catch up.
        """
        for layer, rows in batch.rows.by_layer.items():
            self._tables[layer] = commit_drained(self._tables[layer], rows, batch.start, batch.following)
            reach(f"{self.specs[layer].name}.acknowledged")

    def catch_up(self, schemas: SchemaLookup, progress: Callable[[str], None]) -> int:  # noqa: ARG002
        """Bring every layer to bronze's vector from bronze's rows; return how many offsets were behind.

        Raises:
            CommitConflict: another writer was first.
            RegistryError: a schema could not be looked up.
        """
        return 0


class Layers(DrainedTables):
    """Bronze, rejected and silver of a venue's trades or quotes; both share the table of rejected rows."""

    def __init__(
        self,
        catalog: Catalog,
        namespace: str,
        venue: ModuleType,
        data: Data = "trades",
        *,
        recent: Callable[[Table], pl.DataFrame] | None = None,
    ) -> None:
        """Load the tables.

        Args:
            catalog: of the lake.
            namespace: of its tables.
            venue: a module of :mod:`k2_core.venues`.
            data: trades or quotes.
            recent: see :class:`k2_assets.reference.reader.RegisterReader`.
        """
        self.venue = venue
        self.data = data
        specs = {
            "bronze": tables.bronze(venue.VENUE, data),
            "rejected": tables.silver_rejected(venue.VENUE),
            "silver": tables.silver(venue.VENUE, data),
        }
        super().__init__(catalog, namespace, topics.raw_topic(venue.ASSET_CLASS, data, venue.VENUE), specs)
        self._register = RegisterReader(catalog, namespace, venue, recent)

    def refine(self, frames: Frames) -> Refined:
        """Parse and validate frames by this venue's rules and the register of its instruments."""
        schemas = self.schemas["silver"], self.schemas["rejected"]
        return self._register.judged(
            lambda register: refine(frames, self.venue, *schemas, self.data, instruments=register)
        )

    def rows_of(self, messages: Messages, topic: Topic, schemas: SchemaLookup) -> Rows:
        """Return the bronze rows of messages, and what their frames become."""
        frames, envelopes = decode_messages(messages, topic, schemas.of(messages.values))
        refined = self.refine(frames)
        times = (refined.first_event_us, refined.last_event_us)
        bronze = bronze_rows(messages, frames, envelopes, times, self.schemas["bronze"])
        by_layer = {"bronze": bronze, "rejected": refined.rejected, "silver": refined.silver}
        return Rows(by_layer, refined.control_frames)

    def catch_up(self, schemas: SchemaLookup, progress: Callable[[str], None]) -> int:
        """Bring rejected and silver to bronze's vector from bronze's rows; return how many offsets were behind."""
        behind = 0
        for layer in ("rejected", "silver"):
            for piece in self._pieces(self.vector(layer)):
                progress(f"{self.specs[layer].name} from bronze: partition {piece.partition} to {piece.end}")
                refined = self.refine(self._bronze_frames(piece, schemas))
                rows = refined.silver if layer == "silver" else refined.rejected
                start = self.vector(layer).only({piece.key})
                reach(f"{self.specs[layer].name}.catch_up")
                self._tables[layer] = commit_drained(self._tables[layer], rows, start, Offsets({piece.key: piece.end}))
                reach(f"{self.specs[layer].name}.caught_up")
                behind += piece.end - piece.first
        return behind

    def _pieces(self, standing: Offsets) -> Iterator[_Piece]:
        """Cut what lies between ``standing`` and bronze's vector into pieces that fit in memory."""
        for (topic_id, partition), end in self.vector("bronze").items():
            first = standing.get(topic_id, partition)
            if first is None:
                first = self._oldest_in_bronze(topic_id, partition, end)
            if standing.get(topic_id, partition) is None and first == end:
                yield _Piece(topic_id, partition, end, end)  # bronze has no rows of it: only its vector is to be opened
            for begin in range(first, end, _CATCH_UP_OFFSETS):
                yield _Piece(topic_id, partition, begin, min(begin + _CATCH_UP_OFFSETS, end))

    def _oldest_in_bronze(self, topic_id: str, partition: int, otherwise: int) -> int:
        scan = self._tables["bronze"].scan(_of_partition(topic_id, partition), selected_fields=("kafka_offset",))
        oldest = pc.min(scan.to_arrow()["kafka_offset"]).as_py()
        return otherwise if oldest is None else int(oldest)

    def _bronze_frames(self, piece: _Piece, schemas: SchemaLookup) -> Frames:
        partition = _of_partition(piece.topic_id, piece.partition)
        where = f"{partition} and kafka_offset >= {piece.first} and kafka_offset < {piece.end}"
        rows = self._tables["bronze"].scan(where, selected_fields=_REFINED_FROM).to_arrow().sort_by("kafka_offset")
        unread = rows.filter(rows["received_ns"].is_null())["payload"].to_pylist()
        return frames_of_bronze(rows, schemas.of(unread))


def _of_partition(topic_id: str, partition: int) -> str:
    return f"topic_id = '{topic_id}' and kafka_partition = {partition}"
