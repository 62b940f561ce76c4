import io
import json
import struct

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_core import topics
from k2_core.errors import MalformedFrame
from k2_core.raw_frame import Encoder, RawFrame, decode, schema_id_of

SCHEMA = fastavro.parse_schema(json.loads(topics.raw_frame_schema()))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
RECEIVED = st.integers(1_000_000_000, (1 << 62) - 1)
SEQUENCE = st.integers(0, (1 << 62) - 1)


FRAMES = st.builds(RawFrame, RECEIVED, SEQUENCE, TEXT, TEXT, TEXT, TEXT, st.binary(max_size=300))


def encoded(schema_id: int, frame: RawFrame) -> bytes:
    encoder = Encoder(schema_id, frame.venue, frame.connection_id)
    return encoder.encode(frame.received_ns, frame.connection_seq, frame.channel, frame.symbol, frame.payload)


@given(st.integers(0, 2**32 - 1), FRAMES)
def test_encode_gives_the_bytes_of_a_standard_writer(schema_id: int, frame: RawFrame) -> None:
    by_the_book = io.BytesIO()
    fastavro.schemaless_writer(by_the_book, SCHEMA, frame._asdict())

    value = encoded(schema_id, frame)

    assert value == struct.pack(">bI", 0, schema_id) + by_the_book.getvalue()
    assert decode(value) == frame
    assert schema_id_of(value) == schema_id


@given(FRAMES, st.integers(0, 1_000_000_000))
def test_encode_is_read_by_a_standard_reader_when_the_clock_stands_at_1970(frame: RawFrame, received_ns: int) -> None:
    early = frame._replace(received_ns=received_ns)

    value = encoded(1, early)

    assert fastavro.schemaless_reader(io.BytesIO(value[5:]), SCHEMA, None) == early._asdict()
    assert decode(value) == early


@given(st.lists(st.tuples(RECEIVED, SEQUENCE, TEXT, TEXT, st.binary(max_size=20)), max_size=20))
def test_encode_keeps_nothing_of_the_frame_before(frames: list[tuple[int, int, str, str, bytes]]) -> None:
    encoder = Encoder(7, "binance", "c")

    for received_ns, seq, channel, symbol, payload in frames:
        expected = RawFrame(received_ns, seq, "binance", channel, symbol, "c", payload)
        assert decode(encoder.encode(received_ns, seq, channel, symbol, payload)) == expected


def test_encode_holds_a_large_payload_whole() -> None:
    payload = bytes(range(256)) * 4096

    assert decode(Encoder(1, "v", "c").encode(1, 2, "trade", "S", payload)).payload == payload


@given(st.binary(max_size=200))
def test_decode_raises_only_its_own_error_on_any_bytes(value: bytes) -> None:
    try:
        decode(value)
    except MalformedFrame as error:
        assert error.reason in {"not_confluent_avro", "malformed_envelope"}  # noqa: PT017  # most bytes raise, not all


@given(st.data())
def test_decode_refuses_an_envelope_that_is_cut_or_continued(data: st.DataObject) -> None:
    value = Encoder(1, "binance", "c").encode(1_700_000_000_000_000_000, 5, "trade", "BTCUSDT", b"payload")
    cut = data.draw(st.integers(5, len(value) - 1))

    for broken in (value[:cut], value + b"x"):
        with pytest.raises(MalformedFrame, match="malformed_envelope"):
            decode(broken)


def test_decode_refuses_a_number_of_more_than_64_bits() -> None:
    value = Encoder(1, "v", "c").encode(1_700_000_000_000_000_000, 0, "trade", "S", b"")
    sequence_at = 14

    with pytest.raises(MalformedFrame, match="more than 64 bits"):
        decode(value[:sequence_at] + b"\xff" * 9 + b"\x7f" + value[sequence_at + 1 :])


@pytest.mark.parametrize("received_ns", [-1, 1 << 62])
def test_decode_refuses_a_receipt_outside_of_1970_to_2116(received_ns: int) -> None:
    body = io.BytesIO()
    record = RawFrame(received_ns, 0, "v", "trade", "S", "c", b"")._asdict()
    fastavro.schemaless_writer(body, SCHEMA, record)

    with pytest.raises(MalformedFrame, match="malformed_envelope: received_ns is"):
        decode(b"\0\0\0\0\1" + body.getvalue())
