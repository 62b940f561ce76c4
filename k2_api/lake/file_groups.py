"""What each data file holds, per exchange and symbol: rows, times, venue sequences. Read once; files never change.

Bounds in a manifest cover a whole file, whatever symbols it mixes. These are exact for each of them, so that a query
can prove which files hold its newest rows without reading more.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

import msgspec

from k2_api.lake.duckdb_engine import ROWS, Engine, local_path
from k2_api.lake.file_index import FileEntry, Filter
from k2_core.lake.tables import GOLD_OHLCV_1M, GOLD_TRADES

_FILES_KEPT: Final = 100_000
_FIRST_LOOK: Final = 8
_WIDEST_LOOK: Final = 256


@dataclass(frozen=True)
class Shape:
    """How the rows of a served table are ordered: by time, and within a venue's symbol by sequence if there is one."""

    table: str
    time_column: str
    sequence_column: str | None = None


TRADES: Final = Shape(GOLD_TRADES.name, GOLD_TRADES.partition_by, "source_sequence")
CANDLES_1M: Final = Shape(GOLD_OHLCV_1M.name, GOLD_OHLCV_1M.partition_by)


class Group(msgspec.Struct, frozen=True, gc=False):
    """The rows of one (exchange, symbol) in one file; times in µs since 1970, both ends inclusive."""

    exchange: str
    symbol: str
    rows: int
    first_us: int
    last_us: int
    first_sequence: int
    last_sequence: int

    def fits(self, where: Filter) -> bool:
        """Tell whether a row that is asked for can be among these."""
        symbol_fits = where.symbol is None or where.symbol == self.symbol
        exchange_fits = where.exchange is None or where.exchange == self.exchange
        return symbol_fits and exchange_fits and self.last_us >= where.start_us and self.first_us < where.end_us

    def surely_inside(self, where: Filter) -> bool:
        """Tell whether all of these rows lie within the time range, its very ends excepted."""
        return self.first_us > where.start_us and self.last_us < where.end_us - 1


class FileGroups:
    """The groups of one table's files, read when first needed and remembered."""

    def __init__(self, engine: Engine, shape: Shape) -> None:
        self._engine = engine
        self._sql = _groups_sql(shape, "filename, ")
        self.sql_of_arrow = _groups_sql(shape, "")
        self._groups: OrderedDict[str, tuple[Group, ...]] = OrderedDict()
        self._lock = Lock()

    def of(self, entries: Iterable[FileEntry]) -> list[tuple[FileEntry, tuple[Group, ...]]]:
        """Return each file with its groups, in the order given."""
        entries = list(entries)
        with self._lock:
            known = {entry.path: self._groups[entry.path] for entry in entries if entry.path in self._groups}
        missing = [entry.path for entry in entries if entry.path not in known]
        known |= self._read(missing)
        return [(entry, known[entry.path]) for entry in entries]

    def walk(self, entries: Sequence[FileEntry]) -> Iterator[tuple[FileEntry, tuple[Group, ...]]]:
        """Yield each file with its groups, reading ahead in growing steps, for a caller that may stop early."""
        start, step = 0, _FIRST_LOOK
        while start < len(entries):
            yield from self.of(entries[start : start + step])
            start, step = start + step, min(2 * step, _WIDEST_LOOK)

    def _read(self, paths: list[str]) -> dict[str, tuple[Group, ...]]:
        rows = self._engine.over_files(self._sql, paths, {}, "file_groups")
        found: defaultdict[str, list[Group]] = defaultdict(list)
        for row in rows:
            found[row.pop("filename")].append(Group(**row))
        groups = {path: tuple(found[local_path(path)]) for path in paths}
        with self._lock:
            self._groups.update(groups)
            while len(self._groups) > _FILES_KEPT:
                self._groups.popitem(last=False)
        return groups


def _groups_sql(shape: Shape, file_column: str) -> str:
    time, sequence = shape.time_column, shape.sequence_column or "0"
    # The names come from the shapes above, never from a caller.
    return f"""
        SELECT {file_column} exchange, symbol, count(*) AS rows,
               epoch_us(min({time})) AS first_us, epoch_us(max({time})) AS last_us,
               min({sequence}) AS first_sequence, max({sequence}) AS last_sequence
        FROM {ROWS} GROUP BY {file_column} exchange, symbol
    """  # noqa: S608
