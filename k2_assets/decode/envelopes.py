"""Decode many RawFrame envelopes at once. Pure: Kafka values and known schemas in, columns out.

The usual envelope is decoded in numpy, all messages side by side. Whatever is unusual in any way goes one by one
through the strict decoder of :mod:`k2_core.raw_frame`, which names its fault.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import fastavro
import numpy as np
import numpy.typing as npt

from k2_assets.kafka.writer_schema import WriterSchema
from k2_core import topics
from k2_core.errors import MalformedFrame
from k2_core.raw_frame import CONFLUENT_HEADER_BYTES, CONFLUENT_MAGIC, RawFrame, checked, decode, schema_id_of

_Ints = npt.NDArray[np.int64]
_Bytes = npt.NDArray[np.uint8]

_RECEIVED_BYTES: Final = 9  # the varint of any nanosecond time from 1974 to 2116
_SEQUENCE_BYTES: Final = 5  # connection_seq up to 17 thousand million
_LENGTH_BYTES: Final = 4  # payloads up to 128 MiB
LARGEST_SCHEMA_ID: Final = (1 << 31) - 1  # a registry's ids are positive ints; the header could hold more
_SEVEN_BITS: Final = np.uint64(0x7F)
_SHORTEST: Final = CONFLUENT_HEADER_BYTES + _RECEIVED_BYTES + 1 + 4 + 1
_SHORT_STRING_BYTES: Final = 63  # whose length takes one byte
_READER_SCHEMA: Final = fastavro.parse_schema(json.loads(topics.raw_frame_schema()))


@dataclass
class Envelopes:
    """Decoded envelopes in the order of the messages; ``errors`` maps a position to why it could not be decoded.

    At such a position ``payloads`` holds the whole Kafka value and the other columns mean nothing.
    """

    schema_ids: list[int | None]
    received_ns: _Ints
    connection_seqs: _Ints
    streams: list[tuple[str, str, str, str]]
    payloads: list[bytes]
    errors: dict[int, MalformedFrame] = field(default_factory=dict)

    def first(self, count: int) -> "Envelopes":
        return Envelopes(
            self.schema_ids[:count],
            self.received_ns[:count],
            self.connection_seqs[:count],
            self.streams[:count],
            self.payloads[:count],
            {position: error for position, error in self.errors.items() if position < count},
        )


def decode_all(values: list[bytes], schemas: Mapping[int, WriterSchema]) -> Envelopes:
    """Decode Kafka values.

    Args:
        values: whole Kafka values.
        schemas: the schema of every id that :func:`~k2_assets.kafka.writer_schema.schema_id_counts` finds in them.
    """
    usual = np.array([schema_id for schema_id, schema in schemas.items() if schema.is_ours], dtype=np.int64)
    envelopes, decoded = _decode_usual(values, usual)
    for position in np.flatnonzero(~decoded).tolist():
        value = values[position]
        envelopes.schema_ids[position] = None
        envelopes.payloads[position] = value
        try:
            schema_id = schema_id_of(value)
            envelopes.schema_ids[position] = schema_id if schema_id <= LARGEST_SCHEMA_ID else None
            frame = _decode_strictly(value, schema_id, schemas[schema_id])
        except MalformedFrame as error:
            envelopes.errors[position] = error
            continue
        envelopes.received_ns[position] = frame.received_ns
        envelopes.connection_seqs[position] = frame.connection_seq
        envelopes.streams[position] = (frame.venue, frame.channel, frame.symbol, frame.connection_id)
        envelopes.payloads[position] = frame.payload
    return envelopes


def _decode_usual(values: list[bytes], usual_ids: _Ints) -> tuple[Envelopes, npt.NDArray[np.bool_]]:
    """Decode all values side by side; return the envelopes, and which of them are decoded. The others mean nothing."""
    # `at` holds one reading position for each message, and `good` whether everything before it was usual. Each step
    # reads one field of all messages and moves `at` behind it. Nothing stops at a bad message: it loses its `good`,
    # and what is read for it from then on is never used.
    count = len(values)
    lengths = np.fromiter(map(len, values), dtype=np.int64, count=count)
    starts = np.cumsum(lengths) - lengths
    ends = starts + lengths
    # Zeros follow the last message, so that reading beyond an end stays in the buffer.
    buffer = np.frombuffer(b"".join(values) + bytes(256), dtype=np.uint8)
    good = lengths >= _SHORTEST
    at = np.where(good, starts, 0)

    good &= buffer[at] == CONFLUENT_MAGIC
    ids: _Ints = np.zeros(count, dtype=np.int64)
    for index in range(1, CONFLUENT_HEADER_BYTES):
        ids = (ids << 8) | buffer[at + index]
    good &= np.isin(ids, usual_ids)
    at = at + CONFLUENT_HEADER_BYTES
    received, at, whole = _longs(buffer, at, _RECEIVED_BYTES)
    good &= whole & (received >= 0)
    sequences, at, whole = _longs(buffer, at, _SEQUENCE_BYTES)
    good &= whole
    # The four texts (venue, channel, symbol, connection_id) are one block of bytes. A connection repeats its block in
    # every frame, so the block is only measured here; a cache decodes each distinct one once.
    block_starts = at
    for _ in range(4):
        size = buffer[np.minimum(at, len(buffer) - 1)].astype(np.int64)
        good &= (size & 1 == 0) & (size <= 2 * _SHORT_STRING_BYTES)
        at = np.where(good, at + 1 + (size >> 1), 0)
    block_ends = at
    # The payload is the last field: a usual message ends exactly with it.
    payload_lengths, at, whole = _longs(buffer, at, _LENGTH_BYTES)
    good &= whole & (payload_lengths >= 0) & (at + payload_lengths == ends)

    heads = (at - starts).tolist()
    bounds = zip(values, (block_starts - starts).tolist(), (block_ends - starts).tolist(), good.tolist(), strict=True)
    cache = _StreamCache()
    streams = [cache[value[a:b]] if ok else _NO_STREAM for value, a, b, ok in bounds]
    decoded = good & np.array([stream is not None for stream in streams], dtype=bool)
    payloads = [value[head:] for value, head in zip(values, heads, strict=True)]
    return Envelopes(ids.tolist(), received, sequences, [s or _NO_STREAM for s in streams], payloads), decoded


_NO_STREAM: Final = ("", "", "", "")


class _StreamCache(dict[bytes, tuple[str, str, str, str] | None]):
    """The few distinct (venue, channel, symbol, connection_id) blocks, each decoded once; None if not UTF-8."""

    def __missing__(self, block: bytes) -> tuple[str, str, str, str] | None:
        texts, at = [], 0
        while at < len(block):
            size = block[at] >> 1
            texts.append(block[at + 1 : at + 1 + size])
            at += 1 + size
        try:
            venue, channel, symbol, connection_id = (text.decode() for text in texts)
            decoded = (venue, channel, symbol, connection_id)
        except UnicodeDecodeError:
            decoded = None
        self[block] = decoded
        return decoded


def _longs(buffer: _Bytes, at: _Ints, most_bytes: int) -> tuple[_Ints, _Ints, npt.NDArray[np.bool_]]:
    """Read one Avro long at every position: values, positions behind them, and whether they end in time."""
    # An Avro long is a zigzag varint: seven bits a byte, the lowest first, and a high bit where another byte follows.
    # An even number 2n means n, an odd one 2n + 1 means -n - 1, which is n with all bits inverted.
    number = np.zeros(len(at), dtype=np.uint64)
    size = np.zeros(len(at), dtype=np.int64)
    going = np.ones(len(at), dtype=bool)
    for index in range(most_bytes):
        byte = buffer[np.minimum(at + index, len(buffer) - 1)].astype(np.uint64)
        number |= np.where(going, (byte & _SEVEN_BITS) << np.uint64(7 * index), np.uint64(0))
        size += going
        going = going & (byte > _SEVEN_BITS)
        if not going.any():
            break
    halves = (number >> np.uint64(1)).astype(np.int64)
    signs = (number & np.uint64(1)).astype(np.int64)
    return halves ^ -signs, at + size, ~going


def _decode_strictly(value: bytes, schema_id: int, schema: WriterSchema) -> RawFrame:
    """Decode one value by the schema that it was written with, our own or another version.

    Raises:
        MalformedFrame: ``unknown_schema`` or ``malformed_envelope``.
    """
    if schema.text is None:
        raise MalformedFrame("unknown_schema", f"the registry does not know schema id {schema_id}")
    if schema.is_ours:
        return decode(value)
    record = record_of(value, schema, _READER_SCHEMA)
    try:
        return checked(RawFrame(**record))
    except TypeError as error:  # the record has other fields than a frame
        raise MalformedFrame("malformed_envelope", f"TypeError: {error}") from None


def record_of(value: bytes, schema: WriterSchema, reader_schema: Any) -> Any:
    """Decode a Kafka value strictly, from the schema that it was written with into ``reader_schema``.

    Raises:
        MalformedFrame: ``malformed_envelope``.
    """
    end = len(value) - CONFLUENT_HEADER_BYTES
    # fastavro accepts a text that is cut off and takes what is left. One zero more makes that visible: the reader then
    # ends behind `end`.
    body = io.BytesIO(value[CONFLUENT_HEADER_BYTES:] + bytes(1))
    try:
        record = fastavro.schemaless_reader(body, schema.parsed, reader_schema)
    except Exception as error:  # noqa: BLE001  # fastavro raises any of a dozen types on bytes it cannot read
        raise MalformedFrame("malformed_envelope", f"{type(error).__name__}: {error}") from None
    if body.tell() != end:
        raise MalformedFrame("malformed_envelope", f"the record ends at byte {body.tell()}, the value at {end}")
    return record
