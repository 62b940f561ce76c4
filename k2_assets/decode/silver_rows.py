"""Rows of silver and rejected as Arrow tables, column by column. Pure; what they hold was judged before."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from k2_assets.decode.bronze_rows import TIMESTAMP, Frames
from k2_assets.decode.row_rules import Numbers, Rules
from k2_core.epochs import NO_EPOCHS, Epochs
from k2_core.errors import readable
from k2_core.instruments import Instrument
from k2_core.venues.venue_protocol import Venue

# Bytes of all copies of one frame: of 1 MiB with half a million bad items they would be 500 GB.
_MOST_COPIED: Final = 256 * 1024


@dataclass(frozen=True)
class Kept:
    """Trades or quotes that passed every rule, in parallel lists; numbers as plain text, times in µs."""

    rows: list[Any]
    instruments: list[Instrument | None]
    frames: list[int]
    indexes: list[int]
    event_us: npt.NDArray[np.int64]
    numbers: Numbers

    def chosen(self, keep: npt.NDArray[np.bool_]) -> "Kept":
        if keep.all():
            return self
        chosen = keep.tolist()
        lists = (self.rows, self.instruments, self.frames, self.indexes)
        rows, instruments, frames, indexes = (list[Any](compress(each, chosen)) for each in lists)
        numbers = {name: list(compress(texts, chosen)) for name, texts in self.numbers.items()}
        return Kept(rows, instruments, frames, indexes, self.event_us[keep], numbers)


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
        self.errors.append(readable(error))


def silver_rows(
    kept: Kept, frames: Frames, venue: Venue, rules: Rules, schema: pa.Schema, *, epochs: Epochs = NO_EPOCHS
) -> pa.Table:
    """Return the rows of silver."""
    rows, count = kept.rows, len(kept.rows)
    at = np.array(kept.frames, dtype=np.int64)
    known = [each for each in kept.instruments if each is not None]  # all: unknown symbols were rejected
    symbols, ids = [each.symbol for each in known], [getattr(row, rules.id_name) for row in rows]
    names = epochs.names(venue.VENUE, symbols, kept.event_us)
    offsets = np.array(frames.offsets, dtype=np.int64)[at]
    numbers = {  # exact: these texts were checked to fit
        name: pl.Series(kept.numbers[name], dtype=pl.String).cast(pl.Decimal(*size))
        for name, size in rules.numbers.items()
    }
    published = [None if row.published_us is None else str(row.published_us) for row in rows]
    columns: dict[str, Any] = {
        "message_id": pa.array(rules.message_ids(venue.VENUE, names, ids), pa.binary()).cast(pa.string()),
        rules.id_name: pa.array(ids, pa.string()),
        "symbol": pa.array(symbols, pa.string()),
        "exchange": pa.repeat(venue.VENUE, count),
        "asset_class": pa.repeat(venue.ASSET_CLASS, count),
        "timestamp": pa.array(kept.event_us, TIMESTAMP),
        **{name: decimals.to_arrow() for name, decimals in numbers.items()},
        **rules.columns(rows),
        "currency": pa.array([each.quote for each in known], pa.string()),
        "source_sequence": pa.array([row.sequence for row in rows], pa.int64()),
        "ingestion_timestamp": pa.array(frames.ingestion_us[at], TIMESTAMP),
        "platform_sequence": pa.array(offsets),
        "vendor_data": _texts_by_key({**rules.vendor_data(numbers), "published_us": published}),
        "kafka_topic": pa.repeat(frames.topic, count),
        "topic_id": pa.repeat(frames.topic_id, count),
        "kafka_partition": pa.array(np.array(frames.partitions, dtype=np.int32)[at]),
        "kafka_offset": pa.array(offsets),
        "frame_index": pa.array(kept.indexes, pa.int32()),
        "received_ns": pa.array(frames.received_ns[at]),
    }
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _texts_by_key(columns: Mapping[str, list[str | None]]) -> pa.MapArray:
    """Return a map for each row, of the keys for which it has a text."""
    # Arrow holds the maps of all rows in two flat arrays, keys and values, and where each row's part begins.
    present = np.array([[text is not None for text in texts] for texts in columns.values()], dtype=bool).T
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(present.sum(axis=1), dtype=np.int32)])
    keys = pa.array(list(columns), pa.string()).take(pa.array(np.nonzero(present)[1]))
    values = pa.array([text for texts in zip(*columns.values(), strict=True) for text in texts if text is not None])
    return pa.MapArray.from_arrays(pa.array(offsets), keys, values.cast(pa.string()))


def rejected_rows(rejects: Rejects, frames: Frames, schema: pa.Schema) -> pa.Table:
    """Return the rows of the rejected table.

    Each holds its frame's bytes; but where these copies would be over 256 KiB, only the frame's first row does, and the
    errors of the others name it.
    """
    at = rejects.frames
    count = len(at)
    # By position: the frame index whose row alone holds the bytes, of frames with too many copies.
    copies = Counter(at)
    crowded = {p for p, each in copies.items() if each > 1 and each * len(frames.payloads[p]) > _MOST_COPIED}
    holders: dict[int, int] = {}
    for p, index in zip(at, rejects.indexes, strict=True):
        if p in crowded:
            holders[p] = min(index, holders.get(p, index))
    elsewhere = [holders.get(p, index) != index for p, index in zip(at, rejects.indexes, strict=True)]
    errors = [
        f"{error}; its bytes stand at frame_index {holders[p]}" if away else error
        for error, p, away in zip(rejects.errors, at, elsewhere, strict=True)
    ]
    payloads = [b"" if away else frames.payloads[p] for p, away in zip(at, elsewhere, strict=True)]
    undecoded = np.array([position in frames.errors for position in at], dtype=bool)
    columns: dict[str, Any] = {
        "kafka_topic": pa.repeat(frames.topic, count),
        "topic_id": pa.repeat(frames.topic_id, count),
        "kafka_partition": pa.array([frames.partitions[p] for p in at], pa.int32()),
        "kafka_offset": pa.array([frames.offsets[p] for p in at], pa.int64()),
        "frame_index": pa.array(rejects.indexes, pa.int32()),
        "received_ns": pa.array([int(frames.received_ns[p]) for p in at], pa.int64(), mask=undecoded),
        "ingestion_timestamp": pa.array([int(frames.ingestion_us[p]) for p in at], TIMESTAMP),
        "reason": pa.array(rejects.reasons, pa.string()),
        "error": pa.array(errors, pa.string()),
        "payload": pa.array(payloads, pa.binary()),
    }
    return pa.table([columns[name] for name in schema.names], schema=schema)
