"""What rows are asked for, and which data files of a snapshot may hold some. No data file is read here."""

from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from k2_api.api_errors import FilesGone
from k2_core.lake.manifests import BEGINNING_US, END_US, MANIFESTS, Bounded, LakeFile, reading


@dataclass(frozen=True)
class Filter:
    """What rows are asked for: a half-open time range in µs since 1970, symbols, exchanges; none of them means all."""

    symbols: tuple[str, ...] = ()
    exchanges: tuple[str, ...] = ()
    start_us: int = BEGINNING_US
    end_us: int = END_US

    def may_be_in(self, file: LakeFile) -> bool:
        """Tell whether a file may hold a row that is asked for, by the bounds that its manifest gives."""
        if file.last_us < self.start_us or file.first_us >= self.end_us:
            return False
        for bounds, values in ((file.symbols, self.symbols), (file.exchanges, self.exchanges)):
            if bounds is not None and values and not any(bounds[0] <= each <= bounds[1] for each in values):
                return False
        return True


@dataclass(frozen=True)
class SnapshotFiles:
    """The data files of one snapshot; ``has_deletes`` when rows of them are struck out elsewhere."""

    files: tuple[LakeFile, ...] = ()
    has_deletes: bool = False


def snapshot_files(table: Table, snapshot: Snapshot, time_column: str) -> SnapshotFiles:
    """Return the files of ``snapshot``.

    Raises:
        FilesGone: its manifests were removed after it expired.
    """
    # Bounds go by the ids of columns, which stay the same when a column is renamed or others are added.
    read = reading(table.io)
    time, symbol, exchange = (table.schema().find_field(name).field_id for name in (time_column, "symbol", "exchange"))
    bounded = Bounded(time, symbol, exchange)
    try:
        manifests = MANIFESTS.listed(snapshot.manifest_list, read)
        of_rows = [each for each in manifests if not each.strikes_out]
        files = tuple(file for each in of_rows for file in MANIFESTS.files(each, read, bounded) if file.rows)
    except FileNotFoundError as error:
        raise FilesGone("the files of this state of the table were removed; ask again") from error
    return SnapshotFiles(files, has_deletes=len(of_rows) < len(manifests))
