"""The three tables that a drain fills for one venue, and how rows of one feed the next."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2_assets.bronze.transforms import Frames, frames_of_bronze
from k2_assets.drain.schemas import SchemaLookup
from k2_assets.lake_writer.commits import arrow_schema, commit_drained
from k2_assets.silver.transforms import Refined, refine
from k2_core import tables
from k2_core.crash_points import reach
from k2_core.offsets import Offsets

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
class Batch:
    """Rows of one commit of each layer, and the vectors before and after it."""

    start: Offsets
    following: Offsets
    bronze: pa.Table
    rejected: pa.Table
    silver: pa.Table
    control_frames: int


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


class Layers:
    """Bronze, rejected and silver of one venue."""

    def __init__(self, catalog: Catalog, namespace: str, venue: ModuleType) -> None:
        self.venue = venue
        self.specs = {
            "bronze": tables.bronze_trades(venue.VENUE),
            "rejected": tables.silver_rejected(venue.VENUE),
            "silver": tables.silver_trades(venue.VENUE),
        }
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

    def refine(self, frames: Frames) -> Refined:
        """Parse and validate frames by this venue's rules."""
        return refine(frames, self.venue, self.schemas["silver"], self.schemas["rejected"])

    def commit(self, batch: Batch) -> None:
        """Commit bronze, then rejected, then silver.

        Raises:
            CommitConflict: another writer was first in one of them; reload and catch up.
        """
        for layer, rows in (("bronze", batch.bronze), ("rejected", batch.rejected), ("silver", batch.silver)):
            self._tables[layer] = commit_drained(self._tables[layer], rows, batch.start, batch.following)
            reach(f"{self.specs[layer].name}.acknowledged")

    def catch_up(self, schemas: SchemaLookup, progress: Callable[[str], None]) -> int:
        """Bring rejected and silver to bronze's vector from bronze's rows; return how many offsets were behind.

        Raises:
            CommitConflict: another writer was first.
            RegistryError: a schema could not be looked up.
        """
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
