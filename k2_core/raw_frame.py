"""The Kafka envelope of one venue frame: Avro ``RawFrame`` in Confluent's wire format, by hand for speed.

Wire format: byte 0, the schema id as 4 bytes big-endian, then the Avro record of ``schemas/raw_frame.avsc``.
The tests hold these bytes against a standard Avro reader.
"""

import struct
from typing import NamedTuple

from k2_core.errors import MalformedFrame

CONFLUENT_MAGIC = 0
CONFLUENT_HEADER_BYTES = 5
MAX_FRAME_BYTES = 1024 * 1024

CONTROL = "control"
UNREADABLE = "unreadable"

_SEVEN_BITS = 0x7F
_MORE = 0x80
_PAIR_BITS = 14
_PAIR_MASK = (1 << _PAIR_BITS) - 1
# Two continued varint bytes for every 14-bit number.
_PAIRS = tuple(bytes((n & _SEVEN_BITS | _MORE, n >> 7 | _MORE)) for n in range(1 << _PAIR_BITS))
_MAX_VARINT_BYTES = 10


class RawFrame(NamedTuple):
    """One received frame; ``payload`` is verbatim."""

    received_ns: int
    connection_seq: int
    venue: str
    channel: str
    symbol: str
    connection_id: str
    payload: bytes


def schema_id_of(value: bytes) -> int:
    """Return the schema id in a Kafka value's header.

    Raises:
        MalformedFrame: ``not_confluent_avro`` when the header is missing.
    """
    if len(value) < CONFLUENT_HEADER_BYTES or value[0] != CONFLUENT_MAGIC:
        msg = f"expected a 0 byte and a 4-byte schema id, found {value[:CONFLUENT_HEADER_BYTES]!r}"
        raise MalformedFrame("not_confluent_avro", msg)
    return int.from_bytes(value[1:CONFLUENT_HEADER_BYTES], "big")


class Encoder:
    """Encode frames of one connection; what repeats is encoded once."""

    def __init__(self, schema_id: int, venue: str, connection_id: str) -> None:
        self._header = struct.pack(">bI", CONFLUENT_MAGIC, schema_id)
        self._venue = _string(venue)
        self._connection_id = _string(connection_id)
        self._streams: dict[tuple[str, str], bytes] = {}
        self._high = self._sequence_high = -1
        self._high_bytes = self._sequence_high_bytes = b""

    def encode(self, received_ns: int, connection_seq: int, channel: str, symbol: str, payload: bytes) -> bytes:
        """Return the Kafka value of one frame."""
        stream = self._streams.get((channel, symbol))
        if stream is None:
            stream = self._venue + _string(channel) + _string(symbol) + self._connection_id
            self._streams[channel, symbol] = stream
        # Avro writes a number n >= 0 as 2n, seven bits a byte, lowest first, and every byte but the last continues. So
        # 14 bits that others follow are two bytes of _PAIRS, and the high rest of a number that rises is encoded only
        # when it changes: that of a receipt about every 0.13 s, that of the sequence every 8,192 frames.
        zigzag = received_ns << 1
        high = zigzag >> (2 * _PAIR_BITS)
        if high != self._high:
            self._high, self._high_bytes = high, _varint(high)
        place = connection_seq << 1
        if place <= _PAIR_MASK:
            sequence = _SMALL[place]
        else:
            if place >> _PAIR_BITS != self._sequence_high:
                self._sequence_high = place >> _PAIR_BITS
                self._sequence_high_bytes = _varint(self._sequence_high)
            sequence = _PAIRS[place & _PAIR_MASK] + self._sequence_high_bytes
        length = len(payload) << 1
        return b"".join(
            (
                self._header,
                _PAIRS[zigzag & _PAIR_MASK],
                _PAIRS[zigzag >> _PAIR_BITS & _PAIR_MASK],
                self._high_bytes,
                sequence,
                stream,
                _SMALL[length] if length <= _PAIR_MASK else _varint(length),
                payload,
            )
        )


def decode(value: bytes) -> RawFrame:
    """Decode one Kafka value strictly: nothing may be missing, nothing may follow.

    Raises:
        MalformedFrame: ``not_confluent_avro`` or ``malformed_envelope``.
    """
    schema_id_of(value)
    at = CONFLUENT_HEADER_BYTES
    received_ns, at = _read_long(value, at)
    connection_seq, at = _read_long(value, at)
    venue, at = _read_text(value, at)
    channel, at = _read_text(value, at)
    symbol, at = _read_text(value, at)
    connection_id, at = _read_text(value, at)
    payload, at = _read_bytes(value, at)
    if at != len(value):
        msg = f"{len(value) - at} bytes follow the record"
        raise MalformedFrame("malformed_envelope", msg)
    return checked(RawFrame(received_ns, connection_seq, venue, channel, symbol, connection_id, payload))


def checked(frame: RawFrame) -> RawFrame:
    """Return ``frame`` if its receipt is a time that K2 can work with: from 1970 to 2116.

    Raises:
        MalformedFrame: ``malformed_envelope``.
    """
    if not 0 <= frame.received_ns < 1 << 62:
        raise MalformedFrame("malformed_envelope", f"received_ns is {frame.received_ns}")
    return frame


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > _SEVEN_BITS:
        out.append(number & _SEVEN_BITS | _MORE)
        number >>= 7
    out.append(number)
    return bytes(out)


_SMALL = tuple(_varint(n) for n in range(1 << _PAIR_BITS))


def _string(text: str) -> bytes:
    raw = text.encode()
    return _varint(len(raw) << 1) + raw


def _read_long(value: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    for index in range(at, min(at + _MAX_VARINT_BYTES, len(value))):
        byte = value[index]
        number |= (byte & _SEVEN_BITS) << shift
        if byte < _MORE:
            break
        shift += 7
    else:
        raise MalformedFrame("malformed_envelope", f"a number at byte {at} does not end")
    if number >= 1 << 64:
        raise MalformedFrame("malformed_envelope", f"a number at byte {at} has more than 64 bits")
    # Zigzag: an even number is twice a positive one, an odd one stands for a negative.
    return (number >> 1) ^ -(number & 1), index + 1


def _read_bytes(value: bytes, at: int) -> tuple[bytes, int]:
    length, at = _read_long(value, at)
    if not 0 <= length <= len(value) - at:
        msg = f"a field at byte {at} claims {length} bytes, {len(value) - at} are left"
        raise MalformedFrame("malformed_envelope", msg)
    return value[at : at + length], at + length


def _read_text(value: bytes, at: int) -> tuple[str, int]:
    raw, at = _read_bytes(value, at)
    try:
        return raw.decode(), at
    except UnicodeDecodeError as error:
        raise MalformedFrame("malformed_envelope", f"a string is not UTF-8: {error}") from None
