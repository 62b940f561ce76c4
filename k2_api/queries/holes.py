"""Trade ids that are missing from gold between ids that stand there, and the verdict that follows from them.

Only venues whose ids rise by one per symbol are served so far; there, a hole in the ids is a trade that is missing.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final, Literal

from k2_api.engine import ROWS, Row
from k2_api.file_index import Filter
from k2_api.lake_reader import PinnedTable
from k2_api.queries.conditions import conditions
from k2_core.candles import MINUTE_US

Status = Literal["complete", "partial", "unknown"]

FAR_OUT_OF_ORDER_US: Final = 24 * 60 * MINUTE_US
"""An id is looked for among trades up to a day before and after its neighbours: venues publish ids a little out of
order by their own clock, never by days."""

_MERGED_WITHIN_US: Final = 30 * MINUTE_US
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
    """What an answer lacks. ``missing_trades`` may exceed what the holes say while candles lag behind a repair."""

    status: Status
    missing_trades: int
    holes: tuple[Hole, ...]


def judge_trades(trades: PinnedTable, rows: Sequence[Row], beyond: Row | None) -> Verdict:
    """Judge a page of trades by the ids of its rows, up to the row that begins the next page."""
    if not rows:
        return Verdict("unknown", 0, ())
    ids: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for row in [*rows, beyond] if beyond else rows:
        ids[row["exchange"], row["symbol"]].append((row["source_sequence"], row["timestamp_us"]))
    holes = [hole for market, pairs in sorted(ids.items()) for hole in _holes_of_page(trades, market, pairs)]
    missing = sum(hole.missing for hole in holes)
    return Verdict("partial" if missing else "complete", missing, tuple(holes))


def judge_candles(trades: PinnedTable, candles: Sequence[Row]) -> Verdict:
    """Judge candles by what they say of themselves; count what is missing from the ids around their windows.

    A hole on a boundary marks two candles and is counted once. The count is never below what a single candle says, even
    when gold has been repaired since the candle was built.
    """
    lacking = [candle for candle in candles if candle["missing_trades"] > 0]
    holes: set[Hole] = set()
    missing = 0
    for market, group in groupby(sorted(lacking, key=_market), key=_market):
        own = list(group)
        found = _holes_of_candles(trades, market, own)
        holes |= found
        missing += max(sum(hole.missing for hole in found), *(candle["missing_trades"] for candle in own))
    if missing:
        return Verdict("partial", missing, tuple(sorted(holes)))
    proven = bool(candles) and all(candle["is_complete"] for candle in candles)
    return Verdict("complete" if proven else "unknown", 0, ())


def _market(candle: Row) -> tuple[str, str]:
    return candle["exchange"], candle["symbol"]


def _merged(windows: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for start, end in sorted(windows):
        if spans and start - spans[-1][1] <= _MERGED_WITHIN_US:
            spans[-1] = spans[-1][0], max(end, spans[-1][1])
        else:
            spans.append((start, end))
    return spans


def _holes_of_page(trades: PinnedTable, market: tuple[str, str], pairs: list[tuple[int, int]]) -> list[Hole]:
    ordered = sorted(pairs)
    open_ids = [(low, high) for (low, _), (high, _) in pairwise(ordered) if high - low > 1]
    if not open_ids:
        return []
    times = [moment for _, moment in pairs]
    return _holes_between(trades, market, (open_ids[0][0], open_ids[-1][1]), (min(times), max(times)))


def _holes_of_candles(trades: PinnedTable, market: tuple[str, str], candles: Sequence[Row]) -> set[Hole]:
    spans = _merged((candle["start_us"], candle["end_us"]) for candle in candles)
    return {hole for span in spans for hole in _holes_around(trades, market, span)}


def _holes_around(trades: PinnedTable, market: tuple[str, str], span: tuple[int, int]) -> list[Hole]:
    exchange, symbol = market
    start_us, end_us = span
    before = _bounding_trade(trades, Filter(symbol, exchange, end_us=start_us), newest=True)
    after = _bounding_trade(trades, Filter(symbol, exchange, start_us=end_us), newest=False)
    low, first_us = before or (_NO_LOWER, start_us)
    high, last_us = after or (_NO_UPPER, end_us)
    return _holes_between(trades, market, (low, high), (first_us, last_us))


def _bounding_trade(trades: PinnedTable, where: Filter, *, newest: bool) -> tuple[int, int] | None:
    clauses, params = conditions(where, "timestamp")
    direction = "DESC" if newest else "ASC"
    # The words are fixed above; values are parameters.
    sql = f"""
        SELECT source_sequence AS id, epoch_us(timestamp) AS moment FROM {ROWS} WHERE {" AND ".join(clauses)}
        ORDER BY timestamp {direction}, source_sequence {direction}, trade_id {direction} LIMIT 1
    """  # noqa: S608
    rows = trades.first_rows(sql, where, params, rows=1, newest=newest, query_type="bounding_trade")
    return (rows[0]["id"], rows[0]["moment"]) if rows else None


def _holes_between(
    trades: PinnedTable, market: tuple[str, str], ids: tuple[int, int], times: tuple[int, int]
) -> list[Hole]:
    """Return the holes in the ids from ``ids[0]`` to ``ids[1]`` that gold holds around those times."""
    exchange, symbol = market
    where = Filter(symbol, exchange, times[0] - FAR_OUT_OF_ORDER_US, times[1] + FAR_OUT_OF_ORDER_US)
    clauses, params = conditions(where, "timestamp")
    params |= {"low": ids[0], "high": ids[1]}
    sql = _HOLES.replace("@conditions", " AND ".join(clauses))
    rows = trades.rows_with_sequences(sql, where, params, ids, "holes")
    return [Hole(exchange, symbol, **row) for row in rows]


_HOLES: Final = f"""
    SELECT before, after, start_us, end_us FROM (
        SELECT source_sequence AS before, lead(source_sequence) OVER by_id AS after,
               epoch_us(timestamp) AS start_us, epoch_us(lead(timestamp) OVER by_id) AS end_us
        FROM {ROWS} WHERE @conditions AND source_sequence BETWEEN $low AND $high
        WINDOW by_id AS (ORDER BY source_sequence)
    ) AS neighbours
    WHERE after - before > 1 ORDER BY before
"""  # noqa: S608  # nothing in it comes from a caller
