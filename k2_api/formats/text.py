"""Arrow columns as text, whole columns at a time: plain for CSV, JSON values for JSON. Pure.

Decimals have neither trailing zeros nor an exponent; times are RFC 3339 in UTC with microseconds.
"""

import json
from collections.abc import Callable
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

_JSON_SPECIAL: Final = r'["\\\x00-\x1f]'
_FORMULA: Final = r"^[=+\-@\t\r]"


def json_rows(rows: pa.RecordBatch, end: str) -> memoryview:
    """Return each row as a JSON object followed by ``end``."""
    parts: list[pa.Array | str] = []
    for number, field in enumerate(rows.schema):
        parts += [f"{',' if number else '{'}{json.dumps(field.name)}:", _json_value(rows.column(number))]
    joined = pc.binary_join_element_wise(*parts, "}" + end, "")  # the last is what stands between: nothing
    # The texts of an Arrow array lie one after the other: they are the answer.
    _, offsets, data = joined.buffers()
    if data is None:
        return memoryview(b"")
    bounds = pa.Int32Array.from_buffers(pa.int32(), len(joined) + 1, [None, offsets], offset=joined.offset)
    return memoryview(data)[bounds[0].as_py() : bounds[len(joined)].as_py()]


def plain_text(column: pa.Array) -> pa.Array:
    """Return a column as text; null stays null, lists and maps become JSON."""
    kind = column.type
    if pa.types.is_decimal(kind):
        return _decimal_text(column)
    if pa.types.is_timestamp(kind):
        return pc.utf8_replace_slice(pc.cast(pc.cast(column, pa.timestamp("us", "UTC")), pa.string()), 10, 11, "T")
    if pa.types.is_map(kind):
        pairs = pc.binary_join_element_wise(_quoted(pc.cast(column.keys, pa.string())), _json_value(column.items), ":")
        return _enclosed(column, pairs, "{", "}")
    if pa.types.is_list(kind):
        return _enclosed(column, _json_value(column.values), "[", "]")
    return pc.cast(column, pa.string())


def safe_cells(text: pa.Array) -> pa.Array:
    """Put a quote before texts that a spreadsheet would run as formulas."""
    return _replaced(text, _FORMULA, lambda each: f"'{each}")


def _json_value(column: pa.Array) -> pa.Array:
    text, kind = plain_text(column), column.type
    is_bare = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_nested(kind)
    return pc.fill_null(text if is_bare else _quoted(text), "null")


def _quoted(text: pa.Array) -> pa.Array:
    escaped = _replaced(text, _JSON_SPECIAL, lambda each: json.dumps(each, ensure_ascii=False)[1:-1])
    return pc.binary_join_element_wise('"', escaped, '"', "")


def _decimal_text(column: pa.Array) -> pa.Array:
    text = pc.cast(column, pa.string())
    if column.type.scale == 0:
        return text
    # Arrow writes what is small with an exponent.
    return pc.utf8_rtrim(pc.utf8_rtrim(_replaced(text, "E", _without_exponent), "0"), ".")


def _without_exponent(text: str) -> str:
    digits, _, exponent = text.partition("E")
    sign, digits = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
    whole, _, fraction = digits.partition(".")
    zeros = "0" * (-int(exponent) - len(whole))
    return f"{sign}0.{zeros}{whole}{fraction}"


def _enclosed(column: pa.Array, elements: pa.Array, begin: str, end: str) -> pa.Array:
    joined = pc.binary_join(pa.ListArray.from_arrays(column.offsets, elements), ",")
    enclosed = pc.binary_join_element_wise(begin, joined, end, "")
    return enclosed if column.null_count == 0 else pc.if_else(column.is_valid(), enclosed, None)


def _replaced(text: pa.Array, pattern: str, change: Callable[[str], str]) -> pa.Array:
    """Change the few texts that match a pattern."""
    found = pc.fill_null(pc.match_substring_regex(text, pattern), False)
    if not pc.any(found).as_py():
        return text
    changed = pa.array([change(each) for each in text.filter(found).to_pylist()], pa.string())
    return pc.replace_with_mask(text, found, changed)
