"""The tables that a drain fills from one topic, and how rows of one feed the next."""

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2_assets.decode.bronze_rows import (
    REFINED_FROM,
    Frames,
    SchemasOf,
    bronze_rows,
    decode_messages,
    frames_of_bronze,
    rows_of_bytes,
    without_texts,
)
from k2_assets.decode.clock_behind import spans_of
from k2_assets.decode.frames_to_rows import Refined, joined, refine
from k2_assets.kafka.kafka_topic import Topic
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.kafka.topic_reader import Messages
from k2_assets.kafka.writer_schema import WriterSchema
from k2_assets.lake.commits import arrow_schema, commit_drained
from k2_assets.lake.data_files import write_files
from k2_assets.reference.register_reader import RegisterReader
from k2_assets.topic_tables.faulty_messages import attempt, culprits, harmless_row
from k2_core import clock, topics
from k2_core.crash_points import reach
from k2_core.lake import tables
from k2_core.lake.planned_read import PIECE_BYTES
from k2_core.lake.table_spec import TableSpec
from k2_core.offsets import Offsets
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue

_CATCH_UP_OFFSETS: Final = 250_000
_NO_SCHEMAS: Final[Mapping[int, WriterSchema]] = {}
Files = dict[str, list[DataFile]]
"""Files by layer that no snapshot names yet."""


