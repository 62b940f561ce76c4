"""How columns become JSON: SQL expressions by type. Decimals and times are text, everything else stays as it is."""

from typing import Final

from pyiceberg.types import DateType, DecimalType, TimestamptzType

from k2_core.lake.table_spec import Column, TableSpec

_TIME: Final = "strftime(make_timestamp(epoch_us({0})), '%Y-%m-%dT%H:%M:%S.%fZ') AS {0}"
_DECIMAL: Final = "rtrim(rtrim(CAST({0} AS VARCHAR), '0'), '.') AS {0}"
_DATE: Final = "strftime({0}, '%Y-%m-%d') AS {0}"


def rendered(spec: TableSpec) -> str:
    """Return the SELECT list of all columns of a table, as they stand in answers.

    Times are RFC 3339 in UTC with microseconds; decimals have neither trailing zeros nor an exponent. A decimal of
    scale 0 has no point to trim back to, and is refused.
    """
    return ", ".join(_expression(column) for column in spec.columns)


def _expression(column: Column) -> str:
    if isinstance(column.kind, TimestamptzType):
        return _TIME.format(column.name)
    if isinstance(column.kind, DecimalType):
        if column.kind.scale == 0:
            raise ValueError(f"{column.name} has no decimals: trimming zeros would change it")
        return _DECIMAL.format(column.name)
    return _DATE.format(column.name) if isinstance(column.kind, DateType) else f'"{column.name}"'
