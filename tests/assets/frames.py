"""Builders of venue frames, envelopes and Kafka messages, and the way from them to bronze and silver."""

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import fastavro
import pyarrow as pa

from k2_assets.decode.bronze_rows import Frames, bronze_rows, decode_messages
from k2_assets.decode.frames_to_rows import Refined, joined, refine
from k2_assets.kafka.topic_reader import Messages, Topic
from k2_assets.kafka.writer_schema import WriterSchema
from k2_assets.lake.commits import arrow_schema
from k2_core import topics
from k2_core.lake import tables
from k2_core.raw_frame import Encoder
from k2_core.venues import binance
from k2_core.venues.venue_protocol import Venue

TOPIC = Topic("market.crypto.trades.binance.raw", "topic-uuid", (0, 1, 2, 3))
OURS, EVOLVED, UNKNOWN = 1, 2, 9
NOON_NS = 1_723_204_800_000_000_000  # 2024-08-09T12:00:00Z
NOON_MS = NOON_NS // 1_000_000

SILVER = arrow_schema(tables.silver_trades("binance"))
SILVER_QUOTES = arrow_schema(tables.silver("binance", "quotes"))
REJECTED = arrow_schema(tables.silver_rejected("binance"))
BRONZE = arrow_schema(tables.bronze_trades("binance"))


def an_evolved_schema() -> str:
    schema = json.loads(topics.raw_frame_schema())
    schema["fields"].append({"name": "session", "type": "string", "default": ""})
    return json.dumps(schema)


SCHEMAS: Mapping[int, WriterSchema] = {
    OURS: WriterSchema(topics.raw_frame_schema()),
    EVOLVED: WriterSchema(an_evolved_schema()),
    UNKNOWN: WriterSchema(None),
}
_EVOLVED_WRITER = fastavro.parse_schema(json.loads(an_evolved_schema()))


def a_frame(trade_id: int = 1, **fields: Any) -> bytes:
    """A trade of 61837.63 × 0.02 BTC at noon; ``fields`` by Binance's letters."""
    data = {
        "e": "trade",
        "E": NOON_MS + 1,
        "s": "BTCUSDT",
        "t": trade_id,
        "p": "61837.63000000",
        "q": "0.02000000",
        "T": NOON_MS,
        "m": True,
    }
    return json.dumps({"stream": "btcusdt@trade", "data": data | fields}).encode()


def an_envelope(payload: bytes, seq: int = 0, received_ns: int = NOON_NS, schema_id: int = OURS) -> bytes:
    encoder = Encoder(schema_id, "binance", "00000000-0000-4000-8000-000000000000")
    return encoder.encode(received_ns, seq, "trade", "BTCUSDT", payload)


def an_evolved_envelope(payload: bytes, received_ns: int = NOON_NS) -> bytes:
    body = io.BytesIO()
    record = {
        "received_ns": received_ns,
        "connection_seq": 3,
        "venue": "binance",
        "channel": "trade",
        "symbol": "BTCUSDT",
        "connection_id": "c",
        "payload": payload,
        "session": "evening",
    }
    fastavro.schemaless_writer(body, _EVOLVED_WRITER, record)
    return b"\0" + EVOLVED.to_bytes(4, "big") + body.getvalue()


def messages(*values: bytes, partition: int = 0, first_offset: int = 0) -> Messages:
    count = len(values)
    return Messages(
        [partition] * count,
        list(range(first_offset, first_offset + count)),
        [NOON_MS + 5] * count,
        [b"BTCUSDT"] * count,
        list(values),
    )


def refined(*values: bytes, schemas: Mapping[int, WriterSchema] = SCHEMAS) -> tuple[pa.Table, Refined]:
    """Return the bronze rows of Kafka values, and what became of them."""
    read = messages(*values)
    frames, envelopes = decode_messages(read, TOPIC, schemas)
    made = refine_all(frames, binance)
    times = (made.first_event_us, made.last_event_us)
    return bronze_rows(read, frames, envelopes, times, BRONZE), made


def refine_all(frames: Frames, venue: Venue) -> Refined:
    """Return what becomes of frames with trades, as many at once as :func:`refine` reads."""
    parts = [refine(frames, venue, SILVER, REJECTED)]
    while (read := sum(part.frames for part in parts)) < len(frames):
        parts.append(refine(frames.part(read, len(frames)), venue, SILVER, REJECTED))
    return joined(parts)


def refined_frames(*payloads: bytes) -> Refined:
    return refined(*(an_envelope(payload, seq) for seq, payload in enumerate(payloads)))[1]


def a_quote_frame(update_id: int = 1, **fields: Any) -> bytes:
    """A best bid of 61837.63 and a best offer of 61837.64; ``fields`` by Binance's letters."""
    data = {
        "u": update_id,
        "s": "BTCUSDT",
        "b": "61837.63000000",
        "B": "3.78826000",
        "a": "61837.64000000",
        "A": "1.54698000",
    }
    return json.dumps({"stream": "btcusdt@bookTicker", "data": data | fields}).encode()


def refined_quotes(*payloads: bytes, venue: Venue = binance, received_ns: int = NOON_NS) -> Refined:
    values = [an_envelope(payload, seq, received_ns + seq) for seq, payload in enumerate(payloads)]
    frames, _ = decode_messages(messages(*values), replace(TOPIC, name=TOPIC.name.replace("trades", "quotes")), SCHEMAS)
    return refine(frames, venue, SILVER_QUOTES, REJECTED, "quotes")
