"""Frames to silver and rejected rows. Pure: the venue's parser and the rules of k2_core.trades, Arrow out.

The rules are checked for all rows at once; what looks unusual in any way is judged by :func:`k2_core.trades.check`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from k2_assets.bronze.transforms import TIMESTAMP, Frames
from k2_core.errors import MalformedFrame
from k2_core.instruments import Instrument
from k2_core.trades import (
    MAX_FUTURE_NS,
    PRICE_PRECISION,
    PRICE_SCALE,
    QUANTITY_PRECISION,
    QUANTITY_SCALE,
    BadTrade,
    VenueTrade,
    check,
    exact,
    message_ids,
    plain,
)

NO_TIME: Final = np.iinfo(np.int64).min
_LAST_US: Final = 253_402_300_799_999_999  # the end of the year 9999: later times are no time at all
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Refined:
    """What became of a batch of frames; event times in µs per frame, :data:`NO_TIME` where it has none."""

    silver: pa.Table
    rejected: pa.Table
    first_event_us: _Ints
    last_event_us: _Ints
    control_frames: int


@dataclass
class _Rejects:
    frames: list[int] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, frame: int, index: int, reason: str, error: str) -> None:
        self.frames.append(frame)
        self.indexes.append(index)
        self.reasons.append(reason)
        self.errors.append(error)


@dataclass
class _Parsed:
    trades: list[VenueTrade] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    bad_times: list[tuple[int, int]] = field(default_factory=list)
    rejects: _Rejects = field(default_factory=_Rejects)
    control_frames: int = 0


def refine(frames: Frames, venue: ModuleType, silver_schema: pa.Schema, rejected_schema: pa.Schema) -> Refined:
    """Parse and validate frames.

    Args:
        frames: of one topic.
        venue: a module of :mod:`k2_core.venues`.
        silver_schema: Arrow schema of the silver table.
        rejected_schema: Arrow schema of the rejected table.
    """
    parsed = _parse(frames, venue)
    instruments = {symbol: venue.instrument_of(symbol) for symbol in {t.venue_symbol for t in parsed.trades}}
    prices, quantities = _validate(parsed, frames, instruments)
    first, last = _event_times(parsed, len(frames))
    silver = _silver_rows(parsed, frames, venue, instruments, prices, quantities)
    return Refined(
        pa.table([silver[name] for name in silver_schema.names], schema=silver_schema),
        _rejected_rows(parsed.rejects, frames, rejected_schema),
        first,
        last,
        parsed.control_frames,
    )


def _parse(frames: Frames, venue: ModuleType) -> _Parsed:
    out = _Parsed()
    parse, trades, positions, indexes = venue.parse, out.trades, out.frames, out.indexes
    for position, payload in enumerate(frames.payloads):
        try:
            if position in frames.errors:
                raise frames.errors[position]
            found = parse(payload)
        except MalformedFrame as error:
            out.rejects.add(position, 0, error.reason, error.detail)
            continue
        if found is None:
            out.control_frames += 1
            continue
        for index, trade in enumerate(found):
            if type(trade) is BadTrade:
                _keep_bad(out, position, index, trade)
                continue
            trades.append(trade)
            positions.append(position)
            indexes.append(index)
    return out


def _keep_bad(out: _Parsed, position: int, index: int, trade: BadTrade) -> None:
    out.rejects.add(position, index, trade.reason, trade.detail)
    if trade.event_us is not None:
        out.bad_times.append((position, trade.event_us))


def _validate(
    parsed: _Parsed, frames: Frames, instruments: dict[str, Instrument | None]
) -> tuple[list[str], list[str]]:
    """Move what breaks a rule to the rejects; return the others' prices and quantities as plain text."""
    prices = [trade.price for trade in parsed.trades]
    quantities = [trade.quantity for trade in parsed.trades]
    if not prices:
        return prices, quantities
    received = frames.received_ns[parsed.frames]
    events = np.fromiter((t.event_us for t in parsed.trades), np.int64, len(prices))
    suspicious = events > (received + MAX_FUTURE_NS) // 1000
    suspicious |= _unusual_number(prices, PRICE_PRECISION, PRICE_SCALE)
    suspicious |= _unusual_number(quantities, QUANTITY_PRECISION, QUANTITY_SCALE)
    if None in instruments.values():
        suspicious |= np.array([instruments[t.venue_symbol] is None for t in parsed.trades])
    drop = []
    for row in np.flatnonzero(suspicious).tolist():
        trade = parsed.trades[row]
        try:
            check(trade, instruments[trade.venue_symbol], int(received[row]))
        except MalformedFrame as error:
            parsed.rejects.add(parsed.frames[row], parsed.indexes[row], error.reason, error.detail)
            parsed.bad_times.append((parsed.frames[row], trade.event_us))
            drop.append(row)
            continue
        prices[row] = _as_plain(trade.price, PRICE_PRECISION, PRICE_SCALE)
        quantities[row] = _as_plain(trade.quantity, QUANTITY_PRECISION, QUANTITY_SCALE)
    for listing in (parsed.trades, parsed.frames, parsed.indexes, prices, quantities):
        _delete_rows(listing, drop)
    return prices, quantities


