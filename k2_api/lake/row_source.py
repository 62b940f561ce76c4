"""How DuckDB gets the rows of planned files: in place, or through Arrow. Nothing is planned here."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import pyarrow as pa
from pyiceberg.expressions import And, BooleanExpression, GreaterThanOrEqual, In, LessThan
from pyiceberg.table import Table

from k2_api.api_errors import FilesGone
from k2_api.lake.duckdb_engine import ROWS, Engine, local_path
from k2_api.lake.file_groups import Group, Groups, Shape
from k2_api.lake.file_index import Filter
from k2_core.clock import from_us
from k2_core.lake.manifests import BEGINNING_US, END_US, LakeFile
from k2_core.lake.planned_read import ALL_ROWS, DeleteFiles, delete_files, stream

_SIDE_BY_SIDE: Final = 4
_NO_FILTER: Final = Filter()


@dataclass(frozen=True)
class RowSource:
    """Where the rows of a table's files come from.

    ``table`` is None where DuckDB opens the files itself: local ones, of one schema, without deletes beside them.
    Otherwise pyiceberg reads them, without the rows that the delete files of the snapshot ``deletes_of`` strike out.
    """

    engine: Engine
    shape: Shape
    table: Table | None = None
    deletes_of: int | None = None

    def rows(
        self, sql: str, files: Sequence[LakeFile], where: Filter, params: Mapping[str, object], query_type: str
    ) -> pa.Table:
        """Run ``sql``, which selects the rows of ``where``, over files; no files give no rows."""
        if not files:
            none = pa.RecordBatchReader.from_batches(self.shape.schema, [])
            return self.engine.over_rows(sql, none, params, query_type)
        if self.table is None:
            return self.engine.over_files(sql, [each.path for each in files], params, query_type)
        # A column that the query does not name need not be read.
        columns = tuple(field.name for field in self.table.schema().fields if field.name in sql)
        time = self.shape.time_column
        conditions: list[tuple[Any, str, object]] = []  # Any: mypy does not see the arguments of predicates
        if where.symbols:
            conditions.append((In, "symbol", where.symbols))
        if where.exchanges:
            conditions.append((In, "exchange", where.exchanges))
        if where.start_us != BEGINNING_US:
            conditions.append((GreaterThanOrEqual, time, from_us(where.start_us).isoformat()))
        if where.end_us != END_US:
            conditions.append((LessThan, time, from_us(where.end_us).isoformat()))
        expression: BooleanExpression = ALL_ROWS
        for predicate, column, value in conditions:
            expression = And(expression, predicate(column, value))
        try:
            rows = stream(self.table, files, columns, expression, self._deletes)
            return self.engine.over_rows(sql, rows, params, query_type)
        except FileNotFoundError as error:
            raise FilesGone("files of the lake were removed while they were read; ask again") from error

    def look(self, files: Sequence[LakeFile]) -> dict[str, Groups]:
        """Return what each file holds of each (exchange, symbol), by its path; three or four columns are read."""
        # pyiceberg is asked file by file, since its rows do not say which file they come from; DuckDB's do.
        if self.table is not None:
            sql = _groups_sql(self.shape, "")
            with ThreadPoolExecutor(_SIDE_BY_SIDE) as threads:
                answers = threads.map(lambda file: self.rows(sql, [file], _NO_FILTER, {}, "file_groups"), files)
                return {
                    file.path: tuple(Group(**row) for row in rows.to_pylist())
                    for file, rows in zip(files, answers, strict=True)
                }
        found: defaultdict[str, list[Group]] = defaultdict(list)
        for row in self.rows(_groups_sql(self.shape, "filename, "), files, _NO_FILTER, {}, "file_groups").to_pylist():
            found[row.pop("filename")].append(Group(**row))
        return {each.path: tuple(found[local_path(each.path)]) for each in files}

    @cached_property
    def _deletes(self) -> DeleteFiles:
        if self.table is None or self.deletes_of is None:
            return {}
        return delete_files(self.table, self.deletes_of)


def _groups_sql(shape: Shape, file_column: str) -> str:
    time, sequence = shape.time_column, shape.sequence_column or "0"
    # The names come from the shapes of our tables, never from a caller.
    return f"""
        SELECT {file_column} exchange, symbol, count(*) AS rows,
               epoch_us(min({time})) AS first_us, epoch_us(max({time})) AS last_us,
               min({sequence}) AS first_sequence, max({sequence}) AS last_sequence
        FROM {ROWS} GROUP BY {file_column} exchange, symbol
    """  # noqa: S608
