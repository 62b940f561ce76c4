"""Versions of instruments, page by page, in order of (exchange, symbol, venue_symbol, valid_from)."""

from dataclasses import dataclass
from functools import cache
from typing import Final

from k2_api.lake.duckdb_engine import ROWS, Row
from k2_api.lake.file_groups import INSTRUMENTS
from k2_api.lake.file_index import Filter
from k2_api.lake.lake_reader import PinnedTable
from k2_api.queries.conditions import Key, conditions, where_clause
from k2_api.queries.rendering import rendered
from k2_core.clock import from_us
from k2_core.lake.tables import REFERENCE_INSTRUMENTS

_ORDER: Final = ("exchange", "symbol", "venue_symbol", "valid_from")


@dataclass(frozen=True)
class InstrumentsPage:
    """One page. ``last`` is the sort key of its last row; None when no row follows."""

    rows: list[Row]
    last: Key | None


def instruments_page(register: PinnedTable, where: Filter, after: Key | None, limit: int) -> InstrumentsPage:
    """Return up to ``limit`` versions that come after the key ``after``."""
    clauses, params = conditions(where, INSTRUMENTS.time_column)
    if after is not None:
        clauses.append(f"({', '.join(_ORDER)}) > ($k0, $k1, $k2, $k3)")
        params |= {"k0": after[0], "k1": after[1], "k2": after[2], "k3": from_us(int(after[3]))}
    rows = register.all_rows(_sql(where_clause(clauses)), where, {**params, "rows": limit + 1}, "instruments")
    moments = [row.pop("valid_from_us") for row in rows]
    if len(rows) <= limit:
        return InstrumentsPage(rows, None)
    return InstrumentsPage(rows[:limit], (*(rows[limit - 1][name] for name in _ORDER[:3]), moments[limit - 1]))


@cache
def _sql(where: str) -> str:
    order, columns = ", ".join(_ORDER), ", ".join(f'"{column.name}"' for column in REFERENCE_INSTRUMENTS.columns)
    # Only the rows of the page are rendered as text; column names are the table's own.
    return f"""
        SELECT {rendered(REFERENCE_INSTRUMENTS)}, epoch_us(valid_from) AS valid_from_us
        FROM (SELECT {columns} FROM {ROWS} {where} ORDER BY {order} LIMIT $rows) AS page
        ORDER BY {", ".join(f"page.{name}" for name in _ORDER)}
    """  # noqa: S608