def _delete_rows(listing: list[Any], rows: list[int]) -> None:
    if rows:
        gone = set(rows)
        listing[:] = [item for row, item in enumerate(listing) if row not in gone]


def _unusual_number(texts: list[str], precision: int, scale: int) -> npt.NDArray[np.bool_]:
    """Tell which texts are not simply digits, a point and digits, positive and within the decimal's bounds."""
    column = pl.Series(texts, dtype=pl.String)
    usual = column.str.contains(rf"^[0-9]{{1,{precision - scale}}}(\.[0-9]{{1,{scale}}})?$")
    positive = column.str.contains("[1-9]")
    return ~(usual & positive).to_numpy()


def _as_plain(text: str, precision: int, scale: int) -> str:
    number = exact(text)
    assert number is not None  # noqa: S101  # check() accepted it
    spelled = plain(number, precision, scale)
    assert spelled is not None  # noqa: S101  # the same
    return spelled


def _event_times(parsed: _Parsed, count: int) -> tuple[_Ints, _Ints]:
    """Return the earliest and the latest event time of each frame."""
    first = np.full(count, NO_TIME, dtype=np.int64)
    last = first.copy()
    positions = np.array(parsed.frames + [p for p, _ in parsed.bad_times], dtype=np.int64)
    times = np.array([t.event_us for t in parsed.trades] + [t for _, t in parsed.bad_times], dtype=np.int64)
    sane = times <= _LAST_US
    positions, times = positions[sane], times[sane]
    latest = np.full(count, np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(latest, positions, times)
    np.maximum.at(last, positions, times)
    first[positions] = latest[positions]
    return first, last


def _silver_rows(  # noqa: PLR0917  # one batch in parallel columns
    parsed: _Parsed,
    frames: Frames,
    venue: ModuleType,
    instruments: dict[str, Instrument | None],
    prices: list[str],
    quantities: list[str],
) -> dict[str, Any]:
    trades, count = parsed.trades, len(parsed.trades)
    at = np.array(parsed.frames, dtype=np.int64)
    symbols = [_known(instruments, t.venue_symbol).symbol for t in trades]
    ids = [t.trade_id for t in trades]
    offsets = np.array(frames.offsets, dtype=np.int64)[at]
    received = frames.received_ns[at]
    return {
        "message_id": pa.array(message_ids(venue.VENUE, symbols, ids), pa.binary()).cast(pa.string()),
        "trade_id": pa.array(ids, pa.string()),
        "symbol": pa.array(symbols, pa.string()),
        "exchange": _repeat(venue.VENUE, count),
        "asset_class": _repeat(venue.ASSET_CLASS, count),
        "timestamp": pa.array(np.fromiter((t.event_us for t in trades), np.int64, count), TIMESTAMP),
        "price": _decimals(prices, PRICE_PRECISION, PRICE_SCALE),
        "quantity": _decimals(quantities, QUANTITY_PRECISION, QUANTITY_SCALE),
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
        "frame_index": pa.array(parsed.indexes, pa.int32()),
        "received_ns": pa.array(received),
    }


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


def _rejected_rows(rejects: _Rejects, frames: Frames, schema: pa.Schema) -> pa.Table:
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
