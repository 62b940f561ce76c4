"""Read tables as they were at one snapshot: choose the files, hand them to DuckDB. Nothing here knows HTTP.

A table is read in place by DuckDB when its files are local, have the table's one schema and no deletes beside them.
Otherwise pyiceberg reads the same files into Arrow: slower, but right for S3, for changed schemas and for
merge-on-read deletes.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from threading import Lock
from typing import Final, TypeVar

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from k2_api.lake import snapshot_choice
from k2_api.lake.catalog_pointer import CatalogPointer
from k2_api.lake.duckdb_engine import Engine, can_open
from k2_api.lake.file_groups import CANDLES, INSTRUMENTS, QUOTES, TRADES, FileGroups, Group, Shape
from k2_api.lake.file_index import Filter, snapshot_files
from k2_api.lake.file_pruning import surely_first
from k2_api.lake.row_source import RowSource
from k2_api.lake.table_versions import TableVersion
from k2_core.clock import from_us, iso, to_us
from k2_core.epochs import NO_EPOCHS, Epochs
from k2_core.lake.manifests import LakeFile
from k2_core.lake.tables import REFERENCE_EPOCHS
from k2_core.settings import Settings

_ANSWERS_KEPT: Final = 4096

Answer = TypeVar("Answer")


class PinnedTable:
    """One table at one snapshot; reading it twice gives the same rows. ``snapshot`` is None while it has no rows."""

    def __init__(
        self, shape: Shape, groups: FileGroups, engine: Engine, table: Table | None, snapshot: Snapshot | None
    ) -> None:
        self._groups = groups
        self._files: tuple[LakeFile, ...] = ()
        self._source = RowSource(engine, shape)
        self.name = shape.table
        self.snapshot = snapshot
        if table is None or snapshot is None:
            return
        planned = snapshot_files(table, snapshot, shape.time_column)
        self._files = planned.files
        if planned.has_deletes:
            self._groups = FileGroups()  # another snapshot may strike out other rows of the same files
            self._source = RowSource(engine, shape, table, snapshot.snapshot_id)
        elif len(table.metadata.schemas) > 1 or not can_open(table.metadata.location):
            self._source = RowSource(engine, shape, table)

    @property
    def snapshot_id(self) -> str | None:
        """The snapshot's id as text, since it exceeds what JSON's numbers hold."""
        return str(self.snapshot.snapshot_id) if self.snapshot else None

    @property
    def version(self) -> str | None:
        """The same: a snapshot never changes."""
        return self.snapshot_id

    @property
    def number(self) -> int | None:
        """The snapshot's id; None while the table has no rows."""
        return self.snapshot.snapshot_id if self.snapshot else None

    @property
    def committed_at(self) -> str | None:
        """When the snapshot was committed, as RFC 3339."""
        return snapshot_choice.committed_at(self.snapshot) if self.snapshot else None

    def first_rows(
        self, sql: str, where: Filter, params: Mapping[str, object], *, rows: int | None, newest: bool, query_type: str
    ) -> pa.Table:
        """Run ``sql``, which must order by time and take at most ``rows`` rows, over as few files as that needs.

        ``rows`` is None where ``sql`` leaves out rows of ``where``: then any file may be needed.
        """
        files = self._candidates(where)
        if rows is not None:
            files = surely_first(files, partial(self._groups.walk, look=self._source.look), where, rows, newest=newest)
        return self._source.rows(sql, files, where, params, query_type)

    def rows_with_sequences(
        self, sql: str, where: Filter, params: Mapping[str, object], ids: tuple[int, int], query_type: str
    ) -> pa.Table:
        """Run ``sql`` over every file of ``where`` that may hold a venue sequence from ``ids[0]`` to ``ids[1]``."""
        found = self._groups.of(self._candidates(where), self._source.look)
        files = [
            each
            for each, groups in found
            if any(g.fits(where) and g.first_sequence <= ids[1] and g.last_sequence >= ids[0] for g in groups)
        ]
        return self._source.rows(sql, files, where, params, query_type)

    def newest_us(self, where: Filter) -> int | None:
        """Return the newest time of the rows asked for, in µs since 1970; None when there are none."""
        # By the manifests' bounds, which cover all symbols of a file: a file that ends before the best time cannot beat
        # it, and so no later one can. Only the files before that are looked into.
        candidates = sorted(self._candidates(where), key=lambda file: file.last_us, reverse=True)
        best: int | None = None
        for file, groups in self._groups.walk(candidates, self._source.look):
            if best is not None and file.last_us <= best:
                break
            times = [group.last_us for group in groups if group.fits(where)]
            best = max(times + ([] if best is None else [best]), default=None)
        return best

    def groups(self, where: Filter) -> list[Group]:
        """Return what each file holds of each (exchange, symbol) asked for."""
        found = self._groups.of(self._candidates(where), self._source.look)
        return [group for _, groups in found for group in groups if group.fits(where)]

    def _candidates(self, where: Filter) -> list[LakeFile]:
        return [each for each in self._files if where.may_be_in(each)]


