"""Trades, page by page, in order of (timestamp, source_sequence, trade_id, message_id)."""

from dataclasses import dataclass
from functools import cache
from typing import Final

from k2_api.lake.duckdb_engine import ROWS, Row
from k2_api.lake.file_groups import TRADES
from k2_api.lake.file_index import Filter
from k2_api.lake.lake_reader import PinnedTable
from k2_api.queries.conditions import Key, beyond, conditions, where_clause
from k2_api.queries.rendering import rendered
from k2_core.clock import from_us
from k2_core.lake.tables import GOLD_TRADES

_ORDER: Final = ("timestamp", "source_sequence", "trade_id", "message_id")


@dataclass(frozen=True)
class TradesPage:
    """One page. ``keys`` are the sort keys of its rows; ``beyond`` is the row after it, None on the last page."""

    rows: list[Row]
    keys: list[Key]
    beyond: Row | None


def trades_page(trades: PinnedTable, where: Filter, after: Key | None, limit: int, *, newest: bool) -> TradesPage:
    """Return up to ``limit`` trades that come after the key ``after``, newest or oldest first."""
    narrowed = beyond(where, after, newest=newest)
    clauses, params = conditions(narrowed, TRADES.time_column)
    if after is not None:
        clauses.append(f"({', '.join(_ORDER)}) {'<' if newest else '>'} ($k0, $k1, $k2, $k3)")
        params |= {"k0": from_us(int(after[0])), "k1": after[1], "k2": after[2], "k3": after[3]}
    # One row more than the page: whether there is a next page, and its first trade, up to which ids are judged.
    sql = _sql(where_clause(clauses), newest=newest)
    rows = trades.first_rows(
        sql, narrowed, {**params, "rows": limit + 1}, rows=limit + 1, newest=newest, query_type="trades"
    )
    keys: list[Key] = [(row["timestamp_us"], *(row[name] for name in _ORDER[1:])) for row in rows]
    return TradesPage(rows[:limit], keys[:limit], rows[limit] if len(rows) > limit else None)


@cache
def _sql(where: str, *, newest: bool) -> str:
    order = ", ".join(f"{name} {'DESC' if newest else 'ASC'}" for name in _ORDER)
    columns = ", ".join(f'"{column.name}"' for column in GOLD_TRADES.columns)
    # Rows are chosen first, and only those of the page are rendered as text. The outer query sorts by the page's raw
    # columns: rendered ones have the same names, and sort as text. Column names are the table's own.
    return f"""
        SELECT {rendered(GOLD_TRADES)}, epoch_us(timestamp) AS timestamp_us
        FROM (SELECT {columns} FROM {ROWS} {where} ORDER BY {order} LIMIT $rows) AS page
        ORDER BY {", ".join(f"page.{name} {'DESC' if newest else 'ASC'}" for name in _ORDER)}
    """  # noqa: S608
