"""Versions of instruments, page by page, in order of (exchange, symbol, venue_symbol, valid_from)."""

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from k2_api.lake.duckdb_engine import ROWS
from k2_api.lake.file_groups import INSTRUMENTS
from k2_api.lake.file_index import Filter
from k2_api.lake.lake_reader import PinnedTable
from k2_api.queries.conditions import Key, conditions, where_clause
from k2_core.clock import from_us, to_us
from k2_core.lake.tables import REFERENCE_INSTRUMENTS

_ORDER: Final = ("exchange", "symbol", "venue_symbol", "valid_from")
_SERVED: Final = REFERENCE_INSTRUMENTS.served_columns
_COLUMNS: Final = [f'"{column.name}"' for column in _SERVED]


@dataclass(frozen=True)
class InstrumentsPage:
    """One page. ``last`` is the sort key of its last row; None when no row follows."""

    rows: pa.Table
    last: Key | None


def instruments_page(register: PinnedTable, where: Filter, after: Key | None, limit: int) -> InstrumentsPage:
    """Return up to ``limit`` versions that come after the key ``after``."""
    clauses, params = conditions(where, INSTRUMENTS.time_column)
    if after is not None:
        clauses.append(f"({', '.join(_ORDER)}) > ($k0, $k1, $k2, $k3)")
        params |= {"k0": after[0], "k1": after[1], "k2": after[2], "k3": from_us(int(after[3]))}
    order = ", ".join(_ORDER)
    # The names are the table's own; values are parameters.
    sql = f"SELECT {', '.join(_COLUMNS)} FROM {ROWS} {where_clause(clauses)} ORDER BY {order} LIMIT $rows"  # noqa: S608
    params |= {"rows": limit + 1}
    found = register.first_rows(sql, where, params, rows=None, newest=False, query_type="instruments")
    found = found.cast(pa.schema([INSTRUMENTS.schema.field(column.name) for column in _SERVED]))
    if found.num_rows <= limit:
        return InstrumentsPage(found, None)
    (last,) = found.slice(limit - 1, 1).select(_ORDER).to_pylist()
    return InstrumentsPage(found.slice(0, limit), (*(last[name] for name in _ORDER[:3]), to_us(last["valid_from"])))
