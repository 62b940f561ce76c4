"""Frames to trades or quotes, one by one, and why a frame cannot be read. Pure, but that faults of ours are logged."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from k2_assets.decode.bronze_rows import Frames
from k2_assets.decode.row_rules import Parser, Rules
from k2_assets.decode.silver_rows import Rejects
from k2_core.errors import MalformedFrame
from k2_core.logs import logger
from k2_core.quotes import BadQuote
from k2_core.trades import BadTrade
from k2_core.venues.venue_protocol import Venue

log = logger(__name__)

MOST_ROWS: Final = 250_000
"""So many rows, and those of one more frame, are made at once: a single frame of 1 MiB may hold half a million."""


@dataclass
class Parsed:
    """What parsers found, in parallel lists; ``frames`` are positions, ``bad_times`` are of rejected rows."""

    rows: list[Any] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    bad_times: list[tuple[int, int]] = field(default_factory=list)
    rejects: Rejects = field(default_factory=Rejects)
    control_frames: int = 0
    frames_read: int = 0


def parse_some(frames: Frames, venue: Venue, rules: Rules) -> Parsed:
    """Parse frames until they have become many rows; one that cannot be read, or breaks the parser, is rejected."""
    out, broken_frames = Parsed(), 0
    parse, bad, rows, positions, indexes = rules.parser(venue), rules.bad, out.rows, out.frames, out.indexes
    rejected = out.rejects.frames
    for position, payload in enumerate(frames.payloads):
        if len(rows) + len(rejected) >= MOST_ROWS:
            break
        out.frames_read = position + 1
        if position in frames.errors:
            out.rejects.add(position, 0, frames.errors[position].reason, frames.errors[position].detail)
            continue
        try:
            found = parse(payload)
        except MalformedFrame as error:
            out.rejects.add(position, 0, *_refusal(error, payload, rules.other_parser(venue)))
            continue
        except (MemoryError, OSError):
            raise  # no fault of a frame
        except Exception as error:  # noqa: BLE001  # any fault of the parser; the frame waits for a mended one
            broken_frames += 1
            log_broken(error, frames, position, first=broken_frames == 1)
            out.rejects.add(position, 0, *broken(error))
            continue
        if found is None:
            out.control_frames += 1
            continue
        for index, row in enumerate(found):
            if isinstance(row, bad):
                out.rejects.add(position, index, row.reason, row.detail)
                if row.event_us is not None:
                    out.bad_times.append((position, row.event_us))
                continue
            rows.append(row)
            positions.append(position)
            indexes.append(index)
    return out


def _refusal(error: MalformedFrame, payload: bytes, other_parser: Parser) -> tuple[str, str]:
    """Return reason and error of a frame that the parser refused."""
    # A feed that cannot read a quote publishes it among the trades, whose parser knows no such event. The parser of
    # quotes can name the fault, and the other way round.
    if error.reason != "unknown_event":
        return error.reason, error.detail
    try:
        found: Iterable[object] = other_parser(payload) or ()
    except MalformedFrame as other:
        found = [] if other.reason == "unknown_event" else [other]
    except Exception:  # noqa: BLE001  # a fault of the other parser; this frame is refused all the same
        found = []
    bad = [each for each in found if isinstance(each, BadTrade | BadQuote | MalformedFrame)]
    other_says = f"; the other parser says {bad[0].reason}: {bad[0].detail}" if bad else ""
    return error.reason, error.detail + other_says


def log_broken(error: BaseException, frames: Frames, position: int, *, first: bool) -> None:
    """Log a fault of our own: where it happened, and for the first of a batch the traceback."""
    place = {"topic": frames.topic, "partition": frames.partitions[position], "offset": frames.offsets[position]}
    log.error("the parser broke on a frame", error=repr(error), exc_info=error if first else None, **place)


def broken(error: BaseException) -> tuple[str, str]:
    """Return reason and error of a frame on which our own code broke."""
    return "parser_failed", f"{type(error).__name__}: {error}"
