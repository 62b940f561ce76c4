"""Frames to silver and rejected rows. Pure: the venue's parser and the rules of trades or quotes, Arrow out.

The rules are checked for all rows at once. Whatever looks unusual in any way is judged singly, by ``check`` of
:mod:`k2_core.trades` or :mod:`k2_core.quotes`. A frame on which our own code breaks is rejected like any other bad one:
it must not stop its neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from k2_assets.decode.bronze_rows import Frames
from k2_assets.decode.clock_behind import Span, excused
from k2_assets.decode.frame_parsing import Parsed, broken, log_broken, parse_some
from k2_assets.decode.row_rules import RULES, Rules, is_plain_positive
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
        judges = _Judges(venue, RULES[data], instruments or by_spelling(venue), late_clock, known)
        return _refine(frames, judges, (silver_schema, rejected_schema))
    except (MemoryError, OSError):
        raise  # no fault of a frame
    # The lane must go on: it would read the same frame again for ever.
    except (Exception, pl.exceptions.PanicException) as error:  # any fault of our own code
        if len(frames) == 0:
            raise
        if len(frames) == 1:
            log_broken(error, frames, 0, first=True)
            rejects, no_time = Rejects(), np.full(1, NO_TIME, dtype=np.int64)
            rejects.add(0, 0, *broken(error))
            rejected = rejected_rows(rejects, frames, rejected_schema)
            return Refined(silver_schema.empty_table(), rejected, no_time, no_time, 0)
    half = frames.part(0, len(frames) // 2)
    schemas = silver_schema, rejected_schema
    return refine(half, venue, *schemas, data, instruments=instruments, late_clock=late_clock, epochs=epochs)


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
class _Judges:
    """What decides which rows of a frame are kept, and what they become."""

    venue: Venue
    rules: Rules
    instruments: Instruments
    late_clock: Sequence[Span]
    epochs: Epochs


def _refine(frames: Frames, judges: _Judges, schemas: tuple[pa.Schema, pa.Schema]) -> Refined:
    venue, rules = judges.venue, judges.rules
    parsed = parse_some(frames, venue, rules)
    count = parsed.frames_read
    frames = frames.part(0, count)
    kept, unknown = _validate(parsed, frames, judges)

    # The earliest and the latest event time of each frame, of rejected rows too. Times after the year 9999 are ignored.
    positions = np.array(kept.frames + [position for position, _ in parsed.bad_times], dtype=np.int64)
    times = np.concatenate([kept.event_us, np.array([us for _, us in parsed.bad_times], dtype=np.int64)])
    sane = times <= _LAST_US
    positions, times = positions[sane], times[sane]
    earliest = np.full(count, np.iinfo(np.int64).max, dtype=np.int64)
    first, last = np.full(count, NO_TIME, dtype=np.int64), np.full(count, NO_TIME, dtype=np.int64)
    np.minimum.at(earliest, positions, times)
    np.maximum.at(last, positions, times)
    first[positions] = earliest[positions]

    return Refined(
        silver_rows(kept, frames, venue, rules, schemas[0], epochs=judges.epochs),
        rejected_rows(parsed.rejects, frames, schemas[1]),
        first,
        last,
        parsed.control_frames,
        unknown,
    )


def _validate(parsed: Parsed, frames: Frames, judges: _Judges) -> tuple[Kept, frozenset[str]]:
    """Move what breaks a rule to the rejects; return the others, their numbers as plain text, and unknown symbols."""
    # Each rule is first asked of a whole column, in a stricter form that is fast: it marks every row that may break
    # it, and some that do not. `check` decides about the marked rows alone. So a rule has one exact form, and the usual
    # row never meets it.
    rules, rows = judges.rules, parsed.rows
    received = frames.received_ns[parsed.frames] if parsed.frames else np.empty(0, np.int64)
    given = [row.event_us for row in rows]
    if None in given:  # a venue that gives no time: that of receipt
        received_us = (received // 1000).tolist()
        given = [at if us is None else us for us, at in zip(given, received_us, strict=True)]
    events = np.array(given, dtype=np.int64)
    judged_at = np.where(excused(judges.late_clock, received, events), events * 1_000, received)
    suspicious = (events < FIRST_DAY_US) | (events > (judged_at + MAX_FUTURE_NS) // 1000)
    numbers = {name: [getattr(row, name) for row in rows] for name in rules.numbers}
    for name, size in rules.numbers.items():
        suspicious |= ~is_plain_positive(numbers[name], *size)
    symbols = [row.venue_symbol for row in rows]
    known = judges.instruments(symbols, received)
    suspicious |= np.array([each is None for each in known], dtype=bool)
    keep = np.ones(len(events), dtype=bool)
    for place in np.flatnonzero(suspicious).tolist():
        try:
            rules.check(rows[place], known[place], int(judged_at[place]))
        except MalformedFrame as error:
            parsed.rejects.add(parsed.frames[place], parsed.indexes[place], error.reason, error.detail)
            parsed.bad_times.append((parsed.frames[place], int(events[place])))
            keep[place] = False
            continue
        for name, size in rules.numbers.items():
            if (text := numbers[name][place]) is not None:
                number = exact(text)
                spelled = None if number is None else plain(number, *size)
                assert spelled is not None  # noqa: S101  # check() accepted it
                numbers[name][place] = spelled
    unknown = frozenset(symbol for symbol, each in zip(symbols, known, strict=True) if each is None)
    return Kept(rows, known, parsed.frames, parsed.indexes, events, numbers).chosen(keep), unknown
