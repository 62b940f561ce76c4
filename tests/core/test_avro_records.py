"""Avro files as fastavro writes them: the decoder of manifests reads the same from them."""

import io
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_core.lake.avro_records import records

NUMBERS = st.integers(-(2**63), 2**63 - 1)
SCHEMA = {
    "type": "record",
    "name": "entry",
    "fields": [
        {"name": "status", "type": "int"},
        {"name": "sequence", "type": ["null", "long"], "default": None},
        {"name": "sorted", "type": "boolean"},
        {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}]},
        {"name": "id", "type": {"type": "fixed", "name": "id", "size": 4}},
        {
            "name": "file",
            "type": {
                "type": "record",
                "name": "file",
                "fields": [
                    {"name": "path", "type": "string"},
                    {"name": "splits", "type": ["null", {"type": "array", "items": "long"}]},
                    {"name": "counts", "type": ["null", {"type": "array", "items": {
                        "type": "record", "name": "count",
                        "fields": [{"name": "key", "type": "int"}, {"name": "value", "type": "long"}],
                    }}]},
                    {"name": "bounds", "type": {"type": "array", "items": {
                        "type": "record", "name": "bound",
                        "fields": [{"name": "key", "type": "int"}, {"name": "value", "type": "bytes"}],
                    }}},
                    {"name": "notes", "type": {"type": "array", "items": {
                        "type": "record", "name": "note",
                        "fields": [{"name": "key", "type": "string"}, {"name": "value", "type": "string"}],
                    }}},
                ],
            },
        },
    ],
}  # fmt: skip
KEYS = st.integers(0, 2**31 - 1)
RECORDS = st.fixed_dictionaries(
    {
        "status": st.integers(0, 2),
        "sequence": st.none() | NUMBERS,
        "sorted": st.booleans(),
        "day": st.none() | st.integers(-(2**31), 2**31 - 1),
        "id": st.binary(min_size=4, max_size=4),
        "file": st.fixed_dictionaries(
            {
                "path": st.text(),
                "splits": st.none() | st.lists(NUMBERS),
                "counts": st.none() | st.dictionaries(KEYS, NUMBERS),
                "bounds": st.dictionaries(KEYS, st.binary()),
                "notes": st.dictionaries(st.text(), st.text()),
            }
        ),
    }
)


def written(found: list[dict[str, Any]], codec: str = "null", interval: int = 16_000) -> bytes:
    """Write records; what they hold as dicts becomes arrays of keys and values, as in Iceberg's files."""

    def paired(record: dict[str, Any]) -> dict[str, Any]:
        file = {
            name: [{"key": key, "value": each} for key, each in value.items()] if isinstance(value, dict) else value
            for name, value in record["file"].items()
        }
        return {**record, "file": file}

    content = io.BytesIO()
    fastavro.writer(content, SCHEMA, [paired(each) for each in found], codec=codec, sync_interval=interval)
    return content.getvalue()


@given(st.lists(RECORDS, max_size=5), st.sampled_from(["null", "deflate"]), st.sampled_from([1, 16_000]))
def test_records_are_read_as_they_were_written(found: list[dict[str, Any]], codec: str, interval: int) -> None:
    assert list(records(written(found, codec, interval))) == found


A_RECORD = {
    "status": 1, "sequence": None, "sorted": True, "day": 19_943, "id": b"abcd",
    "file": {"path": "s3://lake/a.parquet", "splits": [4], "counts": {1: 2}, "bounds": {1: b"x"}, "notes": {"a": "b"}},
}  # fmt: skip


def test_a_file_that_ends_too_early_is_an_error_wherever_it_ends() -> None:
    content = written([A_RECORD])
    assert list(records(content)) == [A_RECORD]
    header = content.index(b"avro.schema")
    for end in (3, header + 4, header + 40, len(content) - 60, len(content) - 20, len(content) - 1):
        with pytest.raises((EOFError, ValueError)):
            list(records(content[:end]))


def test_a_block_that_was_damaged_is_an_error() -> None:
    content = written([A_RECORD])
    with pytest.raises(ValueError, match="damaged"):
        list(records(content[:-1] + bytes([content[-1] ^ 1])))


def test_what_is_not_known_is_named() -> None:
    with pytest.raises(ValueError, match="not an Avro file"):
        list(records(b"PAR1" + bytes(100)))
    with pytest.raises(ValueError, match="compressed with other"):
        list(records(written([A_RECORD]).replace(b"\x08null", b"\x0aother", 1)))
    with pytest.raises(ValueError, match="values of type enum"):
        list(records(_of({"type": "enum", "name": "e", "symbols": ["a"]}, "a")))


def test_blocks_that_give_their_size_are_read() -> None:
    """As Java's writer may write arrays; fastavro never does."""
    longs = {"type": "array", "items": "long"}
    content = _of(longs, [4, 5])
    assert list(records(content)) == [{"a": [4, 5]}]
    (sync, plain), sized = (content[-16:], b"\x08\x04\x08\x0a\x00"), b"\x0a\x03\x04\x08\x0a\x00"
    assert content.endswith(plain + sync)
    assert list(records(content.removesuffix(plain + sync) + sized + sync)) == [{"a": [4, 5]}]


def _of(kind: Any, value: Any) -> bytes:
    content = io.BytesIO()
    schema = {"type": "record", "name": "r", "fields": [{"name": "a", "type": kind}]}
    fastavro.writer(content, schema, [{"a": value}])
    return content.getvalue()
