"""What each data file holds, per exchange and symbol: rows, times, venue sequences. Read once; files never change.

Bounds in a manifest cover a whole file, whatever symbols it mixes. These are exact for each of them, so that a query
can prove which files hold its newest rows without reading more.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

import msgspec
import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow

from k2_api.lake.file_index import Filter
from k2_core.lake import tables
from k2_core.lake.manifests import LakeFile
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import GOLD_QUOTES, GOLD_TRADES, REFERENCE_INSTRUMENTS

_FILES_KEPT: Final = 100_000
_FIRST_LOOK: Final = 8
_WIDEST_LOOK: Final = 256


@dataclass(frozen=True)
class Shape:
    """How the rows of a served table are ordered: by time, and within a venue's symbol by sequence if there is one."""

    table: str
    time_column: str
    schema: pa.Schema
    sequence_column: str | None = None

    @classmethod
    def of(cls, spec: TableSpec) -> "Shape":
        """Return the shape of a table by its declaration."""
        sequence = "source_sequence" if any(each.name == "source_sequence" for each in spec.columns) else None
        return cls(spec.name, spec.partition_by, _duckdb_schema(spec), sequence)


def _duckdb_schema(spec: TableSpec) -> pa.Schema:
    """Return the schema of a table's rows in the Arrow types in which DuckDB gives them."""
    written: pa.Schema = schema_to_pyarrow(spec.schema, include_field_ids=False)
    return pa.schema([pa.field(each.name, _as_duckdb_has_it(each.type)) for each in written])


def _as_duckdb_has_it(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_map(kind):
        return pa.map_(_as_duckdb_has_it(kind.key_type), _as_duckdb_has_it(kind.item_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_as_duckdb_has_it(kind.value_type))
    return kind


TRADES: Final = Shape.of(GOLD_TRADES)
QUOTES: Final = Shape.of(GOLD_QUOTES)
INSTRUMENTS: Final = Shape.of(REFERENCE_INSTRUMENTS)
CANDLES: Final = {spec.timeframe: Shape.of(spec) for spec in tables.CANDLES}


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
        symbol_fits = not where.symbols or self.symbol in where.symbols
        exchange_fits = not where.exchanges or self.exchange in where.exchanges
        return symbol_fits and exchange_fits and self.last_us >= where.start_us and self.first_us < where.end_us


Groups = tuple[Group, ...]
Look = Callable[[Sequence[LakeFile]], dict[str, Groups]]
"""Reads what files hold; see :class:`~k2_api.lake.row_source.RowSource`."""


class FileGroups:
    """The groups of a table's files, read when first needed and remembered."""

    def __init__(self) -> None:
        self._groups: OrderedDict[str, Groups] = OrderedDict()
        self._lock = Lock()

    def of(self, files: Iterable[LakeFile], look: Look) -> list[tuple[LakeFile, Groups]]:
        """Return each file with its groups, in the order given."""
        files = list(files)
        with self._lock:
            known = {each.path: self._groups[each.path] for each in files if each.path in self._groups}
        missing = [each for each in files if each.path not in known]
        if missing:
            found = look(missing)  # without the lock: other questions go on meanwhile
            known |= found
            with self._lock:
                self._groups.update(found)
                while len(self._groups) > _FILES_KEPT:
                    self._groups.popitem(last=False)
        return [(each, known[each.path]) for each in files]

    def walk(self, files: Sequence[LakeFile], look: Look) -> Iterator[tuple[LakeFile, Groups]]:
        """Yield each file with its groups, reading ahead in growing steps, for a caller that may stop early."""
        start, step = 0, _FIRST_LOOK
        while start < len(files):
            yield from self.of(files[start : start + step], look)
            start, step = start + step, min(2 * step, _WIDEST_LOOK)