@dataclass(frozen=True)
class Rows:
    """What became of some messages: rows by layer, in the order in which layers are committed."""

    by_layer: Mapping[str, pa.Table]
    control_frames: int = 0

    @property
    def messages(self) -> int:
        """Of how many messages these rows are."""
        return int(self.by_layer["bronze"].num_rows)

    @property
    def made_bytes(self) -> int:
        """What the rows of the layers after bronze take in memory; bronze's take what the messages do."""
        return sum(table.nbytes for layer, table in self.by_layer.items() if layer != "bronze")

    @property
    def most_rows(self) -> int:
        """The rows of the layer that has the most."""
        return max(int(table.num_rows) for table in self.by_layer.values())

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

    def __init__(
        self, catalog: Catalog, namespace: str, topic: str, specs: Mapping[str, TableSpec], *, quiet_s: float = 0.0
    ) -> None:
        self.topic = topic
        self._quiet_s = quiet_s
        self._left: dict[str, tuple[Offsets, Offsets]] = {}  # of layers left out: where they stand, and what follows
        self._committed_at: dict[str, float] = {}
        self.specs = dict(specs)
        self.schemas = {layer: arrow_schema(spec) for layer, spec in self.specs.items()}
        self._catalog = catalog
        self._namespace = namespace
        self._tables: dict[str, Table] = {}
        self.reload()

    def reload(self) -> None:
        """Load every table's newest state."""
        self._left.clear()
        for layer, spec in self.specs.items():
            self._tables[layer] = self._catalog.load_table((self._namespace, spec.name))

    def vector(self, layer: str) -> Offsets:
        """Return the vector that a layer's table carries, as last loaded."""
        return Offsets.from_properties(self._tables[layer].properties)

    @property
    def drained(self) -> Offsets:
        """The vector of the last layer: what lies below it stands in all of them."""
        return self.vector(list(self.specs)[-1])

    def rows_of(self, messages: Messages, topic: Topic, schemas: SchemaLookup) -> Iterator[Rows]:
        """Yield what becomes of messages, of as many at once as make no more rows than memory has room for.

        Raises:
            NotStorable: nothing can be made of so many that it is no fault of theirs.
            RegistryError: a schema could not be looked up.
        """
        while messages:
            rows = self._first_rows_of(messages, topic, schemas)
            yield rows
            messages = messages.part(rows.messages, len(messages))

    def _first_rows_of(self, messages: Messages, topic: Topic, schemas: SchemaLookup) -> Rows:
        return attempt(
            lambda: self._decoded(messages, topic, schemas),
            lambda error: self._decoded_without_culprits(messages, topic, schemas, error),
        )

    @abstractmethod
    def _decoded(self, messages: Messages, topic: Topic, schemas: SchemaLookup) -> Rows:
        """Return what becomes of the first of some messages, of at least one."""

    @abstractmethod
    def made_of(self, bronze: pa.Table, schemas_of: SchemasOf) -> Rows:
        """Return what the other layers make of bronze rows."""

    def _decoded_without_culprits(self, messages: Messages, topic: Topic, schemas: SchemaLookup, error: str) -> Rows:
        count = len(messages)
        # Nothing is in it that could be at fault: what fails now is the lake or K2, and no message is to pay for it.
        self._decoded(replace(messages.part(0, 1), values=[b""]), topic, schemas)
        found = culprits(
            count, lambda first, end: self._decoded(messages.part(first, end), topic, schemas), topic.name, error
        )
        good = messages.part(0, next(iter(found)))
        if good:
            return self._decoded(good, topic, schemas)
        bronze = rows_of_bytes(messages.part(0, 1), topic, found, self.schemas["bronze"])
        return self._rows_of_bronze(bronze)

    def _rows_of_bronze(self, bronze: pa.Table) -> Rows:
        """Return rows of bronze, in which each that was not read says why, and what becomes of them."""
        made = self.made_of(bronze, lambda _: _NO_SCHEMAS)
        return replace(made, by_layer={"bronze": bronze, **made.by_layer})

    def commit(self, batch: Batch) -> Batch:
        """Commit the layers one after the other, and return the batch as it was committed.

        All files are written first, so that bronze can say of a message that it could not be stored as it was read. A
        layer between the first and the last that gets no rows may be left out for a while: should this process die,
        the next one finds it behind the last, and knows by that that it gets none.

        Raises:
            CommitConflict: another writer was first in one of them; reload and catch up.
            NotStorable: so many messages cannot be stored that it is no fault of theirs.
        """
        rows, files = self.stored(batch.rows)
        for layer, of_layer in rows.by_layer.items():
            # A layer that was left out begins where it stands, not where this batch does.
            start, following = self._left.pop(layer, (batch.start, Offsets()))
            self._left[layer] = start, following.advanced(batch.following)
            if of_layer.num_rows or not self._may_wait(layer):
                self._commit_left(layer, files[layer])
        return replace(batch, rows=rows)

    def commit_left(self, *, overdue: bool = False) -> None:
        """Commit the layers that were left out; with ``overdue``, those that were for long enough.

        Raises:
            CommitConflict: another writer was first in one of them; reload and catch up.
        """
        for layer in list(self._left):
            if not (overdue and self._may_wait(layer)):
                self._commit_left(layer, [])

    def _may_wait(self, layer: str) -> bool:
        if layer in {"bronze", list(self.specs)[-1]}:  # what the last one has stands in all
            return False
        return clock.monotonic() - self._committed_at.get(layer, -math.inf) < self._quiet_s

    def _commit_left(self, layer: str, files: list[DataFile]) -> None:
        start, following = self._left.pop(layer)
        self._tables[layer] = commit_drained(self._tables[layer], files, start, following)
        self._committed_at[layer] = clock.monotonic()
        reach(f"{self.specs[layer].name}.acknowledged")

    def stored(self, rows: Rows) -> tuple[Rows, Files]:
        """Write rows of all layers into files that no snapshot names yet, and return them as they were written.

        Raises:
            NotStorable: so many messages cannot be stored that it is no fault of theirs.
        """
        return self._stored(rows, rows.by_layer["bronze"], self._rows_of_bronze)

    def _stored(self, rows: Rows, bronze: pa.Table, make: Callable[[pa.Table], Rows]) -> tuple[Rows, Files]:
        """Write rows into files that no snapshot names yet; those of messages that cannot be written become others.

        Args:
            rows: to be written.
            bronze: the rows of bronze that they were made of.
            make: makes them again, of some of these.
        """

        def isolated(error: str) -> tuple[Rows, Files]:
            made = self.without_culprits(bronze, make, error)
            return made, self._written(made)

        return attempt(lambda: (rows, self._written(rows)), isolated)

    def without_culprits(self, bronze: pa.Table, make: Callable[[pa.Table], Rows], error: str) -> Rows:
        """Return what ``make`` makes of bronze rows once those that cannot be written say nothing but their bytes.

        Raises:
            NotStorable: they are too many for a fault of their content.
        """
        layers = make(bronze.slice(0, 1)).by_layer
        self._try(Rows({layer: harmless_row(self.schemas[layer]) for layer in layers}))
        found = culprits(
            bronze.num_rows,
            lambda first, end: self._try(make(bronze.slice(first, end - first))),
            self.topic,
            error,
        )
        return make(without_texts(bronze, found))

    def _try(self, rows: Rows) -> None:
        """Write rows, and let the files go again."""
        self.discard(self._written(rows).values())

    def _written(self, rows: Rows) -> Files:
        files: Files = {}
        try:
            for layer, table in rows.by_layer.items():
                files[layer] = write_files(self._tables[layer], [table])
        except BaseException:
            self.discard(files.values())
            raise
        return files

    def discard(self, files: Iterable[list[DataFile]]) -> None:
        """Delete files that no snapshot names."""
        for file in (each for of_layer in files for each in of_layer):
            self._tables["bronze"].io.delete(file.file_path)

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
            schemas_of: what the registry says, asked about rows from before bronze kept why one was not read.
        """
        frames, first = frames_of_bronze(bronze, schemas_of), 0
        while True:
            refined = self.refine(frames.part(first, len(frames)))
            yield bronze.slice(first, refined.frames), refined
            first += refined.frames
            if first == len(frames):
                return

    def made_of(self, bronze: pa.Table, schemas_of: SchemasOf) -> Rows:
        """Return the rows of rejected and silver that become of bronze rows."""
        return made(joined([refined for _, refined in self.refined_parts(bronze, schemas_of)]))

    def _decoded(self, messages: Messages, topic: Topic, schemas: SchemaLookup) -> Rows:
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
        """Bring rejected and silver to bronze's vector from bronze's rows; return how many offsets were behind.

        Files of both are written and one is committed: what can be stored of a frame is judged by all its rows.
        """
        self._catch_up_with_silver()
        behind = 0
        for layer in ("rejected", "silver"):
            for piece in self._pieces(self.vector(layer)):
                progress(f"{self.specs[layer].name} from bronze: partition {piece.partition} to {piece.end}")
                for end, bronze, refined in self._refined(piece, schemas.of):
                    rows, files = self._stored(made(refined), bronze, lambda rows: self.made_of(rows, schemas.of))
                    self.discard(files.pop(other) for other in rows.by_layer if other != layer)
                    start = self.vector(layer).only({piece.key})
                    reach(f"{self.specs[layer].name}.catch_up")
                    following = Offsets({piece.key: end})
                    self._tables[layer] = commit_drained(self._tables[layer], files[layer], start, following)
                    reach(f"{self.specs[layer].name}.caught_up")
                behind += piece.end - piece.first
        return behind

    def _catch_up_with_silver(self) -> None:
        """Move rejected to silver's vector where it lies behind: it was left out there, since no row was rejected."""
        rejected, silver = self.vector("rejected"), self.vector("silver")
        topics_known = {topic_id for (topic_id, _), _ in rejected.items()}  # of another, it was made anew
        ahead = {
            key: offset
            for key, offset in silver.items()
            if key[0] in topics_known and (rejected.get(*key) or 0) < offset
        }
        if ahead:
            self._tables["rejected"] = commit_drained(self._tables["rejected"], [], rejected, Offsets(ahead))

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

    def _refined(self, piece: _Piece, schemas_of: SchemasOf) -> Iterator[tuple[int, pa.Table, Refined]]:
        """Yield bronze's rows of a piece and what becomes of them, as many at once as fit, and where these end."""
        first = piece.first
        while True:
            rows, end = self._bronze_rows(replace(piece, first=first))
            left = rows.num_rows
            for part, refined in self.refined_parts(rows, schemas_of):
                left -= part.num_rows
                yield (part["kafka_offset"][-1].as_py() + 1 if left else end), part, refined
            first = end
            if first == piece.end:
                return

    def _bronze_rows(self, piece: _Piece) -> tuple[pa.Table, int]:
        """Read the first of bronze's rows of a piece, as many as fit; return them and the offset at which they end."""
        partition, end = _of_partition(piece.topic_id, piece.partition), piece.end
        while True:
            where = f"{partition} and kafka_offset >= {piece.first} and kafka_offset < {end}"
            scan = self._tables["bronze"].scan(where, selected_fields=REFINED_FROM)
            rows = _fitting(scan.to_arrow_batch_reader(), None if end - piece.first <= 1 else PIECE_BYTES)
            if rows is not None:
                return rows.sort_by("kafka_offset"), end
            end = (piece.first + end) // 2


def made(refined: Refined) -> Rows:
    """Return the rows of the layers that are made of bronze."""
    return Rows({"rejected": refined.rejected, "silver": refined.silver}, refined.control_frames)


def _fitting(batches: pa.RecordBatchReader, most_bytes: int | None) -> pa.Table | None:
    """Return the rows of batches; None when they are too large."""
    found, size = [], 0
    for batch in batches:
        found.append(batch)
        size += batch.nbytes
        if most_bytes is not None and size > most_bytes:
            return None
    return pa.Table.from_batches(found, batches.schema)


def _of_partition(topic_id: str, partition: int) -> str:
    return f"topic_id = '{topic_id}' and kafka_partition = {partition}"
