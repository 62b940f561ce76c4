"""What gold says otherwise than before, of windows and days that were over: rows of gold_restatements. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

import polars as pl
import pyarrow as pa

from k2_assets.gold.candle_rows import SHAPE, Span
from k2_assets.gold.instrument_rows import KEY
from k2_assets.lake.commits import arrow_schema
from k2_core.lake.tables import GOLD_RESTATEMENTS

Reason = Literal["late", "repair", "rebuild", "correction"]
"""Rows came late, were fetched again, were computed again from what lies below, or were corrected by the venue."""
WINDOW: Final = (*KEY, "window_start")
CONTENT: Final = (*(name for name in SHAPE if name not in WINDOW), "is_complete", "missing_trades")
"""What makes a candle's value."""
SETTLES: Final = timedelta(minutes=2)
"""So long after a window's end, what the feeds sent in time may still come, and is no restatement."""
_SCHEMA: Final = arrow_schema(GOLD_RESTATEMENTS)
_KEY_SCHEMA: Final = dict.fromkeys(KEY, pl.String)


@dataclass(frozen=True)
class Restating:
    """A change of one table: which, why, and when it was computed."""

    table: str
    reason: Reason
    at: datetime


def restated_windows(
    what: Restating,
    spans: list[Span],
    existing: pl.DataFrame,
    changed: pl.DataFrame,
    *,
    known_day: bool,
    began: datetime,
) -> pa.Table | None:
    """Return the restatements of candles; None where there is none.

    A candle was over when it was complete, or when its window had ended and the instrument had traded after it: then
    every reader took it for final. A window without a candle was over when candles were on both sides of it, on a day
    that had been taken in before. What this refresh itself wrote, batch by batch, nobody took for final.

    Args:
        what: the change.
        spans: what was computed.
        existing: the candles before it, of each instrument also the ones beside those that change.
        changed: the windows that change, with the new values; nulls where the candle goes.
        known_day: whether the table had taken in trades of the day before.
        began: when the refresh began that makes the change, maybe in several batches.
    """
    start, known = pl.col("window_start"), pl.col("created_at") <= what.at - SETTLES
    edges = existing.group_by(KEY).agg(
        start.min().alias("first"), start.max().alias("last"), start.filter(known).max().alias("last_known")
    )
    before = existing.select(*WINDOW, pl.exclude(WINDOW).name.suffix("_before"))
    both = changed.join(before, on=WINDOW, how="left").join(edges, on=KEY, how="left")
    is_new, ended = pl.col("is_complete_before").is_null(), pl.coalesce("window_end", "window_end_before")
    ended = ended + SETTLES <= what.at
    # A catch-up takes the newest day first, and what lies before it fills up at once: that is no news to anybody.
    filled = ended & (start > pl.col("first")) & (start < pl.col("last_known")).fill_null(value=False) & known_day
    keys = pl.DataFrame([(s.exchange, s.symbol) for s in spans if s.is_followed], _KEY_SCHEMA, orient="row")
    both = both.join(keys.with_columns(is_followed=True), on=KEY, how="left")
    later = (start < pl.col("last")) | pl.col("is_followed").fill_null(value=False)
    followed = (pl.col("is_complete_before") | (ended & later)) & (pl.col("created_at_before") < began)
    over = pl.when(is_new).then(filled).otherwise(followed)
    rows = []
    for row in both.filter(over).iter_rows(named=True):
        was = {name: row[f"{name}_before"] for name in CONTENT}
        after = {name: row[name] for name in CONTENT}
        if was != after:  # the ids that no reader sees may differ alone
            end = row["window_end"] or row["window_end_before"]
            rows.append(_row(what, (row["exchange"], row["symbol"]), (row["window_start"], end), was, after))
    return _table(rows)


def restated_days(
    what: Restating, day: tuple[datetime, datetime], before: pl.DataFrame, added: pl.DataFrame, removed: pl.DataFrame
) -> pa.Table | None:
    """Return the restatements of a day of trades or quotes that was over; None where there is none.

    Args:
        what: the change.
        day: its start and its end, exclusive.
        before: the instruments (exchange, symbol) of the day's rows before the change, one row each.
        added: those of the rows that come.
        removed: those of the rows that go.
    """
    names = ("rows", "added", "removed")
    counts = [frame.group_by(KEY).len(name) for name, frame in zip(names, (before, added, removed), strict=True)]
    both = counts[0].join(counts[1], on=KEY, how="left").join(counts[2], on=KEY, how="left").fill_null(0)
    rows = []
    for exchange, symbol, count, came, went in both.sort(KEY).iter_rows():
        if came or went:
            after = {"rows": count + came - went, "rows replaced": min(came, went)}
            rows.append(_row(what, (exchange, symbol), day, {"rows": count, "rows replaced": 0}, after))
    return _table(rows)


def differences(before: pl.DataFrame, after: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows of ``after`` that ``before`` does not have with the same values, and the other way round."""
    # A join of a hundred million rows on all columns would take many gigabytes: eight bytes of each row are compared.
    values = [name for name, kind in before.schema.items() if not kind.is_nested()]
    hashes = [rows.select(values).hash_rows() for rows in (before, after)]
    return after.filter(~hashes[1].is_in(hashes[0].implode())), before.filter(~hashes[0].is_in(hashes[1].implode()))


def _row(
    what: Restating,
    instrument: tuple[str, str],
    bounds: tuple[datetime, datetime],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> dict[str, Any]:
    differ = [name for name in after if before[name] != after[name]]
    return {
        "table": what.table,
        "exchange": instrument[0],
        "symbol": instrument[1],
        "window_start": bounds[0],
        "window_end": bounds[1],
        "reason": what.reason,
        "before": [(name, _text(before[name])) for name in differ if before[name] is not None],
        "after": [(name, _text(after[name])) for name in differ if after[name] is not None],
        "restated_at": what.at,
    }


def _text(value: object) -> str:
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(rows: list[dict[str, Any]]) -> pa.Table | None:
    return pa.Table.from_pylist(rows, schema=_SCHEMA) if rows else None
