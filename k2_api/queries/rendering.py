"""How columns become JSON: SQL expressions by type. Decimals and times become text, all else keeps its type."""

from typing import Final

from pyiceberg.types import DateType, DecimalType, TimestamptzType

from k2_core.lake.table_spec import TableSpec

_TIME: Final = "strftime(make_timestamp(epoch_us({0})), '%Y-%m-%dT%H:%M:%S.%fZ') AS {0}"
_DECIMAL: Final = "rtrim(rtrim(CAST({0} AS VARCHAR), '0'), '.') AS {0}"
_DATE: Final = "strftime({0}, '%Y-%m-%d') AS {0}"


def rendered(spec: TableSpec) -> str:
    """Return the SELECT list of a table's served columns, in the form of answers.

    Times are RFC 3339 in UTC with microseconds; decimals have neither trailing zeros nor an exponent.

    Raises:
        ValueError: a decimal has scale 0: without a point, trimming zeros would change its value.
    """
    expressions = []
    for column in spec.served_columns:
        form = '"{0}"'
        if isinstance(column.kind, TimestamptzType):
            form = _TIME
        elif isinstance(column.kind, DateType):
            form = _DATE
        elif isinstance(column.kind, DecimalType):
            if column.kind.scale == 0:
                raise ValueError(f"{column.name} has no decimals: trimming zeros would change it")
            form = _DECIMAL
        expressions.append(form.format(column.name))
    return ", ".join(expressions)