class LakeReader:
    """The lake, read only."""

    def __init__(self, settings: Settings) -> None:
        self._pointer = CatalogPointer(settings)
        self._engine = Engine(settings)
        self._groups = {shape.table: FileGroups() for shape in (TRADES, QUOTES, *CANDLES.values(), INSTRUMENTS)}
        self._remembered: OrderedDict[tuple[object, ...], object] = OrderedDict()
        self._lock = Lock()

    def pin(self, shape: Shape, as_of: str | None = None) -> PinnedTable:
        """Pin a table to its newest snapshot, or to the one that ``as_of`` names.

        Raises:
            UnknownSnapshot: no such tag or snapshot id.
            NoLongerKept: the time lies before the first snapshot that is kept.
            LakeUnavailable: the catalog cannot be read.
        """
        return self._pinned(shape, lambda table: snapshot_choice.resolve(table.metadata, as_of))

    def pin_id(self, shape: Shape, snapshot_id: int | None) -> PinnedTable:
        """Pin a table to a snapshot that a cursor remembers; None: to the state before its first row."""
        if snapshot_id is None:
            return PinnedTable(shape, self._groups[shape.table], self._engine, None, None)
        return self._pinned(shape, lambda table: snapshot_choice.kept(table.metadata, snapshot_id))

    def pin_beside(self, shape: Shape, other: PinnedTable) -> PinnedTable:
        """Pin a table as it was when ``other`` was committed, or to the earliest state that is kept."""
        if other.snapshot is None:
            return self.pin(shape)
        moment_ms = other.snapshot.timestamp_ms
        return self._pinned(shape, lambda table: snapshot_choice.closest(table.metadata, moment_ms))

    def version(self, name: str) -> TableVersion:
        """Return what a table's metadata says now.

        Raises:
            LakeUnavailable: the catalog cannot be read.
        """
        return TableVersion(name, self._pointer.table(name))

    def epochs(self) -> Epochs:
        """Return where the ids of instruments began again, as is known now; none in a lake that has no such table."""
        table = self._pointer.table(REFERENCE_EPOCHS.name)
        if table is None or table.current_snapshot() is None:
            return NO_EPOCHS

        def read() -> Epochs:
            starts: dict[tuple[str, str], list[int]] = {}
            for row in table.scan(selected_fields=("exchange", "symbol", "start")).to_arrow().to_pylist():
                starts.setdefault((row["exchange"], row["symbol"]), []).append(to_us(row["start"]))
            return Epochs(starts)

        return self.remember(("epochs", table.metadata_location), read)

    def missing_tables(self) -> list[str]:
        """Return the names of served tables that have not been made yet."""
        return [name for name in self._groups if self._pointer.table(name) is None]

    def remember(self, key: tuple[object, ...], compute: Callable[[], Answer]) -> Answer:
        """Return what ``compute`` gave for this key before; the key names a snapshot, which never changes."""
        with self._lock:
            if key in self._remembered:
                return self._remembered[key]  # type: ignore[return-value]  # one kind of key, one kind of answer
        # Without the lock: a second thread may compute the same meanwhile, and comes to the same answer.
        answer = compute()
        with self._lock:
            self._remembered[key] = answer
            while len(self._remembered) > _ANSWERS_KEPT:
                self._remembered.popitem(last=False)
        return answer

    def data_until(self, pinned: PinnedTable, where: Filter) -> str | None:
        """Return the newest time of the rows asked for at that snapshot, as RFC 3339; None when there are none."""
        key = ("data_until", pinned.name, pinned.snapshot_id, where)
        newest = self.remember(key, lambda: pinned.newest_us(where))
        return None if newest is None else iso(from_us(newest))

    def close(self) -> None:
        """Close the database and the catalog's connections."""
        self._engine.close()
        self._pointer.close()

    def _pinned(self, shape: Shape, choose: Callable[[Table], Snapshot | None]) -> PinnedTable:
        table = self._pointer.table(shape.table)
        snapshot = choose(table) if table is not None else None
        return PinnedTable(shape, self._groups[shape.table], self._engine, table, snapshot)
