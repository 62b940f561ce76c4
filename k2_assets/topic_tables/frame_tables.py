"""The tables of a venue's trades or quotes: bronze from Kafka's messages, rejected and silver from bronze's rows."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2_assets.decode.bronze_rows import (
    REFINED_FROM,
    Frames,
    SchemasOf,
    bronze_rows,
    decode_messages,
    frames_of_bronze,
)
from k2_assets.decode.clock_behind import spans_of
from k2_assets.decode.frames_to_rows import Refined, joined, refine
from k2_assets.kafka.kafka_topic import Topic
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.kafka.topic_reader import Messages
from k2_assets.reference.register_reader import RegisterReader
from k2_assets.topic_tables.drained_tables import DrainedTables, Rows
from k2_core import topics
from k2_core.crash_points import reach
from k2_core.lake import tables
from k2_core.lake.planned_read import PIECE_BYTES
from k2_core.offsets import Offsets
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue

_CATCH_UP_OFFSETS: Final = 250_000


@dataclass(frozen=True)
class _Piece:
    """The offsets [first, end) of one partition."""

    topic_id: str
    partition: int
    first: int
    end: int

    @property
    def where(self) -> str:
        return f"topic_id = '{self.topic_id}' and kafka_partition = {self.partition}"


class Layers(DrainedTables):
    """Bronze, rejected and silver of a venue's trades or quotes; both share the table of rejected rows."""

    def __init__(
        self,
        catalog: Catalog,
        namespace: str,
        venue: Venue,
        data: Data = "trades",
        *,
        recent: Callable[[Table], pl.DataFrame] | None = None,
        quiet_s: float = 0.0,
    ) -> None:
        """Load the tables.

        Args:
            catalog: of the lake.
            namespace: of its tables.
            venue: whose trades or quotes they hold.
            data: trades or quotes.
            recent: see :class:`k2_assets.reference.register_reader.RegisterReader`.
            quiet_s: for so long rejected may be left out of commits while no row is.
        """
        self.venue = venue
        self.data = data
        specs = {
            "bronze": tables.bronze(venue.VENUE, data),
            "rejected": tables.silver_rejected(venue.VENUE),
            "silver": tables.silver(venue.VENUE, data),
        }
        super().__init__(
            catalog, namespace, topics.raw_topic(venue.ASSET_CLASS, data, venue.VENUE), specs, quiet_s=quiet_s
        )
        self._one_at_a_time = threading.Lock()  # a lane refines in its own thread, and where a commit looks for faults
        self._register = RegisterReader(catalog, namespace, venue, recent)

    def refine(self, frames: Frames) -> Refined:
        """Parse and validate the first of some frames by this venue's rules and the register of its instruments."""
        schemas, late_clock = (self.schemas["silver"], self.schemas["rejected"]), spans_of(self._tables["silver"])
        with self._one_at_a_time:
            return self._register.judged(
                lambda register: refine(
                    frames,
                    self.venue,
                    *schemas,
                    self.data,
                    instruments=register,
                    late_clock=late_clock,
                    epochs=self._register.epochs,
                )
            )

    def refined_parts(self, bronze: pa.Table, schemas_of: SchemasOf) -> Iterator[tuple[pa.Table, Refined]]:
        """Yield bronze rows of one topic and what becomes of them, as many as memory has room for at once.

        Args:
            bronze: its columns ``REFINED_FROM`` at least.
            schemas_of: looks schemas up, for rows that are older than bronze's column of why one was not read.
        """
        frames, first = frames_of_bronze(bronze, schemas_of), 0
        while True:
            refined = self.refine(frames.part(first, len(frames)))
            yield bronze.slice(first, refined.frames), refined
            first += refined.frames
            if first == len(frames):
                return

    def made_of(self, bronze: pa.Table, schemas_of: SchemasOf) -> Rows:
        return made(joined([refined for _, refined in self.refined_parts(bronze, schemas_of)]))

    def decoded(self, messages: Messages, topic: Topic, schemas: SchemaLookup) -> Rows:
        frames, envelopes = decode_messages(messages, topic, schemas.of(messages.values))
        refined = self.refine(frames)
        times = (refined.first_event_us, refined.last_event_us)
        count = refined.frames
        bronze = bronze_rows(
            messages.part(0, count), frames.part(0, count), envelopes.first(count), times, self.schemas["bronze"]
        )
        by_layer = {"bronze": bronze, "rejected": refined.rejected, "silver": refined.silver}
        return Rows(by_layer, refined.control_frames)

    def catch_up(self, schemas: SchemaLookup, progress: Callable[[str], None]) -> int:
        """Bring rejected and silver to bronze's vector from bronze's rows; return how many offsets were behind."""
        # Where rejected lies behind silver, it was left out because no row was rejected: only its vector moves. A
        # topic that rejected does not know yet was not left out: then its table is younger, and is filled below.
        rejected, silver = self.vector("rejected"), self.vector("silver")
        topics_known = {topic_id for (topic_id, _), _ in rejected.items()}
        ahead = {
            key: offset
            for key, offset in silver.items()
            if key[0] in topics_known and (rejected.get(*key) or 0) < offset
        }
        if ahead:
            self.append("rejected", [], rejected, Offsets(ahead))

        # Then each layer is filled up to bronze. Files of both layers are written and one is committed, because all
        # rows of a frame together decide whether it can be stored.
        behind = 0
        for layer in ("rejected", "silver"):
            for piece in self._pieces(self.vector(layer)):
                progress(f"{self.specs[layer].name} from bronze: partition {piece.partition} to {piece.end}")
                for end, bronze, refined in self._refined(piece, schemas.of):
                    rows, files = self.stored(made(refined), bronze, lambda rows: self.made_of(rows, schemas.of))
                    self.discard(files.pop(other) for other in rows.by_layer if other != layer)
                    reach(f"{self.specs[layer].name}.catch_up")
                    key = piece.topic_id, piece.partition
                    self.append(layer, files[layer], self.vector(layer).only({key}), Offsets({key: end}))
                    reach(f"{self.specs[layer].name}.caught_up")
                behind += piece.end - piece.first
        return behind

    def _pieces(self, reached: Offsets) -> Iterator[_Piece]:
        """Cut what lies between a layer's vector and bronze's into pieces that fit in memory."""
        for (topic_id, partition), end in self.vector("bronze").items():
            first = reached.get(topic_id, partition)
            if first is None:  # the layer knows nothing of the partition: it begins with the oldest row of bronze
                whole = _Piece(topic_id, partition, 0, end)
                scan = self._tables["bronze"].scan(whole.where, selected_fields=("kafka_offset",))
                oldest = pc.min(scan.to_arrow()["kafka_offset"]).as_py()
                first = end if oldest is None else int(oldest)
                if first == end:
                    yield _Piece(topic_id, partition, end, end)  # no rows: only its vector has to begin
            for begin in range(first, end, _CATCH_UP_OFFSETS):
                yield _Piece(topic_id, partition, begin, min(begin + _CATCH_UP_OFFSETS, end))

    def _refined(self, piece: _Piece, schemas_of: SchemasOf) -> Iterator[tuple[int, pa.Table, Refined]]:
        """Yield bronze's rows of a piece, as many at once as fit, what becomes of them, and where they end."""
        first, end = piece.first, piece.end
        while True:
            rows = self._bronze_rows(piece, first, end)
            if rows is None:
                end = (first + end) // 2
                continue
            left = rows.num_rows
            for part, refined in self.refined_parts(rows, schemas_of):
                left -= part.num_rows
                yield (part["kafka_offset"][-1].as_py() + 1 if left else end), part, refined
            if end == piece.end:
                return
            first, end = end, piece.end

    def _bronze_rows(self, piece: _Piece, first: int, end: int) -> pa.Table | None:
        """Read the rows of the offsets [first, end) in their order; None when they are several and too large."""
        where = f"{piece.where} and kafka_offset >= {first} and kafka_offset < {end}"
        batches = self._tables["bronze"].scan(where, selected_fields=REFINED_FROM).to_arrow_batch_reader()
        found, size = [], 0
        for batch in batches:
            found.append(batch)
            size += batch.nbytes
            if size > PIECE_BYTES and end - first > 1:
                return None
        return pa.Table.from_batches(found, batches.schema).sort_by("kafka_offset")


def made(refined: Refined) -> Rows:
    """Return the rows of the layers after bronze."""
    return Rows({"rejected": refined.rejected, "silver": refined.silver}, refined.control_frames)
