import io
import json

import fastavro
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from k2_assets.decode.envelopes import decode_all
from k2_assets.kafka.writer_schema import WriterSchema, schema_id_counts
from k2_core import topics
from k2_core.errors import MalformedFrame
from k2_core.raw_frame import RawFrame, decode
from tests.assets.frames import (
    EVOLVED,
    NOON_NS,
    OURS,
    SCHEMAS,
    UNKNOWN,
    an_envelope,
    an_evolved_envelope,
    an_evolved_schema,
)

READER = fastavro.parse_schema(json.loads(topics.raw_frame_schema()))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=70)
FRAMES = st.builds(
    RawFrame,
    st.integers(0, (1 << 62) - 1) | st.integers(NOON_NS, NOON_NS + 1000),
    st.integers(0, 1000) | st.integers(-(1 << 63), (1 << 63) - 1),
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    st.binary(max_size=200),
)


def by_the_book(frame: RawFrame) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, READER, frame._asdict())
    return b"\0\0\0\0\1" + body.getvalue()


VALID = FRAMES.map(by_the_book)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    value = bytearray(draw(VALID))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(value) - 1))
        value[at] = draw(st.integers(0, 255))
    return bytes(value)


VALUES = st.one_of(
    VALID,
    mutated(),
    st.builds(lambda value, keep: value[: int(len(value) * keep)], VALID, st.floats(0, 1)),
    st.builds(bytes.__add__, VALID, st.binary(min_size=1, max_size=20)),
    st.binary(max_size=300),
    st.builds(an_evolved_envelope, st.binary(max_size=50)),
    st.builds(lambda value: value[:1] + UNKNOWN.to_bytes(4, "big") + value[5:], VALID),
)


def known(values: list[bytes]) -> dict[int, WriterSchema]:
    return {schema_id: SCHEMAS.get(schema_id, WriterSchema(None)) for schema_id in schema_id_counts(values)}


def alone(value: bytes) -> RawFrame | str:
    """What one value is, by the strict decoder and the standard reader; the reason if it is refused."""
    schema_id = int.from_bytes(value[1:5], "big")
    if len(value) < 5 or value[0] != 0:
        return "not_confluent_avro"
    if schema_id == OURS:
        try:
            return decode(value)
        except MalformedFrame as error:
            return error.reason
    if schema_id != EVOLVED:
        return "unknown_schema"
    body = io.BytesIO(value[5:])
    try:
        frame = RawFrame(**fastavro.schemaless_reader(body, json.loads(SCHEMAS[EVOLVED].text or ""), READER))
    except Exception:  # noqa: BLE001  # whatever fastavro makes of bytes it cannot read
        return "malformed_envelope"
    return frame if not body.read() and 0 <= frame.received_ns < 1 << 62 else "malformed_envelope"


@given(st.lists(VALUES, max_size=12))
@settings(max_examples=200)
@example([])
@example([b""])
@example([b"\0"] * 3)
@example([by_the_book(RawFrame(0, 0, "", "", "", "", b""))] * 2)
def test_many_values_decode_as_each_one_alone(values: list[bytes]) -> None:
    found = decode_all(values, known(values))

    for position, value in enumerate(values):
        expected = alone(value)
        if isinstance(expected, str):
            assert found.errors[position].reason == expected
            assert found.payloads[position] == value
            continue
        assert position not in found.errors
        decoded = RawFrame(
            int(found.received_ns[position]),
            int(found.connection_seqs[position]),
            *found.streams[position],
            found.payloads[position],
        )
        assert decoded == expected
        assert found.schema_ids[position] == int.from_bytes(value[1:5], "big")


@given(VALID)
def test_the_strict_decoder_reads_what_a_standard_reader_reads(value: bytes) -> None:
    assert decode(value)._asdict() == fastavro.schemaless_reader(io.BytesIO(value[5:]), READER, None)


