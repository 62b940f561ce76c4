"""Trades and quotes, page by page, in order of their time and of what tells two rows of one time apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import pyarrow as pa

from k2_api.lake.duckdb_engine import ROWS
from k2_api.lake.file_groups import QUOTES, TRADES, Shape
from k2_api.lake.file_index import Filter
from k2_api.lake.lake_reader import PinnedTable
from k2_api.queries.conditions import Key, beyond, conditions, where_clause
from k2_core.clock import from_us
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import GOLD_QUOTES, GOLD_TRADES

_FIRST_PIECE: Final = 5_000  # rows: the first are soon there
_PIECE: Final = 100_000
DataType = Literal["trades", "quotes"]
Bound = tuple[str, Literal[">=", "<="], object]
"""Of a column: its name, which side, the value."""


@dataclass(frozen=True)
class Kind:
    """How the rows of a table are ordered: by columns, of which the first is their time.

    ``unnumbered`` stands for a venue's sequence that a row does not have.
    """

    name: DataType
    spec: TableSpec
    shape: Shape
    order: tuple[str, str, str, str]
    unnumbered: int = -1

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that answers may show."""
        return tuple(column.name for column in self.spec.served_columns)

    def key_of(self, row: dict[str, Any]) -> Key:
        """Return the key by which a row is sorted."""
        time_us, sequence, *others = (row[name] for name in self.order)
        return (time_us, self.unnumbered if sequence is None else sequence, *others)


KINDS: Final[dict[DataType, Kind]] = {
    "trades": Kind("trades", GOLD_TRADES, TRADES, ("timestamp", "source_sequence", "trade_id", "message_id")),
    "quotes": Kind("quotes", GOLD_QUOTES, QUOTES, ("timestamp", "source_sequence", "quote_id", "message_id")),
}


@dataclass(frozen=True)
class RowsQuestion:
    """Which rows are asked for, and which of their columns.

    Args:
        kind: trades or quotes.
        where: symbols, exchanges, times.
        newest: whether the newest come first.
        fields: columns in the order of the answer; empty are all.
        bounds: of further columns.
    """

    kind: Kind
    where: Filter
    newest: bool = True
    fields: tuple[str, ...] = ()
    bounds: tuple[Bound, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the answer."""
        return self.fields or self.kind.columns

    @property
    def schema(self) -> pa.Schema:
        """The answer's Arrow schema."""
        return pa.schema([self.kind.shape.schema.field(name) for name in self.columns])


@dataclass(frozen=True)
class RowsPage:
    """One page: at least the asked columns and those of the order. ``beyond`` is the row after it, if there is one."""

    rows: pa.Table
    beyond: pa.Table | None
    last: Key | None

    def with_beyond(self) -> pa.Table:
        """Return the rows with the one that follows them."""
        return self.rows if self.beyond is None else pa.concat_tables([self.rows, self.beyond])

    def answer(self, question: RowsQuestion) -> pa.Table:
        """Return the columns that were asked for."""
        return self.rows.select(list(question.columns))


def rows_page(table: PinnedTable, question: RowsQuestion, after: Key | None, limit: int) -> RowsPage:
    """Return up to ``limit`` rows that come after the key ``after``."""
    kind = question.kind
    narrowed = beyond(question.where, after, newest=question.newest)
    clauses, params = _conditions(replace(question, where=narrowed))
    order = [kind.order[0], f"coalesce({kind.order[1]}, {kind.unnumbered})", *kind.order[2:]]
    if after is not None:
        clauses.append(f"({', '.join(order)}) {'<' if question.newest else '>'} ($k0, $k1, $k2, $k3)")
        params |= {"k0": from_us(int(after[0])), "k1": after[1], "k2": after[2], "k3": after[3]}
    read = tuple(dict.fromkeys((*question.columns, *kind.order, "exchange", "symbol")))
    # One row more than the page: whether there is a next page, and its first trade, up to which ids are judged.
    found = table.first_rows(
        _sql(read, where_clause(clauses), order, newest=question.newest),
        narrowed,
        {**params, "rows": limit + 1},
        rows=None if question.bounds else limit + 1,
        newest=question.newest,
        query_type=kind.name,
    ).cast(pa.schema([kind.shape.schema.field(name) for name in read]))
    is_last = found.num_rows <= limit
    rows = found.slice(0, limit)
    last = None if is_last else kind.key_of(keys_of(rows.slice(limit - 1), kind.order)[0])
    return RowsPage(rows, None if is_last else found.slice(limit), last)


def count_rows(table: PinnedTable, question: RowsQuestion) -> int:
    """Return how many rows there are."""
    clauses, params = _conditions(question)
    sql = f"SELECT count(*) AS rows FROM {ROWS} {where_clause(clauses)}"  # noqa: S608  # names of ours, parameters
    found = table.first_rows(sql, question.where, params, rows=None, newest=True, query_type="count")
    return int(found["rows"][0].as_py())


def batches(table: PinnedTable, question: RowsQuestion, limit: int) -> Iterator[pa.RecordBatch]:
    """Yield up to ``limit`` rows, some at a time: each piece is read when it is asked for."""
    after: Key | None = None
    size, left = _FIRST_PIECE, limit
    while left > 0:
        page = rows_page(table, question, after, min(size, left))
        yield from page.answer(question).combine_chunks().to_batches()
        if page.last is None:
            return
        after, left, size = page.last, left - page.rows.num_rows, _PIECE


def _conditions(question: RowsQuestion) -> tuple[list[str], dict[str, object]]:
    clauses, params = conditions(question.where, question.kind.shape.time_column)
    for number, (column, comparison, value) in enumerate(question.bounds):
        clauses.append(f"{column} {comparison} $bound{number}")
        params[f"bound{number}"] = value
    return clauses, params


def _sql(columns: Sequence[str], where: str, order: Sequence[str], *, newest: bool) -> str:
    # The names are the table's own; values are parameters.
    sorted_by = ", ".join(f"{each} {'DESC' if newest else 'ASC'}" for each in order)
    return f"SELECT {', '.join(columns)} FROM {ROWS} {where} ORDER BY {sorted_by} LIMIT $rows"  # noqa: S608


def keys_of(rows: pa.Table, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return some columns of a few rows, their times in µs since 1970."""
    time = rows.schema.get_field_index(columns[0])
    numbered = rows.set_column(time, columns[0], rows.column(columns[0]).cast(pa.int64()))
    found: list[dict[str, Any]] = numbered.select(list(columns)).to_pylist()
    return found
