"""Candles, page by page, in order of (window_start, exchange, symbol)."""

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from k2_api.lake.duckdb_engine import ROWS
from k2_api.lake.file_groups import Shape
from k2_api.lake.file_index import Filter
from k2_api.lake.lake_reader import PinnedTable
from k2_api.queries.conditions import Key, beyond, conditions, where_clause
from k2_core.clock import from_us, to_us
from k2_core.lake.tables import CANDLES

_ORDER: Final = ("window_start", "exchange", "symbol")
COLUMNS: Final = tuple(column.name for column in CANDLES[0].served_columns)
"""Of every timeframe."""


@dataclass(frozen=True)
class CandlesPage:
    """One page, oldest window first. ``last`` is the key to go on from; None on the last page."""

    rows: pa.Table
    last: Key | None


def candles_page(
    candles: PinnedTable, shape: Shape, where: Filter, after: Key | None, limit: int, *, newest: bool
) -> CandlesPage:
    """Return up to ``limit`` candles beyond the key ``after``: the newest before it, or the oldest after it.

    Either way the rows of the page are in ascending order.
    """
    narrowed = beyond(where, after, newest=newest)
    clauses, params = conditions(narrowed, shape.time_column)
    if after is not None:
        clauses.append(f"({', '.join(_ORDER)}) {'<' if newest else '>'} ($k0, $k1, $k2)")
        params |= {"k0": from_us(int(after[0])), "k1": after[1], "k2": after[2]}
    order = ", ".join(f"{name} {'DESC' if newest else 'ASC'}" for name in _ORDER)
    # One row more than the page shows whether there is a next one. Column names are the table's own.
    found = candles.first_rows(
        f"SELECT {', '.join(COLUMNS)} FROM {ROWS} {where_clause(clauses)} ORDER BY {order} LIMIT $rows",  # noqa: S608
        narrowed,
        {**params, "rows": limit + 1},
        rows=limit + 1,
        newest=newest,
        query_type="candles",
    ).cast(pa.schema([shape.schema.field(name) for name in COLUMNS]))
    rows = found.slice(0, limit)
    last: Key | None = None
    if found.num_rows > limit:
        (key,) = rows.slice(limit - 1).select(_ORDER).to_pylist()
        last = to_us(key["window_start"]), key["exchange"], key["symbol"]
    ascending = rows.take(pa.array(range(rows.num_rows - 1, -1, -1), pa.int64())) if newest else rows
    return CandlesPage(ascending, last)
