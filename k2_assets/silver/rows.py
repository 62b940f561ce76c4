"""Rows of silver and rejected as Arrow tables, column by column. Pure; what may stand in them was judged before."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from k2_assets.bronze.transforms import TIMESTAMP, Frames
from k2_core.instruments import Instrument
from k2_core.trades import PRICE_PRECISION, PRICE_SCALE, QUANTITY_PRECISION, QUANTITY_SCALE, VenueTrade, message_ids

_LONGEST_ERROR: Final = 500  # characters: it is for a person, and the bytes stand beside it


@dataclass(frozen=True)
class Trades:
    """Trades that passed every rule, in parallel lists; numbers as plain text."""

    trades: list[VenueTrade]
    frames: list[int]
    indexes: list[int]
    prices: list[str]
    quantities: list[str]


@dataclass
class Rejects:
    """What was rejected, in parallel lists; ``frames`` are positions."""

    frames: list[int] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, frame: int, index: int, reason: str, error: str) -> None:
        """Take in one trade, or a whole frame as its index 0; the error is cut to what a person reads."""
        self.frames.append(frame)
        self.indexes.append(index)
        self.reasons.append(reason)
        self.errors.append(_readable(error))


def _readable(error: str) -> str:
    if len(error) > _LONGEST_ERROR:
        error = f"{error[:_LONGEST_ERROR]}… ({len(error):,} characters)"
    return error.encode("utf-8", "backslashreplace").decode()


def silver_rows(
    kept: Trades, frames: Frames, venue: ModuleType, instruments: dict[str, Instrument | None], schema: pa.Schema
) -> pa.Table:
    """Return the rows of silver."""
    trades, count = kept.trades, len(kept.trades)
    at = np.array(kept.frames, dtype=np.int64)
    symbols = [_known(instruments, t.venue_symbol).symbol for t in trades]
    ids = [t.trade_id for t in trades]
    offsets = np.array(frames.offsets, dtype=np.int64)[at]
    received = frames.received_ns[at]
    columns: dict[str, Any] = {
        "message_id": pa.array(message_ids(venue.VENUE, symbols, ids), pa.binary()).cast(pa.string()),
        "trade_id": pa.array(ids, pa.string()),
        "symbol": pa.array(symbols, pa.string()),
        "exchange": _repeat(venue.VENUE, count),
        "asset_class": _repeat(venue.ASSET_CLASS, count),
        "timestamp": pa.array(np.fromiter((t.event_us for t in trades), np.int64, count), TIMESTAMP),
        "price": _decimals(kept.prices, PRICE_PRECISION, PRICE_SCALE),
        "quantity": _decimals(kept.quantities, QUANTITY_PRECISION, QUANTITY_SCALE),
        "currency": pa.array([_known(instruments, t.venue_symbol).quote for t in trades], pa.string()),
        "side": pa.array([t.side for t in trades], pa.string()),
        "trade_conditions": pa.ListArray.from_arrays(
            pa.array(np.zeros(count + 1, np.int32)), pa.array([], pa.string())
        ),
        "source_sequence": pa.array(np.fromiter((t.sequence for t in trades), np.int64, count)),
        "ingestion_timestamp": pa.array(frames.ingestion_us[at], TIMESTAMP),
        "platform_sequence": pa.array(offsets),
        "vendor_data": _vendor_data(trades),
        "kafka_topic": _repeat(frames.topic, count),
        "topic_id": _repeat(frames.topic_id, count),
        "kafka_partition": pa.array(np.array(frames.partitions, dtype=np.int32)[at]),
        "kafka_offset": pa.array(offsets),
        "frame_index": pa.array(kept.indexes, pa.int32()),
        "received_ns": pa.array(received),
    }
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _known(instruments: dict[str, Instrument | None], venue_symbol: str) -> Instrument:
    instrument = instruments[venue_symbol]
    assert instrument is not None  # noqa: S101  # unknown symbols were rejected
    return instrument


def _vendor_data(trades: Iterable[VenueTrade]) -> pa.MapArray:
    """Keep the venue's publishing time, where it gave one, as ``published_us``."""
    published = [t.published_us for t in trades]
    present = np.array([p is not None for p in published], dtype=np.int32)
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(present, dtype=np.int32)])
    values = pa.array([p for p in published if p is not None], pa.int64()).cast(pa.string())
    return pa.MapArray.from_arrays(pa.array(offsets), _repeat("published_us", len(values)), values)


def _decimals(texts: list[str], precision: int, scale: int) -> pa.Array:
    """Convert plain numbers, already checked to fit, exactly."""
    return pl.Series(texts, dtype=pl.String).cast(pl.Decimal(precision, scale)).to_arrow()


def rejected_rows(rejects: Rejects, frames: Frames, schema: pa.Schema) -> pa.Table:
    """Return the rows of the rejected table."""
    at = rejects.frames
    count = len(at)
    undecoded = np.array([position in frames.errors for position in at], dtype=bool)
    columns: dict[str, Any] = {
        "kafka_topic": _repeat(frames.topic, count),
        "topic_id": _repeat(frames.topic_id, count),
        "kafka_partition": pa.array([frames.partitions[p] for p in at], pa.int32()),
        "kafka_offset": pa.array([frames.offsets[p] for p in at], pa.int64()),
        "frame_index": pa.array(rejects.indexes, pa.int32()),
        "received_ns": pa.array([int(frames.received_ns[p]) for p in at], pa.int64(), mask=undecoded),
        "ingestion_timestamp": pa.array([int(frames.ingestion_us[p]) for p in at], TIMESTAMP),
        "reason": pa.array(rejects.reasons, pa.string()),
        "error": pa.array(rejects.errors, pa.string()),
        "payload": pa.array([frames.payloads[p] for p in at], pa.binary()),
    }
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _repeat(value: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), count)
