"""Join small data files into large sorted ones, tier by tier, so that a table's plan stays short.

Rows are only moved: a joined file has the age of the youngest that it replaces, so that tables made from this one do
not take its rows for news. Files of the open day are joined as well; the drain goes on beside it.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.table import Table

from k2_assets.lake.data_files import write_files
from k2_assets.lake.rewrites import replace_files
from k2_assets.lake.source_files import live_files
from k2_core import clock
from k2_core.errors import CommitConflict, ForeignTable
from k2_core.lake.manifests import LakeFile
from k2_core.lake.planned_read import data_file, stream
from k2_core.lake.table_spec import TableSpec
from k2_core.leases import Lease
from k2_core.logs import logger

log = logger(__name__)

COMPACTED: Final = "k2.compacted"
_FULL: Final = 0.5
_TIER: Final = 16
_LONELY: Final = 4  # files that were read for nothing, until the others of their tier wait for another round


@dataclass(frozen=True)
class Limits:
    """When files are joined, and how large one becomes.

    Args:
        files: so many of one tier and day are joined at once.
        bytes: of a joined file, about.
        rows: of a joined file, about.
        memory_bytes: that the rows of a joined file take; of frames that repeat, a file takes a thousandth of it.
        young_ms: files committed in the last so many milliseconds are left alone.
        closed_ms: a day that ended so long ago counts as closed, and two files of a tier are joined.
    """

    files: int
    bytes: int
    rows: int
    memory_bytes: int
    young_ms: int
    closed_ms: int


@dataclass(frozen=True)
class Compacted:
    """What was joined."""

    files: int
    into: int
    rows: int


def compact(
    load: Callable[[], Table], lease: Lease, spec: TableSpec, limits: Limits, now_ms: int
) -> Iterator[Compacted]:
    """Join the table's small files, and yield what each step has joined.

    Args:
        load: loads the table's newest state.
        lease: of the lock ``files:<table>``.
        spec: the table's own.
        limits: when, and how large.
        now_ms: the time, ms since 1970.

    Raises:
        LockLost: the lock was lost before a commit.
    """
    table = load()
    old_enough = oldest_first(table, live_files(table, spec.partition_by), now_ms - limits.young_ms)
    closed_before = clock.from_us((now_ms - limits.closed_ms) * 1000).date()
    for batch in choose(old_enough, limits, closed_before):
        try:
            yield from _joined(load, lease, spec, batch, limits)
        except CommitConflict as conflict:  # a rebuild, or gold's own run, has replaced one of them: the next round
            log.info("files not joined", table=spec.name, reason=str(conflict))


def oldest_first(table: Table, files: list[LakeFile], until_ms: int) -> list[LakeFile]:
    """Return the files that were committed by ``until_ms``, oldest first; fewer where history is too thin to tell."""
    committed = [s.sequence_number or 0 for s in table.metadata.snapshots if s.timestamp_ms <= until_ms]
    newest = max(committed, default=0)
    return sorted((each for each in files if each.sequence <= newest), key=lambda each: each.sequence)


def choose(files: list[LakeFile], limits: Limits, closed_before: date) -> list[list[LakeFile]]:
    """Return which files are to be joined, one list for each new file; the newest day first.

    Files of a day are joined with those of their own tier, sixteen times smaller than the next: so each row is
    rewritten a few times at most, and a day has a few files of each tier.

    Args:
        files: oldest first.
        limits: when, and how large.
        closed_before: days before this one are closed.
    """
    tiers: dict[tuple[date, int], list[LakeFile]] = defaultdict(list)
    for each in files:
        if (share := _share(each, limits)) < _FULL:
            tiers[each.day, int(math.log(1 / share, _TIER))].append(each)
    batches: list[list[LakeFile]] = []
    for (day, _), members in sorted(tiers.items(), key=lambda item: item[0], reverse=True):
        if len(members) < (2 if day < closed_before else limits.files):
            continue
        batches.append([])
        filled = 0.0
        for each in members:
            share = _share(each, limits)
            if batches[-1] and filled + share > 1:
                batches.append([])
                filled = 0.0
            batches[-1].append(each)
            filled += share
    return [batch for batch in batches if len(batch) > 1]


def _share(file: LakeFile, limits: Limits) -> float:
    """Return how much of a full file this one is, by bytes or rows, whichever is more."""
    return max(file.size_bytes / limits.bytes, file.rows / limits.rows, 1e-9)


def _joined(
    load: Callable[[], Table], lease: Lease, spec: TableSpec, files: list[LakeFile], limits: Limits
) -> Iterator[Compacted]:
    """Join files, as many at once as fit in memory: only reading them shows what their rows take."""
    table, lonely = load(), 0
    waiting: list[tuple[LakeFile, pa.Table]] = []
    for each in files:
        with table.io.new_input(each.path).open() as source:
            footer = pq.read_metadata(source)
        # What its pages take without compression; values that repeat count once.
        unpacked = sum(int(footer.row_group(number).total_byte_size) for number in range(footer.num_row_groups))
        if unpacked >= _FULL * limits.memory_bytes:
            continue
        rows = stream(table, [each]).read_all()
        if waiting and sum(known.nbytes for _, known in waiting) + rows.nbytes > limits.memory_bytes:
            if len(waiting) > 1:
                yield _join(load, lease, spec, waiting)
            else:
                lonely += 1
            waiting.clear()
        if lonely == _LONELY:
            return
        waiting.append((each, rows))
    if len(waiting) > 1:
        yield _join(load, lease, spec, waiting)


def _join(
    load: Callable[[], Table], lease: Lease, spec: TableSpec, parts: list[tuple[LakeFile, pa.Table]]
) -> Compacted:
    """Join what has been read, and empty ``parts``: memory holds its rows once, not also as they were."""
    files = [file for file, _ in parts]
    rows = pa.concat_tables([part for _, part in parts])
    parts.clear()
    if spec.sort_by:
        # Column by column: what one was before goes as soon as it is sorted. Each in one piece first: ``take`` would
        # make it so beside the pieces.
        schema, columns = rows.schema, rows.columns
        order = pc.sort_indices(rows, [(name, "ascending") for name in spec.sort_by])
        del rows
        rows = pa.table([columns.pop(0).combine_chunks().take(order) for _ in range(len(columns))], schema)
    if rows.num_rows != (expected := sum(each.rows for each in files)):
        msg = f"{spec.name}: files that should hold {expected} rows hold {rows.num_rows}: they are left as they are"
        raise ForeignTable(msg)
    added = write_files(load(), [rows])
    done = Compacted(len(files), len(added), rows.num_rows)
    remember = {COMPACTED: f"{done.files} files of {files[0].day} into {done.into}"}
    age = max(each.sequence for each in files)
    replace_files(load, lease, [data_file(each) for each in files], added, remember, age=age)
    return done
