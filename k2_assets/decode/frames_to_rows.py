"""Frames to silver and rejected rows. Pure: the venue's parser and the rules of trades or quotes, Arrow out.

The rules are checked for all rows at once; what looks unusual in any way is judged singly, by ``check`` of the nouns.
A frame on which our own code breaks is rejected like any other bad one: it must not stop its neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from k2_assets.decode.bronze_rows import Frames
from k2_assets.decode.clock_behind import Span, excused
from k2_assets.decode.frame_parsing import Parsed, broken, parse_some, tell
from k2_assets.decode.row_rules import RULES, Rules
from k2_assets.decode.silver_rows import Kept, Rejects, rejected_rows, silver_rows
from k2_assets.decode.symbol_spelling import Instruments, by_spelling
from k2_core.epochs import NO_EPOCHS, Epochs
from k2_core.errors import MalformedFrame
from k2_core.trades import FIRST_DAY_US, MAX_FUTURE_NS, exact, plain
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue

NO_TIME: Final = np.iinfo(np.int64).min
_LAST_US: Final = 253_402_300_799_999_999  # the end of the year 9999: later times are no time at all
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Refined:
    """What became of the first frames of a batch; event times in µs per frame, :data:`NO_TIME` where it has none.

    ``unknown`` are the symbols for which rows were rejected.
    """

    silver: pa.Table
    rejected: pa.Table
    first_event_us: _Ints
    last_event_us: _Ints
    control_frames: int
    unknown: frozenset[str] = frozenset()

    @property
    def frames(self) -> int:
        """How many frames were read: all, unless they became too many rows or one of them could not be judged."""
        return len(self.first_event_us)


def refine(
    frames: Frames,
    venue: Venue,
    silver_schema: pa.Schema,
    rejected_schema: pa.Schema,
    data: Data = "trades",
    *,
    instruments: Instruments | None = None,
    late_clock: Sequence[Span] = (),
    epochs: Epochs = NO_EPOCHS,
) -> Refined:
    """Parse and validate the first of some frames, as many as become about 250,000 rows; at least one.

    A frame on which our own code breaks is found by halves, each call reading those before it, and rejected.

    Args:
        frames: of one topic.
        venue: whose frames they are.
        silver_schema: Arrow schema of the silver table.
        rejected_schema: Arrow schema of the rejected table.
        data: what the frames carry.
        instruments: what the venue's symbols mean; None takes them as they are spelled.
        late_clock: when the feed's clock was behind.
        epochs: of the instruments whose trade ids began again.
    """
    try:
        known = epochs if data == "trades" else NO_EPOCHS
        context = _Context(venue, RULES[data], instruments or by_spelling(venue), late_clock, known)
        return _refine(frames, context, (silver_schema, rejected_schema))
    except (MemoryError, OSError):
        raise  # no fault of a frame
    # A lane that died of a frame would read it again for ever.
    except (Exception, pl.exceptions.PanicException) as error:  # any fault of our own code
        if len(frames) == 0:
            raise
        if len(frames) == 1:
            tell(error, frames, 0, first=True)
            return _all_rejected(frames, silver_schema, rejected_schema, error)
    half = frames.part(0, len(frames) // 2)
    schemas = silver_schema, rejected_schema
    return refine(half, venue, *schemas, data, instruments=instruments, late_clock=late_clock, epochs=epochs)


def _all_rejected(
    frames: Frames, silver_schema: pa.Schema, rejected_schema: pa.Schema, error: BaseException
) -> Refined:
    rejects, no_times = Rejects(), np.full(len(frames), NO_TIME, dtype=np.int64)
    for position in range(len(frames)):
        rejects.add(position, 0, *broken(error))
    rows = rejected_rows(rejects, frames, rejected_schema)
    return Refined(silver_schema.empty_table(), rows, no_times, no_times, 0)


def joined(parts: Sequence[Refined]) -> Refined:
    """Return what became of all parts; at least one."""
    return Refined(
        pa.concat_tables([part.silver for part in parts]),
        pa.concat_tables([part.rejected for part in parts]),
        np.concatenate([part.first_event_us for part in parts]),
        np.concatenate([part.last_event_us for part in parts]),
        sum(part.control_frames for part in parts),
        frozenset().union(*(part.unknown for part in parts)),
    )


@dataclass(frozen=True)
class _Context:
    """By what frames are judged."""

    venue: Venue
    rules: Rules
    instruments: Instruments
    late_clock: Sequence[Span]
    epochs: Epochs


def _refine(frames: Frames, context: _Context, schemas: tuple[pa.Schema, pa.Schema]) -> Refined:
    venue, rules = context.venue, context.rules
    parsed = parse_some(frames, venue, rules)
    frames = frames.part(0, parsed.frames_read)
    kept, unknown = _validate(parsed, frames, context)
    first, last = _event_times(kept, parsed.bad_times, len(frames))
    return Refined(
        silver_rows(kept, frames, venue, rules, schemas[0], epochs=context.epochs),
        rejected_rows(parsed.rejects, frames, schemas[1]),
        first,
        last,
        parsed.control_frames,
        unknown,
    )


def _validate(parsed: Parsed, frames: Frames, context: _Context) -> tuple[Kept, frozenset[str]]:
    """Move what breaks a rule to the rejects; return the others, their numbers as plain text, and unknown symbols."""
    rules = context.rules
    received = frames.received_ns[parsed.frames] if parsed.frames else np.empty(0, np.int64)
    events = _stamped(parsed.rows, received)
    judged_at = np.where(excused(context.late_clock, received, events), events * 1_000, received)
    numbers = {name: [getattr(row, name) for row in parsed.rows] for name in rules.numbers}
    suspicious = (events < FIRST_DAY_US) | (events > (judged_at + MAX_FUTURE_NS) // 1000)
    for name, size in rules.numbers.items():
        suspicious |= _unusual_number(numbers[name], *size)
    symbols = [row.venue_symbol for row in parsed.rows]
    known = context.instruments(symbols, received)
    suspicious |= np.array([each is None for each in known], dtype=bool)
    keep = np.ones(len(events), dtype=bool)
    for place in np.flatnonzero(suspicious).tolist():
        try:
            rules.check(parsed.rows[place], known[place], int(judged_at[place]))
        except MalformedFrame as error:
            parsed.rejects.add(parsed.frames[place], parsed.indexes[place], error.reason, error.detail)
            parsed.bad_times.append((parsed.frames[place], int(events[place])))
            keep[place] = False
            continue
        for name, size in rules.numbers.items():
            numbers[name][place] = _as_plain(numbers[name][place], *size)
    unknown = frozenset(symbol for symbol, each in zip(symbols, known, strict=True) if each is None)
    return _kept(Kept(parsed.rows, known, parsed.frames, parsed.indexes, events, numbers), keep), unknown


def _kept(judged: Kept, keep: npt.NDArray[np.bool_]) -> Kept:
    if keep.all():
        return judged
    chosen = keep.tolist()
    rows, known = list(compress(judged.rows, chosen)), list(compress(judged.instruments, chosen))
    frames, indexes = list(compress(judged.frames, chosen)), list(compress(judged.indexes, chosen))
    numbers = {name: list(compress(texts, chosen)) for name, texts in judged.numbers.items()}
    return Kept(rows, known, frames, indexes, judged.event_us[keep], numbers)


def _stamped(rows: list[Any], received_ns: _Ints) -> _Ints:
    """Return the rows' times in µs: the venue's, or that of receipt where it gives none."""
    given = [row.event_us for row in rows]
    if None in given:
        received_us = (received_ns // 1000).tolist()
        given = [at if us is None else us for us, at in zip(given, received_us, strict=True)]
    return np.array(given, dtype=np.int64)


def _unusual_number(texts: list[str | None], precision: int, scale: int) -> npt.NDArray[np.bool_]:
    """Tell which are not simply digits, a point and digits, positive and within the decimal's bounds; None is not."""
    column = pl.Series(texts, dtype=pl.String)
    usual = column.str.contains(rf"^[0-9]{{1,{precision - scale}}}(\.[0-9]{{1,{scale}}})?$")
    positive = column.str.contains("[1-9]")
    return ~(usual & positive).fill_null(value=False).to_numpy()


def _as_plain(text: str | None, precision: int, scale: int) -> str | None:
    if text is None:
        return None
    number = exact(text)
    assert number is not None  # noqa: S101  # check() accepted it
    spelled = plain(number, precision, scale)
    assert spelled is not None  # noqa: S101  # the same
    return spelled


def _event_times(kept: Kept, bad_times: list[tuple[int, int]], count: int) -> tuple[_Ints, _Ints]:
    """Return the earliest and the latest event time of each frame."""
    first = np.full(count, NO_TIME, dtype=np.int64)
    last = first.copy()
    positions = np.array(kept.frames + [p for p, _ in bad_times], dtype=np.int64)
    times = np.concatenate([kept.event_us, np.array([t for _, t in bad_times], dtype=np.int64)])
    sane = times <= _LAST_US
    positions, times = positions[sane], times[sane]
    latest = np.full(count, np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(latest, positions, times)
    np.maximum.at(last, positions, times)
    first[positions] = latest[positions]
    return first, last
