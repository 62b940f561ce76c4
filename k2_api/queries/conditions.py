"""The WHERE clause of a filter, with named parameters. The SQL text never contains values."""

from dataclasses import replace

from k2_api.lake.file_index import Filter
from k2_core.clock import from_us

Key = tuple[int | str, ...]
"""The values that a row is sorted by; the first is its time in µs since 1970."""


def conditions(where: Filter, time_column: str) -> tuple[list[str], dict[str, object]]:
    """Return the conditions of a filter, and their parameters."""
    clauses: list[str] = []
    params: dict[str, object] = {}
    for column, values in (("symbol", where.symbols), ("exchange", where.exchanges)):
        if values:
            # A parameter each: row groups are skipped by the values of a list that is written out.
            named = {f"{column}{number}": value for number, value in enumerate(values)}
            clauses.append(f"{column} IN ({', '.join(f'${name}' for name in named)})")
            params |= named
    if where.start_us != Filter.start_us:
        clauses.append(f"{time_column} >= $start_time")
        params["start_time"] = from_us(where.start_us)
    if where.end_us != Filter.end_us:
        clauses.append(f"{time_column} < $end_time")
        params["end_time"] = from_us(where.end_us)
    return clauses, params


def where_clause(clauses: list[str]) -> str:
    """Return ``WHERE …``, or nothing when there are no conditions."""
    return f"WHERE {' AND '.join(clauses)}" if clauses else ""


def beyond(where: Filter, after: Key | None, *, newest: bool) -> Filter:
    """Return the filter without the times that earlier pages covered.

    The row of the key ``after`` was the last of the page before. Rows of the same microsecond may be left, so that this
    time stays in; the query compares the whole key. The filter only spares reading files.
    """
    if after is None:
        return where
    moment = int(after[0])
    # The end of a filter is exclusive: one microsecond later includes the key's own.
    if newest:
        return replace(where, end_us=min(where.end_us, moment + 1))
    return replace(where, start_us=max(where.start_us, moment))
