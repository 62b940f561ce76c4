"""Frames to silver and rejected rows. Pure: the venue's parser and the rules of k2_core.trades, Arrow out.

The rules are checked for all rows at once; what looks unusual in any way is judged by :func:`k2_core.trades.check`.
A frame on which our own code breaks is rejected like any other bad one: it must not stop its neighbours.
"""

from dataclasses import dataclass, field
from itertools import compress
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from k2_assets.bronze.transforms import Frames
from k2_assets.silver.rows import Rejects, Trades, rejected_rows, silver_rows
from k2_core.errors import MalformedFrame
from k2_core.instruments import Instrument
from k2_core.logs import logger
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
    plain,
)

log = logger(__name__)

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
class _Parsed:
    trades: list[VenueTrade] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    bad_times: list[tuple[int, int]] = field(default_factory=list)
    rejects: Rejects = field(default_factory=Rejects)
    control_frames: int = 0


def refine(frames: Frames, venue: ModuleType, silver_schema: pa.Schema, rejected_schema: pa.Schema) -> Refined:
    """Parse and validate frames; those on which our own code breaks are found by halves and rejected.

    Args:
        frames: of one topic.
        venue: a module of :mod:`k2_core.venues`.
        silver_schema: Arrow schema of the silver table.
        rejected_schema: Arrow schema of the rejected table.
    """
    try:
        return _refine(frames, venue, silver_schema, rejected_schema)
    except MemoryError:
        raise  # no fault of a frame
    # A lane that died of a frame would read it again for ever.
    except (Exception, pl.exceptions.PanicException) as error:  # any fault of our own code
        if len(frames) == 0:
            raise
        if len(frames) == 1:
            _tell(error, frames, 0, first=True)
            return _all_rejected(frames, silver_schema, rejected_schema, error)
    middle = len(frames) // 2
    halves = (frames.part(0, middle), frames.part(middle, len(frames)))
    return _joined([refine(half, venue, silver_schema, rejected_schema) for half in halves])


def _all_rejected(
    frames: Frames, silver_schema: pa.Schema, rejected_schema: pa.Schema, error: BaseException
) -> Refined:
    rejects, no_times = Rejects(), np.full(len(frames), NO_TIME, dtype=np.int64)
    for position in range(len(frames)):
        rejects.add(position, 0, *_broken(error))
    rows = rejected_rows(rejects, frames, rejected_schema)
    return Refined(silver_schema.empty_table(), rows, no_times, no_times, 0)


def _tell(error: BaseException, frames: Frames, position: int, *, first: bool) -> None:
    """Log a fault of our own: where it happened, and for the first of a batch the traceback."""
    place = {"topic": frames.topic, "partition": frames.partitions[position], "offset": frames.offsets[position]}
    log.error("the parser broke on a frame", error=repr(error), exc_info=error if first else None, **place)


def _broken(error: BaseException) -> tuple[str, str]:
    return "parser_failed", f"{type(error).__name__}: {error}"


def _joined(parts: list[Refined]) -> Refined:
    return Refined(
        pa.concat_tables([part.silver for part in parts]),
        pa.concat_tables([part.rejected for part in parts]),
        np.concatenate([part.first_event_us for part in parts]),
        np.concatenate([part.last_event_us for part in parts]),
        sum(part.control_frames for part in parts),
    )


def _refine(frames: Frames, venue: ModuleType, silver_schema: pa.Schema, rejected_schema: pa.Schema) -> Refined:
    parsed = _parse(frames, venue)
    instruments = {symbol: venue.instrument_of(symbol) for symbol in {t.venue_symbol for t in parsed.trades}}
    prices, quantities = _validate(parsed, frames, instruments)
    first, last = _event_times(parsed, len(frames))
    trades = Trades(parsed.trades, parsed.frames, parsed.indexes, prices, quantities)
    return Refined(
        silver_rows(trades, frames, venue, instruments, silver_schema),
        rejected_rows(parsed.rejects, frames, rejected_schema),
        first,
        last,
        parsed.control_frames,
    )


def _parse(frames: Frames, venue: ModuleType) -> _Parsed:
    out, broken = _Parsed(), 0
    parse, trades, positions, indexes = venue.parse, out.trades, out.frames, out.indexes
    for position, payload in enumerate(frames.payloads):
        if position in frames.errors:
            out.rejects.add(position, 0, frames.errors[position].reason, frames.errors[position].detail)
            continue
        try:
            found = parse(payload)
        except MalformedFrame as error:
            out.rejects.add(position, 0, error.reason, error.detail)
            continue
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # any fault of the parser; the frame waits for a mended one
            broken += 1
            _tell(error, frames, position, first=broken == 1)
            out.rejects.add(position, 0, *_broken(error))
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
    unknown = {symbol for symbol, instrument in instruments.items() if instrument is None}
    if unknown:
        suspicious |= np.array([trade.venue_symbol in unknown for trade in parsed.trades])
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
    if drop:
        keep = np.ones(len(prices), dtype=bool)
        keep[drop] = False
        kept = keep.tolist()
        parallel: tuple[list[Any], ...] = (parsed.trades, parsed.frames, parsed.indexes, prices, quantities)
        for listing in parallel:
            listing[:] = compress(listing, kept)
    return prices, quantities


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
