"""Decode an Avro container file, as Iceberg's manifests are. Knows nothing of Iceberg, and does not import it whole.

pyiceberg's compiled decoder is loaded without the rest of pyiceberg, in 3 ms. fastavro needs twice its time for a
manifest, whose maps with numbers for keys it reads as lists of records.
"""

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

from pyiceberg.avro.codecs import KNOWN_CODECS
from pyiceberg.avro.decoder_fast import CythonBinaryDecoder as Decoder

_MAGIC: Final = b"Obj\x01"
_SYNC_BYTES: Final = 16
_SCHEMAS_KEPT: Final = 256

_Read = Callable[[Decoder], Any]


def records(content: bytes) -> Iterator[dict[str, Any]]:
    """Yield the records of a file. Logical types stay what they are stored as: a date is a number of days.

    Raises:
        ValueError: it is no Avro file, is damaged, or has a schema or a codec that is not known here.
        EOFError: it ends too early.
    """
    if not content.startswith(_MAGIC):
        raise ValueError("not an Avro file")
    decoder = Decoder(content)
    decoder.skip(len(_MAGIC))
    header = dict(_blocks(decoder, lambda each: (_counted(each, content), _counted(each, content))))
    sync = _bytes(decoder, content, _SYNC_BYTES)
    codec = header.get(b"avro.codec", b"null").decode()
    if codec not in KNOWN_CODECS:
        raise ValueError(f"an Avro file compressed with {codec}")
    unpack = KNOWN_CODECS[codec]
    read = _reader_of(header[b"avro.schema"])
    while decoder.tell() < len(content):
        count, block = decoder.read_int(), _counted(decoder, content)
        if _bytes(decoder, content, _SYNC_BYTES) != sync:
            raise ValueError("a damaged Avro file: a block does not end where it should")
        of_block = Decoder(unpack.decompress(block) if unpack else block)
        for _ in range(count):
            yield read(of_block)


def _counted(decoder: Decoder, content: bytes) -> bytes:
    return _bytes(decoder, content, decoder.read_int())


def _bytes(decoder: Decoder, content: bytes, count: int) -> bytes:
    """Return the next bytes of a file. The decoder itself would read on behind the end of one that was cut short."""
    start = decoder.tell()
    if not 0 <= count <= len(content) - start:
        raise EOFError("an Avro file ends too early")
    decoder.skip(count)
    return content[start : start + count]


@lru_cache(_SCHEMAS_KEPT)
def _reader_of(schema: bytes) -> _Read:
    return _reader(json.loads(schema))


_PRIMITIVES: Final[dict[str, _Read]] = {
    "null": lambda _: None,
    "boolean": Decoder.read_boolean,
    "int": Decoder.read_int,
    "long": Decoder.read_int,
    "bytes": Decoder.read_bytes,
    "string": Decoder.read_utf8,
}


def _reader(schema: Any) -> _Read:
    """Return what reads a value of a schema. Floats are left out: the decoder reads a double as one."""
    if isinstance(schema, list):  # a union
        choices = [_reader(each) for each in schema]
        return lambda decoder: choices[decoder.read_int()](decoder)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "array":
        return _array_reader(schema["items"])
    if kind == "record":
        fields = [(field["name"], _reader(field["type"])) for field in schema["fields"]]
        return lambda decoder: {name: read(decoder) for name, read in fields}
    if kind == "fixed":
        size = schema["size"]
        return lambda decoder: decoder.read(size)
    if kind not in _PRIMITIVES:
        raise ValueError(f"an Avro file with values of type {kind}")
    return _PRIMITIVES[kind]


def _array_reader(items: Any) -> _Read:
    if not isinstance(items, dict) or [field["name"] for field in items.get("fields", ())] != ["key", "value"]:
        item = _reader(items)
        return lambda decoder: list(_blocks(decoder, item))
    # Avro's maps have texts for keys, so Iceberg writes one with numbers as an array of (key, value). Bounds of
    # columns are such maps, {id: bytes}, which the decoder reads in one call.
    key, value = (_reader(field["type"]) for field in items["fields"])
    if (key, value) != (Decoder.read_int, Decoder.read_bytes):
        return lambda decoder: dict(_blocks(decoder, lambda each: (key(each), value(each))))

    def read_bounds(decoder: Decoder) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        while count := _block_length(decoder):
            decoder.read_int_bytes_dict(count, found)
        return found

    return read_bounds


def _blocks(decoder: Decoder, item: _Read) -> Iterator[Any]:
    while count := _block_length(decoder):
        for _ in range(count):
            yield item(decoder)


def _block_length(decoder: Decoder) -> int:
    count = decoder.read_int()
    if count < 0:  # then the block's size in bytes follows
        decoder.read_int()
    return abs(count)
