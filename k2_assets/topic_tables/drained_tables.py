"""The tables that a drain fills from one topic: rows by layer, and how they are committed one layer after the other."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2_assets.decode.bronze_rows import SchemasOf, rows_of_bytes, without_texts
from k2_assets.kafka.kafka_topic import Topic
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.kafka.topic_reader import Messages
from k2_assets.kafka.writer_schema import WriterSchema
from k2_assets.lake.commits import arrow_schema, commit_drained
from k2_assets.lake.data_files import write_files
from k2_assets.lake.source_files import live_files
from k2_assets.topic_tables.faulty_messages import attempt, culprits, harmless_row
from k2_core import clock
from k2_core.crash_points import reach
from k2_core.lake.manifests import LakeFile
from k2_core.lake.table_spec import TableSpec
from k2_core.offsets import Offsets

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
        return int(self.by_layer["bronze"].num_rows)

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
        return self.rows.by_layer["bronze"]


class DrainedTables(ABC):
    """The tables of one topic, by layer, in the order in which they are committed."""

    def __init__(
        self, catalog: Catalog, namespace: str, topic: str, specs: Mapping[str, TableSpec], *, quiet_s: float = 0.0
    ) -> None:
        self.topic = topic
        self._quiet_s = quiet_s
        self._left: dict[str, tuple[Offsets, Offsets]] = {}  # of layers left out: their own vector, and what follows
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

    def files(self, layer: str, day: date | None = None) -> list[LakeFile]:
        """Return the files of a layer's table that hold rows of a day, or all of them, as last loaded or committed."""
        return live_files(self._tables[layer], self.specs[layer].partition_by, day=day)

    @property
    def drained(self) -> Offsets:
        """The vector of the last layer: every layer holds what lies below it."""
        return self.vector(list(self.specs)[-1])

    @abstractmethod
    def decoded(self, messages: Messages, topic: Topic, schemas: SchemaLookup) -> Rows:
        """Return what becomes of the first of some messages, of at least one."""

    @abstractmethod
    def made_of(self, bronze: pa.Table, schemas_of: SchemasOf) -> Rows:
        """Return the rows of the layers after bronze."""

    def rows_of(self, messages: Messages, topic: Topic, schemas: SchemaLookup) -> Iterator[Rows]:
        """Yield what becomes of messages, of as many at once as make no more rows than memory has room for.

        Raises:
            NotStorable: so many messages cannot be decoded that it is no fault of theirs.
            RegistryError: a schema could not be looked up.
        """
        while messages:
            rows = self._first_rows_of(messages, topic, schemas)
            yield rows
            messages = messages.part(rows.messages, len(messages))

    def _first_rows_of(self, messages: Messages, topic: Topic, schemas: SchemaLookup) -> Rows:
        # The messages before the first culprit are decoded as usual. A culprit that is the very first becomes a row of
        # bronze with its bytes alone, and the other layers' rows follow from that.
        def decoded(first: int, end: int) -> Rows:
            return self.decoded(messages.part(first, end), topic, schemas)

        def isolated(error: str) -> Rows:
            # An empty message cannot be at fault: if it fails, the lake or K2 is, and no message pays for that.
            self.decoded(replace(messages.part(0, 1), values=[b""]), topic, schemas)
            found = culprits(len(messages), decoded, topic.name, error)
            if good := next(iter(found)):
                return decoded(0, good)
            bronze = rows_of_bytes(messages.part(0, 1), topic, found, self.schemas["bronze"])
            return self._rows_of_bronze(bronze)

        return attempt(lambda: self.decoded(messages, topic, schemas), isolated)

    def _rows_of_bronze(self, bronze: pa.Table) -> Rows:
        """Return rows of bronze, in which each unread one names its reason, and what becomes of them."""
        made = self.made_of(bronze, lambda _: _NO_SCHEMAS)
        return replace(made, by_layer={"bronze": bronze, **made.by_layer})

    def commit(self, batch: Batch) -> Batch:
        """Commit the layers one after the other, and return the batch as it was committed.

        Raises:
            CommitConflict: another writer was first in one of them; reload and catch up.
            NotStorable: so many messages cannot be stored that it is no fault of theirs.
        """
        # All files are written before the first commit: if a message cannot be stored as it was read, bronze's row of
        # it can still say so. A layer between the first and the last that gets no rows may be left out for a while.
        # After a crash its vector lies behind the last layer's, which proves that it gets no rows up to there.
        rows, files = self.stored(batch.rows)
        for layer, of_layer in rows.by_layer.items():
            # A layer that was left out begins at its own vector, not where this batch does.
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
        if layer in {"bronze", list(self.specs)[-1]}:  # their vectors say what is stored
            return False
        return clock.monotonic() - self._committed_at.get(layer, -math.inf) < self._quiet_s

    def _commit_left(self, layer: str, files: list[DataFile]) -> None:
        self.append(layer, files, *self._left.pop(layer))
        self._committed_at[layer] = clock.monotonic()
        reach(f"{self.specs[layer].name}.acknowledged")

    def append(self, layer: str, files: list[DataFile], start: Offsets, following: Offsets) -> None:
        """Commit files to one layer and keep its new state: see :func:`k2_assets.lake.commits.commit_drained`."""
        self._tables[layer] = commit_drained(self._tables[layer], files, start, following)

    def stored(
        self, rows: Rows, bronze: pa.Table | None = None, make: Callable[[pa.Table], Rows] | None = None
    ) -> tuple[Rows, Files]:
        """Write rows into files that no snapshot names yet, and return them as they were written.

        Args:
            rows: to be written; those of messages that cannot be written become others.
            bronze: the rows of bronze that they follow from; None when they are among ``rows``.
            make: computes them again, from some of these.

        Raises:
            NotStorable: so many messages cannot be stored that it is no fault of theirs.
        """
        sources = rows.by_layer["bronze"] if bronze is None else bronze

        def isolated(error: str) -> tuple[Rows, Files]:
            made = self.without_culprits(sources, make or self._rows_of_bronze, error)
            return made, self._written(made)

        return attempt(lambda: (rows, self._written(rows)), isolated)

    def without_culprits(self, bronze: pa.Table, make: Callable[[pa.Table], Rows], error: str) -> Rows:
        """Return what ``make`` makes of bronze rows after those that cannot be written were reduced to their bytes.

        Raises:
            NotStorable: they are too many for a fault of their content.
        """

        def tried(rows: Rows) -> None:
            self.discard(self._written(rows).values())

        layers = make(bronze.slice(0, 1)).by_layer
        # If not even harmless rows can be written, the fault is not in a message: this raises.
        tried(Rows({layer: harmless_row(self.schemas[layer]) for layer in layers}))
        found = culprits(
            bronze.num_rows, lambda first, end: tried(make(bronze.slice(first, end - first))), self.topic, error
        )
        return make(without_texts(bronze, found))

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
