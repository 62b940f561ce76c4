"""Trade ids that gold lacks between ids that it holds, and the verdict on an answer that follows from them.

The rule: all venues so far number the trades of a symbol one by one, so an id that is missing between two others is a
trade that is missing. Some venues begin their ids again: then each epoch is judged by itself, and what happened between
two epochs is not known. A trade whose id is lower than that of a much earlier trade marks such a break, and no hole.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from k2_api.lake.duckdb_engine import ROWS
from k2_api.lake.file_index import Filter
from k2_api.lake.lake_reader import PinnedTable
from k2_api.queries.conditions import conditions
from k2_core.epochs import BREAK_US, NO_EPOCHS, Epochs
from k2_core.timeframes import MINUTE_US

Status = Literal["complete", "partial", "unknown"]
Market = tuple[str, str]
"""Exchange and symbol."""

FAR_OUT_OF_ORDER_US: Final = 24 * 60 * MINUTE_US
"""A missing id is looked for among trades up to a day before and after its neighbours: venues number trades a little
out of order of their times, never by days."""

_NO_END: Final = 2**62
_MERGED_WITHIN_US: Final = 30 * MINUTE_US  # windows this close are searched by one query
_NO_LOWER, _NO_UPPER = -1, 2**63 - 1


@dataclass(frozen=True, order=True)
class Hole:
    """Ids missing between two trades that follow each other by id; times are those of the two trades."""

    exchange: str
    symbol: str
    before: int
    after: int
    start_us: int
    end_us: int

    @property
    def missing(self) -> int:
        """How many ids are missing."""
        return self.after - self.before - 1


@dataclass(frozen=True)
class Verdict:
    """What an answer lacks. ``missing_trades`` may exceed the sum of the holes while candles lag behind a repair."""

    status: Status
    missing_trades: int
    holes: tuple[Hole, ...]


UNKNOWN: Final = Verdict("unknown", 0, ())
"""Of what is not judged."""


@dataclass(frozen=True)
class Ids:
    """The trades whose ids are judged, and where the ids of an instrument began again."""

    trades: PinnedTable
    epochs: Epochs = NO_EPOCHS

    def epoch(self, market: Market, moment_us: int) -> tuple[int, int]:
        """Return the start and the end, in µs, of the epoch that a moment belongs to."""
        starts = self.epochs.starts(*market)
        place = bisect_right(starts, moment_us)
        return (starts[place - 1] if place else 0), (starts[place] if place < len(starts) else _NO_END)


def judge_trades(ids: Ids, rows: pa.Table) -> Verdict:
    """Judge trades by the ids of a page's rows, up to the row that begins the next page, which is among them.

    ``partial``: gold lacks an id between two of them. ``unknown``: it lacks none, but they go over a place where ids
    begin again, or there are none. Else ``complete``.
    """
    if not rows.num_rows:
        return Verdict("unknown", 0, ())
    pages: defaultdict[tuple[Market, tuple[int, int]], list[tuple[int, int]]] = defaultdict(list)
    times = rows["timestamp"].cast(pa.int64())
    columns = (rows["exchange"], rows["symbol"], rows["source_sequence"], times)
    for exchange, symbol, sequence, moment in zip(*(each.to_pylist() for each in columns), strict=True):
        pages[(exchange, symbol), ids.epoch((exchange, symbol), moment)].append((sequence, moment))
    holes: list[Hole] = []
    for (market, epoch), pairs in sorted(pages.items()):
        # An id that is not on the page is no hole yet. Pages follow the times of trades, and ids are a little out of
        # order of times: the trade may be on a page before or after. So gold is asked for the ids in between.
        open_ids = [(low, high) for (low, _), (high, _) in pairwise(sorted(pairs)) if high - low > 1]
        if open_ids:
            times = [moment for _, moment in pairs]
            reach = (open_ids[0][0], open_ids[-1][1])
            holes += _holes_between(ids.trades, market, reach, (min(times), max(times)), epoch)
    missing = sum(hole.missing for hole in holes)
    over_a_break = len(pages) > len({market for market, _ in pages})
    return Verdict("partial" if missing else "unknown" if over_a_break else "complete", missing, tuple(holes))


def judge_candles(ids: Ids, candles: pa.Table) -> Verdict:
    """Judge candles by their own counts of missing trades; count each missing id once.

    A candle counts the ids that are missing between its bounding trades: the last trade before its window and the first
    one after it. A hole on the boundary of two windows is therefore in the count of both. So the holes themselves are
    searched for and counted. The sum is never below the count of a single candle, even when gold has been repaired
    since the candle was built.
    """
    lacking: defaultdict[Market, list[tuple[int, int, int]]] = defaultdict(list)
    some = candles.filter(pc.greater(candles["missing_trades"], 0))
    times = (some[name].cast(pa.int64()) for name in ("window_start", "window_end"))
    columns = (some["exchange"], some["symbol"], *times, some["missing_trades"])
    for exchange, symbol, *candle in zip(*(each.to_pylist() for each in columns), strict=True):
        lacking[exchange, symbol].append(tuple(candle))
    holes: set[Hole] = set()
    missing = 0
    for market, own in lacking.items():
        spans: list[tuple[int, int]] = []
        for start, end, _ in sorted(own):
            if spans and start - spans[-1][1] <= _MERGED_WITHIN_US:
                spans[-1] = spans[-1][0], max(end, spans[-1][1])
            else:
                spans.append((start, end))
        found = {hole for span in spans for hole in _holes_around(ids, market, span)}
        holes |= found
        missing += max(sum(hole.missing for hole in found), *(count for _, _, count in own))
    if missing:
        return Verdict("partial", missing, tuple(sorted(holes)))
    proved = candles.num_rows > 0 and pc.all(candles["is_complete"]).as_py()
    return Verdict("complete" if proved else "unknown", 0, ())


def _holes_around(ids: Ids, market: Market, span: tuple[int, int]) -> Iterator[Hole]:
    """Yield the holes between the bounding trades of a span, in each epoch by itself."""
    exchange, symbol = market
    start_us, end_us = span
    before = _bounding_trade(ids.trades, Filter((symbol,), (exchange,), end_us=start_us), newest=True)
    after = _bounding_trade(ids.trades, Filter((symbol,), (exchange,), start_us=end_us), newest=False)
    low, first_us = before or (_NO_LOWER, start_us)
    high, last_us = after or (_NO_UPPER, end_us)
    epoch = ids.epoch(market, first_us)
    # Only the first epoch has a lowest id, and only the last one a highest: those of the bounding trades. An epoch that
    # begins or ends between them is searched from its first trade or up to its last one.
    while epoch[1] <= last_us:
        yield from _holes_between(ids.trades, market, (low, _NO_UPPER), (first_us, epoch[1]), epoch)
        epoch = ids.epoch(market, epoch[1])
        low, first_us = _NO_LOWER, epoch[0]
    yield from _holes_between(ids.trades, market, (low, high), (first_us, last_us), epoch)


def _bounding_trade(trades: PinnedTable, where: Filter, *, newest: bool) -> tuple[int, int] | None:
    clauses, params = conditions(where, "timestamp")
    direction = "DESC" if newest else "ASC"
    # The words are fixed above; values are parameters.
    sql = f"""
        SELECT source_sequence AS id, epoch_us(timestamp) AS moment FROM {ROWS} WHERE {" AND ".join(clauses)}
        ORDER BY timestamp {direction}, source_sequence {direction}, trade_id {direction} LIMIT 1
    """  # noqa: S608
    rows = trades.first_rows(sql, where, params, rows=1, newest=newest, query_type="bounding_trade").to_pylist()
    return (rows[0]["id"], rows[0]["moment"]) if rows else None


def _holes_between(
    trades: PinnedTable, market: Market, ids: tuple[int, int], times: tuple[int, int], epoch: tuple[int, int]
) -> list[Hole]:
    """Return the holes between the ids from ``ids[0]`` to ``ids[1]`` that gold holds of an epoch around those times."""
    exchange, symbol = market
    first_us, end_us = max(times[0] - FAR_OUT_OF_ORDER_US, epoch[0]), min(times[1] + FAR_OUT_OF_ORDER_US, epoch[1])
    where = Filter((symbol,), (exchange,), first_us, end_us)
    clauses, params = conditions(where, "timestamp")
    params |= {"low": ids[0], "high": ids[1], "unordered": BREAK_US}
    sql = _HOLES.replace("@conditions", " AND ".join(clauses))
    rows = trades.rows_with_sequences(sql, where, params, ids, "holes").to_pylist()
    return [Hole(exchange, symbol, **row) for row in rows]


# Each id is compared with the next higher one that gold holds. If that one is earlier by more than trades come out of
# order, the ids have begun again between the two, without anybody having recorded an epoch: no trade is missing there.
_HOLES: Final = f"""
    SELECT before, after, least(start_us, end_us) AS start_us, greatest(start_us, end_us) AS end_us FROM (
        SELECT source_sequence AS before, lead(source_sequence) OVER by_id AS after,
               epoch_us(timestamp) AS start_us, epoch_us(lead(timestamp) OVER by_id) AS end_us
        FROM {ROWS} WHERE @conditions AND source_sequence BETWEEN $low AND $high
        WINDOW by_id AS (ORDER BY source_sequence)
    ) AS neighbours
    WHERE after - before > 1 AND start_us <= end_us + $unordered ORDER BY before
"""  # noqa: S608  # nothing in it comes from a caller
