"""A table's own metadata as of now: its snapshots and tags, and what its manifests count. No data file is read here."""

from dataclasses import dataclass
from typing import Protocol

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from k2_api.lake import snapshot_choice


class TableState(Protocol):
    """The state of a table that an answer was read from."""

    @property
    def name(self) -> str:
        """The table's name."""

    @property
    def version(self) -> str | None:
        """What differs where an answer may differ; None while there is nothing."""

    @property
    def snapshot_id(self) -> str | None:
        """The id of the snapshot, as text."""

    @property
    def committed_at(self) -> str | None:
        """When the snapshot was committed, as RFC 3339."""


@dataclass(frozen=True)
class TableVersion:
    """One version of a table's metadata, which changes with every commit, tag and expiry; ``table`` is None before."""

    name: str
    table: Table | None

    @property
    def version(self) -> str | None:
        """Where this metadata is stored; a file of it never changes."""
        return self.table.metadata_location if self.table is not None else None

    @property
    def snapshot(self) -> Snapshot | None:
        """The current snapshot; None while the table has no rows."""
        return self.table.current_snapshot() if self.table is not None else None

    @property
    def snapshot_id(self) -> str | None:
        """The current snapshot's id as text."""
        return str(self.snapshot.snapshot_id) if self.snapshot else None

    @property
    def committed_at(self) -> str | None:
        """When the current snapshot was committed, as RFC 3339."""
        return snapshot_choice.committed_at(self.snapshot) if self.snapshot else None
