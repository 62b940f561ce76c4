"""Candles, page by page, in order of (window_start, exchange)."""

from dataclasses import dataclass
from functools import cache
from typing import Final

from k2_api.lake.duckdb_engine import ROWS, Row
from k2_api.lake.file_index import Filter
from k2_api.lake.lake_reader import PinnedTable
from k2_api.queries.conditions import Key, beyond, conditions, where_clause
from k2_api.queries.rendering import rendered
from k2_core.clock import from_us
from k2_core.lake.tables import CANDLES

_ORDER: Final = ("window_start", "exchange")
_CANDLES: Final = CANDLES[0]  # every timeframe has the same columns


@dataclass(frozen=True)
class CandlesPage:
    """One page, oldest window first. ``last`` is the key to go on from; None on the last page."""

    rows: list[Row]
    last: Key | None


def candles_page(candles: PinnedTable, where: Filter, after: Key | None, limit: int, *, newest: bool) -> CandlesPage:
    """Return up to ``limit`` candles beyond the key ``after``: the newest before it, or the oldest after it.

    Either way the rows of the page are in ascending order.
    """
    narrowed = beyond(where, after, newest=newest)
    clauses, params = conditions(narrowed, _CANDLES.partition_by)
    if after is not None:
        clauses.append(f"({', '.join(_ORDER)}) {'<' if newest else '>'} ($k0, $k1)")
        params |= {"k0": from_us(int(after[0])), "k1": after[1]}
    # One row more than the page shows whether there is a next one.
    found = candles.first_rows(
        _sql(where_clause(clauses), newest=newest),
        narrowed,
        {**params, "rows": limit + 1},
        rows=limit + 1,
        newest=newest,
        query_type="candles",
    )
    rows = found[:limit]
    last: Key | None = (rows[-1]["start_us"], rows[-1]["exchange"]) if len(found) > limit else None
    return CandlesPage(rows[::-1] if newest else rows, last)


@cache
def _sql(where: str, *, newest: bool) -> str:
    order = ", ".join(f"{name} {'DESC' if newest else 'ASC'}" for name in _ORDER)
    columns = ", ".join(f'"{column.name}"' for column in _CANDLES.served_columns)
    # Rows are chosen first, and only those of the page are rendered as text. The outer query sorts by the page's raw
    # columns: rendered ones have the same names, and sort as text. Column names are the table's own.
    return f"""
        SELECT {rendered(_CANDLES)}, epoch_us(window_start) AS start_us, epoch_us(window_end) AS end_us
        FROM (SELECT {columns} FROM {ROWS} {where} ORDER BY {order} LIMIT $rows) AS page
        ORDER BY {", ".join(f"page.{name} {'DESC' if newest else 'ASC'}" for name in _ORDER)}
    """  # noqa: S608
