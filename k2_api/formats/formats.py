"""The five forms of rows: one path from Arrow batches to bytes, a batch at a time. Pure."""

import io
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from k2_api.formats.text import json_rows, plain_text, safe_cells


class Format(StrEnum):
    """How the rows of an answer are written."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


MEDIA_TYPES: Final = {
    Format.JSON: "application/json",
    Format.NDJSON: "application/x-ndjson",
    Format.CSV: "text/csv",
    Format.PARQUET: "application/vnd.apache.parquet",
    Format.ARROW: "application/vnd.apache.arrow.stream",
}


def written(form: Format, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[bytes]:
    """Yield the bytes of rows; of JSON the elements of the array, without its brackets.

    An answer without rows still has its header, or its schema.
    """
    return _WRITERS[form](schema, batches)


def _json(_: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[bytes]:
    is_first = True
    for batch in filter(len, batches):
        yield b"".join([b"" if is_first else b",", json_rows(batch, ",")[:-1]])
        is_first = False


def _ndjson(_: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[bytes]:
    for batch in filter(len, batches):
        yield bytes(json_rows(batch, "\n"))


def _csv(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[bytes]:
    yield (",".join(schema.names) + "\n").encode()
    for batch in batches:
        columns = [
            safe_cells(plain_text(column)) if pa.types.is_string(column.type) else plain_text(column)
            for column in batch.columns
        ]
        sink = io.BytesIO()
        options = pc_csv.WriteOptions(include_header=False)
        pc_csv.write_csv(pa.RecordBatch.from_arrays(columns, names=schema.names), sink, options)
        yield sink.getvalue()


def _parquet(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[bytes]:
    sink = _Sink()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for batch in filter(len, batches):
            writer.write_batch(batch)
            yield sink.taken()
    yield sink.taken()


def _arrow(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[bytes]:
    sink = _Sink()
    with pa.ipc.new_stream(sink, schema) as writer:
        yield sink.taken()
        for batch in filter(len, batches):
            writer.write_batch(batch)
            yield sink.taken()
    yield sink.taken()


class _Sink(io.RawIOBase):
    """A file that is read as it is written, and so never large."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self._waiting.append(bytes(data))  # type: ignore[call-overload]  # a buffer, which Arrow uses again
        return len(self._waiting[-1])

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        written_since, self._waiting = b"".join(self._waiting), []
        return written_since


_WRITERS: Final[dict[Format, Callable[[pa.Schema, Iterator[pa.RecordBatch]], Iterator[bytes]]]] = {
    Format.JSON: _json,
    Format.NDJSON: _ndjson,
    Format.CSV: _csv,
    Format.PARQUET: _parquet,
    Format.ARROW: _arrow,
}
