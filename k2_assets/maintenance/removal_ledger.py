"""Notes, in the catalog's database, of snapshots whose files are still to be removed; written before they expire."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table.snapshots import Snapshot
from sqlalchemy import BigInteger, Column, Connection, MetaData, String, Table, delete, insert, select, update

from k2_core.made_once import ensure_table

_AT_ONCE: Final = 500
_GOING: Final = Table(
    "k2_expired_snapshots",
    MetaData(),
    Column("table_uuid", String(36), primary_key=True),
    Column("snapshot_id", BigInteger, primary_key=True, autoincrement=False),
    Column("manifest_list", String(2048), nullable=False),
    Column("due_ns", BigInteger, nullable=False),
)
_SWEPT: Final = Table(
    "k2_orphan_sweeps",
    MetaData(),
    Column("table_uuid", String(36), primary_key=True),
    Column("swept_ns", BigInteger, nullable=False),
)


@dataclass(frozen=True)
class Expired:
    """A snapshot that has expired, or was about to; its manifest list names its files until these are removed."""

    snapshot_id: int
    manifest_list: str
    due_ns: int


class Ledger:
    """The notes of one table, by its UUID: a table created again under the same name has none."""

    def __init__(self, catalog: Catalog, table_uuid: str) -> None:
        assert isinstance(catalog, SqlCatalog)  # noqa: S101  # the only kind that open_catalog opens
        self._engine = catalog.engine
        self._uuid = table_uuid
        for table in (_GOING, _SWEPT):
            ensure_table(self._engine, table)

    def note(self, snapshots: Iterable[Snapshot], due_ns: int) -> None:
        """Note that the files of ``snapshots`` are removed when they are due; an existing note gets the new time."""
        rows: list[dict[str, str | int]] = [
            {"table_uuid": self._uuid, "snapshot_id": s.snapshot_id, "manifest_list": s.manifest_list, "due_ns": due_ns}
            for s in snapshots
        ]
        if not rows:
            return
        with self._engine.begin() as connection:
            self._delete(connection, [int(row["snapshot_id"]) for row in rows])
            connection.execute(insert(_GOING), rows)

    def expired(self) -> list[Expired]:
        """Return all notes."""
        columns = select(_GOING.c.snapshot_id, _GOING.c.manifest_list, _GOING.c.due_ns)
        with self._engine.begin() as connection:
            rows = connection.execute(columns.where(_GOING.c.table_uuid == self._uuid)).all()
        return [Expired(*row) for row in rows]

    def forget(self, snapshot_ids: Collection[int]) -> None:
        """Delete notes: their files were removed, or the snapshots never expired."""
        if snapshot_ids:
            with self._engine.begin() as connection:
                self._delete(connection, list(snapshot_ids))

    def swept_ns(self) -> int:
        """Return when orphans were last looked for; 0 if never."""
        with self._engine.begin() as connection:
            mine = select(_SWEPT.c.swept_ns).where(_SWEPT.c.table_uuid == self._uuid)
            return int(connection.execute(mine).scalar() or 0)

    def note_sweep(self, now_ns: int) -> None:
        """Note that orphans were looked for."""
        with self._engine.begin() as connection:
            mine = update(_SWEPT).where(_SWEPT.c.table_uuid == self._uuid)
            if not connection.execute(mine.values(swept_ns=now_ns)).rowcount:
                connection.execute(insert(_SWEPT).values(table_uuid=self._uuid, swept_ns=now_ns))

    def _delete(self, connection: Connection, snapshot_ids: list[int]) -> None:
        for first in range(0, len(snapshot_ids), _AT_ONCE):
            some = _GOING.c.snapshot_id.in_(snapshot_ids[first : first + _AT_ONCE])
            connection.execute(delete(_GOING).where(_GOING.c.table_uuid == self._uuid, some))