@pytest.mark.parametrize("borrowed", [0, 1, 6, 40, 63])
def test_a_value_cannot_borrow_bytes_from_its_neighbour(borrowed: int) -> None:
    up_to_the_venue = an_envelope(b"")[:15]
    # Its last string claims bytes of the neighbour, where a negative length then points back to this value's end.
    borrowing = up_to_the_venue + b"\x0ebinance\x0atrade\x0eBTCUSDT" + bytes([2 * borrowed])
    lending = b"x" * borrowed + bytes([2 * borrowed + 1]) + b"x" * 40

    found = decode_all([borrowing, lending, an_envelope(b"good")], SCHEMAS)

    assert found.errors[0].reason == "malformed_envelope"
    assert found.payloads == [borrowing, lending, b"good"]


@pytest.mark.parametrize("schema_id", [0, UNKNOWN, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])
def test_an_id_that_the_registry_does_not_know_is_said(schema_id: int) -> None:
    value = b"\0" + schema_id.to_bytes(4, "big") + b"anything"

    found = decode_all([value], {schema_id: WriterSchema(None)})

    assert found.errors[0].reason == "unknown_schema"
    assert str(schema_id) in found.errors[0].detail
    assert found.schema_ids == [schema_id if schema_id < 1 << 31 else None]


@pytest.mark.parametrize("schema", ['{"type":"record","name":"Other","fields":[]}', '"string"', "{", "[]"])
def test_a_schema_of_something_else_is_a_malformed_envelope(schema: str) -> None:
    found = decode_all([b"\0\0\0\0\7abc"], {7: WriterSchema(schema)})

    assert found.errors[0].reason == "malformed_envelope"


def test_an_evolved_envelope_is_read_by_its_own_schema() -> None:
    found = decode_all([an_envelope(b"one"), an_evolved_envelope(b"two"), an_envelope(b"three", 5)], SCHEMAS)

    assert found.payloads == [b"one", b"two", b"three"]
    assert found.schema_ids == [OURS, EVOLVED, OURS]
    assert found.streams[1] == ("binance", "trade", "BTCUSDT", "c")
    np.testing.assert_array_equal(found.received_ns, NOON_NS)


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("symbol", {"type": "string", "logicalType": "uuid"}),
        ("connection_seq", {"type": "long", "logicalType": "time-micros"}),
        ("received_ns", {"type": "long", "logicalType": "timestamp-micros"}),
        ("payload", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}),
    ],
)
def test_a_logical_type_of_the_writer_changes_no_value(field: str, kind: object) -> None:
    schema = json.loads(an_evolved_schema())
    for each in schema["fields"]:
        if each["name"] == field:
            each["type"] = kind
    schemas = {**SCHEMAS, EVOLVED: WriterSchema(json.dumps(schema))}

    found = decode_all([an_evolved_envelope(b"1"), an_envelope(b"good")], schemas)

    assert not found.errors
    assert found.payloads == [b"1", b"good"]
    assert (found.received_ns[0], found.connection_seqs[0]) == (NOON_NS, 3)
    assert found.streams[0] == ("binance", "trade", "BTCUSDT", "c")


def test_an_evolved_envelope_that_is_cut_off_anywhere_is_refused() -> None:
    whole = an_evolved_envelope(b"a payload")
    values = [whole[:end] for end in range(5, len(whole))] + [whole + b"\0", whole]

    found = decode_all(values, SCHEMAS)

    assert {position: error.reason for position, error in found.errors.items()} == dict.fromkeys(
        range(len(values) - 1), "malformed_envelope"
    )


@pytest.mark.parametrize("received_ns", [-1, -(1 << 63), 1 << 62, (1 << 63) - 1])
def test_an_evolved_envelope_with_an_impossible_receipt_is_refused(received_ns: int) -> None:
    found = decode_all([an_evolved_envelope(b"x", received_ns), an_envelope(b"good")], SCHEMAS)

    assert found.errors[0].reason == "malformed_envelope"
    assert found.payloads[1] == b"good"
