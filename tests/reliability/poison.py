"""A catalogue of poison by the reason that it must be rejected for, and of frames that only look like it."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fastavro

from k2_core import topics
from k2_core.registry import Registry
from k2_core.trades import FIRST_DAY_US, MAX_FUTURE_NS
from tests.assets.frames import NOON_MS, NOON_NS, a_frame, an_envelope, an_evolved_schema

LATEST_MS = NOON_MS + MAX_FUTURE_NS // 1_000_000
MIB = 1024 * 1024
NUMBERS = (
    "",
    " 1",
    "1 ",
    "1,5",
    "0x10",
    "1_000",
    "1e",
    "１２",
    "٣",
    "−1",
    "NaN",
    "sNaN",
    "Infinity",
    "-inf",
    "1\u0000",
)
NOT_POSITIVE = ("0", "0.00000000", "-1", "-0", "-0.0", "0e5", "-1e400", "0e99999999999999999999", "-" + "9" * 5000)
TOO_LONG = (
    *("100000000000000000000", "1e400", "1e-400", "1e99999999999999999999", "9" * 30, "1." + "1" * 13),
    *("0." + "0" * 30 + "1", "9" * 1001, "0." + "3" * (MIB // 2)),
)


@dataclass(frozen=True)
class Ids:
    """Schema ids: of our envelope, of a later version of it, and of subjects that are something else."""

    ours: int
    evolved: int
    others: tuple[int, ...]


@dataclass(frozen=True)
class Sent:
    """One Kafka value, what it carries, and the reason for which it must be rejected; None: it is a good trade."""

    value: bytes | None
    payload: bytes
    reason: str | None


def register(registry: Registry, topic: str) -> Ids:
    """Register our envelope, its later version, and other subjects that a producer may have mixed up with it."""
    subject = topics.subject(topic)
    shorter = json.loads(topics.raw_frame_schema())
    shorter["fields"] = shorter["fields"][:-1]
    others = ('"string"', topics.feed_event_schema(), json.dumps(shorter), '{"type":"array","items":"long"}')
    return Ids(
        registry.register(subject, topics.raw_frame_schema()),
        registry.register(f"{subject}-evolved", an_evolved_schema()),
        tuple(registry.register(f"{subject}-other{place}", schema) for place, schema in enumerate(others)),
    )


def spelled(name: str, value: str | bytes, **fields: Any) -> bytes:
    """A frame in which one field is written just so."""
    raw = value if isinstance(value, bytes) else value.encode()
    return a_frame(**(fields | {name: "@@"})).replace(b'"@@"', raw)


def without(name: str) -> bytes:
    frame = json.loads(a_frame())
    del frame["data"][name]
    return json.dumps(frame).encode()


def all_poison(ids: Ids) -> Iterator[Sent]:
    """Yield every kind of poison, several of each reason."""
    for reason, value in _bad_values(ids):
        yield Sent(value, value or b"", reason)
    for reason, payload in _bad_frames():
        yield Sent(an_envelope(payload, schema_id=ids.ours), payload, reason)


def _bad_values(ids: Ids) -> Iterator[tuple[str, bytes | None]]:
    good = an_envelope(a_frame(), schema_id=ids.ours)
    for value in (None, b"", b"\0", b"\0\0\0\1", b"\1" + good[1:], a_frame(), b"\xff" * 40, b"\x1f\x8b" + good):
        yield "not_confluent_avro", value
    for unknown in (0, 123_456, (1 << 31) - 1, 1 << 31, (1 << 32) - 1):
        yield "unknown_schema", b"\0" + unknown.to_bytes(4, "big") + good[5:]
    for value in (*_broken_envelopes(good, ids), *(_header(other) + good[5:] for other in ids.others)):
        yield "malformed_envelope", value


def _header(schema_id: int) -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big")


def _broken_envelopes(good: bytes, ids: Ids) -> Iterator[bytes]:
    yield from (good[:end] for end in (5, 6, 13, 14, 15, 20, 40, len(good) // 2, len(good) - 1))
    yield from (good + rest for rest in (b"\0", b" ", good, b"x" * 1000))
    yield _header(ids.ours) + b"\xff" * 30
    yield _header(ids.ours) + b"\x00" * 3
    yield from (_header(ids.ours) + _record(received_ns=ns) for ns in (-1, 1 << 62, -(1 << 63)))
    head, tail = good[:5], _record(symbol="BTCUSDT")
    yield head + tail.replace(b"\x0eBTCUSDT", b"\x0eBTC\xff\xfeDT")
    yield head + tail.replace(b"\x0eBTCUSDT", b"\x0dBTCUSDT")  # a negative length
    yield head + tail.replace(b"\x0eBTCUSDT", b"\xfe\xff\xff\xff\x0fBTCUSDT")  # of two thousand million bytes
    evolved = _header(ids.evolved) + _record(an_evolved_schema(), session="evening")
    yield from (evolved[:-1], evolved + b"x", _header(ids.ours) + evolved[5:], _header(ids.evolved) + good[5:])


def _record(schema: str | None = None, **fields: Any) -> bytes:
    body = io.BytesIO()
    usual = {"received_ns": NOON_NS, "connection_seq": 1, "venue": "binance", "channel": "trade", "symbol": "BTCUSDT"}
    record = usual | {"connection_id": "c", "payload": a_frame()} | fields
    fastavro.schemaless_writer(body, fastavro.parse_schema(json.loads(schema or topics.raw_frame_schema())), record)
    return body.getvalue()


def _bad_frames() -> Iterator[tuple[str, bytes]]:
    for payload in _no_json():
        yield "malformed_json", payload
    for payload in _unknown_events():
        yield "unknown_event", payload
    for payload in _missing_fields():
        yield "missing_field", payload
    for payload in _wrong_types():
        yield "wrong_type", payload
    yield from _bad_numbers()
    for late in (
        LATEST_MS + 1,
        (LATEST_MS * 1000) + 1,
        9_999_999_999_999,
        253_402_300_799_999,
        1 << 61,
        1 << 62,
        10**30,
    ):
        yield "timestamp_in_future", a_frame(T=late)
    for symbol in (
        "BTCXYZ",
        "",
        "USDT",
        "btcusdt",
        "BTC-USDT",
        "BTC/USDT",
        " BTCUSDT",
        "BTCUSDT ",
        "BTC\0USDT",
        "₿USDT",
    ):
        yield "unknown_symbol", a_frame(s=symbol)


def _no_json() -> Iterator[bytes]:
    good = a_frame()
    yield from (good[:end] for end in (1, 10, len(good) // 2, len(good) - 2, len(good) - 1))
    yield from (b"", b" \n", b"\0", b"nonsense", b"<html>502 Bad Gateway</html>", b"\x1f\x8b\x08\0\0", b"'a'", b"{a:1}")
    yield from (b"\xef\xbb\xbf" + good, good.decode().encode("utf-16"), good + b"]", good + good, good + b"\0")
    yield from (
        spelled("p", number) for number in ("NaN", "Infinity", "-Infinity", "007", "+7", "-", ".5", "1.", "0x1")
    )
    yield from (spelled("s", text) for text in (b'"BTC\xff\xfeUSDT"', b'"\\ud800USDT"', b'"BTC\nUSDT"', b'"\\x41"'))
    yield from (spelled("M", text) for text in (b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b"True", b"/* */ true"))
    yield from (b"[" * 100_000, b'{"data":' * 50_000, b"[" * 600 + b"]" * 600, b"[" * (MIB - 100))
    yield spelled("M", b"[" * 300 + b"]" * 300)
    yield b'{"stream":"' + b'\\"' * (MIB // 4)


def _unknown_events() -> Iterator[bytes]:
    yield from (a_frame(e=kind) for kind in ("aggTrade", "Trade", "trade ", "", "bookTicker", "x" * 10_000, "ｔrade"))
    yield from (b"{}", b'{"foo":1}', b'{"e":"trade"}', b'{"e":null}', b'{"stream":"btcusdt@kline_1m"}')
    yield json.dumps(json.loads(a_frame())["data"]).encode()  # an event without its stream
    yield b'{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}'


def _missing_fields() -> Iterator[bytes]:
    for name in ("e", "s", "t", "p", "q", "T", "m"):
        yield without(name)
        yield a_frame(**{name: None})
    yield from (b'{"stream":"btcusdt@trade"}', b'{"stream":"btcusdt@trade","data":null}')
    yield b'{"stream":"btcusdt@trade","data":{}}'


def _wrong_types() -> Iterator[bytes]:
    yield from (b"[]", b"null", b"true", b"5", b'"trade"', b"[" + a_frame() + b"]", b"[[1,[2]]]")
    yield from (b'{"stream":"btcusdt@trade","data":' + value + b"}" for value in (b"[]", b'"x"', b"5", b"true"))
    for name in ("s", "t", "p", "q", "T", "m", "e"):
        yield from (a_frame(**{name: value}) for value in ([1], {"a": 1}, 1.5))
    yield from (a_frame(**{name: True}) for name in ("s", "t", "p", "q", "T"))
    yield from (a_frame(m=1), a_frame(m="true"), a_frame(t="7"), a_frame(t=""), a_frame(T=str(NOON_MS)), a_frame(E="x"))
    yield from (a_frame(t=-1), a_frame(T=-1), a_frame(T=-(1 << 63)), a_frame(E=-1), a_frame(p=61837.63))
    for number in ("7.0", "7e0", "-0.0", "1e400", "9007199254740993.0", "-" + "9" * 6000):
        yield spelled("t", number)
    yield from (spelled("p", number) for number in ("1e400", "9" * 6000, "[" * 100 + "]" * 100))
    yield from (a_frame(p=text) for text in NUMBERS)
    yield from (a_frame(q=text) for text in NUMBERS)


def _bad_numbers() -> Iterator[tuple[str, bytes]]:
    for field, name in (("p", "price"), ("q", "quantity")):
        yield from ((f"{name}_not_positive", a_frame(**{field: text})) for text in NOT_POSITIVE)
        yield from (("number_out_of_range", a_frame(**{field: text})) for text in TOO_LONG)
    yield "price_not_positive", a_frame().replace(b'"p": "', b'"p": "5", "p": "-')  # the last of two keys holds
    yield "number_out_of_range", a_frame(q="0.123456789")
    yield "number_out_of_range", a_frame(p="10000000000000000")
    for number in (1 << 63, 1 << 64, 10**30, 10**4000):
        yield "number_out_of_range", a_frame(t=number) if number < 10**40 else spelled("t", "1" + "0" * 4000)
    yield "number_out_of_range", spelled("t", "9" * 6000)
    for early in (0, 1, NOON_MS // 1000, FIRST_DAY_US // 1000 - 1, FIRST_DAY_US - 1):
        yield "number_out_of_range", a_frame(T=early)


def odd_but_good(first_id: int, ids: Ids) -> Iterator[Sent]:
    """Yield trades that look like poison and are none, with ids from ``first_id``."""
    payloads = _odd_frames(first_id)
    for payload in payloads:
        yield Sent(an_envelope(payload, schema_id=ids.ours), payload, None)
    payload = a_frame(first_id + 900)
    evolved = _record(an_evolved_schema(), session="evening", payload=payload)
    yield Sent(_header(ids.evolved) + evolved, payload, None)
    payload = a_frame(first_id + 901)
    yield Sent(_header(ids.ours) + _record(symbol="S" * 5000, payload=payload), payload, None)


def _odd_frames(first_id: int) -> list[bytes]:
    number = iter(range(first_id, first_id + 900))
    prices = ("1E2", ".5", "5.", "+1", "0.1000000000000000000000", "0" * 40 + "7", "9999999999999999.999999999999")
    return [
        *(a_frame(next(number), p=text) for text in prices),
        *(a_frame(next(number), q=text) for text in ("0.00000001", "99999999999999999999.99999999", "1e-8")),
        *(a_frame(next(number), s=symbol) for symbol in ("币安人生USDT", "1INCHBTC", "1000SATSFDUSD")),
        *(a_frame(next(number), T=late) for late in (LATEST_MS, LATEST_MS * 1000, FIRST_DAY_US // 1000, FIRST_DAY_US)),
        b" \n\t" + a_frame(next(number)) + b"\r\n ",
        spelled("s", r'"\u0042TCUSDT"', t=next(number)),
        spelled("M", b"[" * 150 + b"]" * 150, t=next(number)),
        spelled("M", b'"' + b"[{" * (MIB // 4) + b'"', t=next(number)),
        spelled("M", b"1e999", t=next(number)),
        a_frame(next(number), E=None, M=None),
        a_frame(next(number)).replace(b'"p": "', b'"p": "-5", "p": "'),
        a_frame(next(number)).replace(b'"stream": "btcusdt@trade", ', b""),
    ]
