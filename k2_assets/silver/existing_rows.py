"""The existing rows of some frames in a table, and which of them have to go or to come."""

from dataclasses import dataclass, replace
from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from pyiceberg.expressions import BooleanExpression
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2_assets.lake.data_files import write_files
from k2_assets.lake.row_filters import time_between
from k2_assets.lake.source_files import as_frame, live_files, read_files
from k2_assets.topic_tables.frames_of_day import PIECE_ROWS
from k2_assets.topic_tables.row_differences import FRAME, PLACE, Differences, differences, without
from k2_core.lake.manifests import LakeFile
from k2_core.lake.planned_read import ALL_ROWS, data_file, in_pieces
from k2_core.lake.removed_days import RemovedDays

_INGESTED: Final = "ingestion_timestamp"


@dataclass(frozen=True)
class Judged:
    """How the rows of some frames differ from the existing ones, and files with those that are new."""

    found: Differences
    missing: list[DataFile]
    changed: list[DataFile]


class ExistingRows:
    """The rows of one table, as it was loaded, compared with new ones a piece of frames at a time.

    Rows are found by the time at which their frame was ingested, which is the same in every table.
    """

    def __init__(self, table: Table, time_column: str) -> None:
        self.table = table
        self.missing: list[DataFile] = []
        self.changed: list[DataFile] = []
        self.days: set[date] = set()
        self.rows_written = 0
        self.rows_stale = 0
        self._time_column = time_column
        self._columns = tuple(field.name for field in table.schema().fields)
        self._files = live_files(table, _INGESTED)
        self._removed = RemovedDays.of(table.properties)
        self._stale: list[pl.DataFrame] = []

    def judged(self, frames: pl.DataFrame, new: pa.Table) -> Judged:
        """Compare the rows of ``frames`` (with ``ingestion_us``) with ``new``, and write what differs into files."""
        # Their places are read first: most frames of a sparse piece have no row, and whole rows are wide.
        near = _near(self._files, frames)
        places = read_files(self.table, near, (*FRAME, _INGESTED), _ingested_with(frames))
        hits = places.join(frames, on=FRAME, how="semi")
        if hits.is_empty():
            existing = read_files(self.table, [], self._columns)
        else:
            ingested = hits.select(pl.col(_INGESTED).to_physical().alias("ingestion_us"))
            rows = read_files(self.table, _near(near, ingested), self._columns, _ingested_with(ingested))
            existing = rows.join(frames, on=FRAME, how="semi")
        found = differences(existing.select(new.column_names), new)
        # A frame may have rows of a day that retention has removed from this table: they do not come back.
        found = replace(found, missing=self._kept(found.missing))
        return Judged(found, write_files(self.table, [found.missing]), write_files(self.table, [found.changed]))

    def _kept(self, rows: pa.Table) -> pa.Table:
        days = as_frame(rows.select([self._time_column]))[self._time_column].dt.date()
        gone = [day for day in days.unique() if day in self._removed]
        return rows.filter((~days.is_in(gone)).to_arrow()) if gone else rows

    def take(self, judged: Judged) -> None:
        """Keep what :meth:`judged` found; a piece that was judged in vain is not kept."""
        found = judged.found
        self.missing += judged.missing
        self.changed += judged.changed
        for rows in (found.missing, found.changed):
            self.rows_written += rows.num_rows
            self.days.update(as_frame(rows.select([self._time_column]))[self._time_column].dt.date())
        if found.stale.height:
            self.rows_stale += found.stale.height
            self.days.update(found.stale[self._time_column].dt.date())
            ingested = pl.col(_INGESTED).to_physical().alias("ingestion_us")
            self._stale.append(found.stale.select(*PLACE, ingested))

    def without_stale(self) -> tuple[list[DataFile], list[DataFile]]:
        """Return the files that hold stale rows, and new files with their other rows."""
        # Only files that hold stale rows are written again, and only of these are whole rows read. A place has one row,
        # unless it was doubled, and then all of its rows go: so stale rows are found by their places.
        if not self._stale:
            return [], []
        stale = pl.concat(self._stale)
        gone, carried = [], []
        for each in _near(self._files, stale):
            places = read_files(self.table, [each], PLACE)
            left = places.join(stale, on=PLACE, how="anti").height
            if left == places.height:
                continue
            gone.append(data_file(each))
            if left:
                rows = in_pieces(self.table, [each], self._columns, ALL_ROWS, PIECE_ROWS)
                carried += write_files(self.table, (without(piece, stale) for piece in rows))
        return gone, carried


def _near(files: list[LakeFile], frames: pl.DataFrame) -> list[LakeFile]:
    """Return the files in whose range of ingestion at least one of ``frames`` lies."""
    times: npt.NDArray[np.int64] = np.unique(frames["ingestion_us"].to_numpy())
    return [
        each for each in files if np.searchsorted(times, each.first_us) < np.searchsorted(times, each.last_us, "right")
    ]


def _ingested_with(frames: pl.DataFrame) -> BooleanExpression:
    first, last = frames.select(low=pl.min("ingestion_us"), high=pl.max("ingestion_us")).row(0)
    return time_between(_INGESTED, int(first), int(last) + 1)
