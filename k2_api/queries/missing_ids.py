"""Trade ids that are missing from gold between ids that stand there, and the verdict that follows from them.

Only venues whose ids rise by one per symbol are served so far; there, a hole in the ids is a trade that is missing.
Where ids begin again, each epoch is judged by itself. Ids that fall by more than what comes unordered make no hole.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final, Literal

from k2_api.lake.duckdb_engine import ROWS, Row
from k2_api.lake.file_index import Filter
from k2_api.lake.lake_reader import PinnedTable
from k2_api.queries.conditions import conditions
from k2_core.epochs import BREAK_US, NO_EPOCHS, Epochs
from k2_core.timeframes import MINUTE_US

Status = Literal["complete", "partial", "unknown"]
Market = tuple[str, str]
"""Exchange and symbol."""

FAR_OUT_OF_ORDER_US: Final = 24 * 60 * MINUTE_US
"""An id is looked for among trades up to a day before and after its neighbours: venues publish ids a little out of
order by their own clock, never by days."""

_NO_END: Final = 2**62
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


@dataclass(frozen=True)
class Ids:
    """The trades whose ids are judged, and where the ids of an instrument began again."""

    trades: PinnedTable
    epochs: Epochs = NO_EPOCHS

    def epoch(self, market: Market, moment_us: int) -> tuple[int, int]:
        """Return from when until when, in µs, the ids of a moment's epoch run."""
        starts = self.epochs.starts(*market)
        place = bisect_right(starts, moment_us)
        return (starts[place - 1] if place else 0), (starts[place] if place < len(starts) else _NO_END)


def judge_trades(ids: Ids, rows: Sequence[Row], beyond: Row | None) -> Verdict:
    """Judge a page of trades by the ids of its rows, up to the row that begins the next page.

    Over a place where ids begin again nothing is missing for certain, and nothing is complete.
    """
    if not rows:
        return Verdict("unknown", 0, ())
    found: defaultdict[tuple[Market, tuple[int, int]], list[tuple[int, int]]] = defaultdict(list)
    for row in [*rows, beyond] if beyond else rows:
        market = row["exchange"], row["symbol"]
        epoch = ids.epoch(market, row["timestamp_us"])
        found[market, epoch].append((row["source_sequence"], row["timestamp_us"]))
    holes = [hole for (market, epoch), pairs in sorted(found.items()) for hole in _of_page(ids, market, epoch, pairs)]
    missing = sum(hole.missing for hole in holes)
    over_a_break = len(found) > len({market for market, _ in found})
    return Verdict("partial" if missing else "unknown" if over_a_break else "complete", missing, tuple(holes))


def judge_candles(ids: Ids, candles: Sequence[Row]) -> Verdict:
    """Judge candles by what they say of themselves; count what is missing from the ids around their windows.

    A hole on a boundary marks two candles and is counted once. The count is never below what a single candle says, even
    when gold has been repaired since the candle was built.
    """
    lacking = [candle for candle in candles if candle["missing_trades"] > 0]
    holes: set[Hole] = set()
    missing = 0
    for market, group in groupby(sorted(lacking, key=_market), key=_market):
        own = list(group)
        found = _holes_of_candles(ids, market, own)
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


def _of_page(ids: Ids, market: Market, epoch: tuple[int, int], pairs: list[tuple[int, int]]) -> list[Hole]:
    ordered = sorted(pairs)
    open_ids = [(low, high) for (low, _), (high, _) in pairwise(ordered) if high - low > 1]
    if not open_ids:
        return []
    times = [moment for _, moment in pairs]
    return _holes_between(ids.trades, market, (open_ids[0][0], open_ids[-1][1]), (min(times), max(times)), epoch)


def _holes_of_candles(ids: Ids, market: Market, candles: Sequence[Row]) -> set[Hole]:
    spans = _merged((candle["start_us"], candle["end_us"]) for candle in candles)
    return {hole for span in spans for hole in _holes_around(ids, market, span)}


def _holes_around(ids: Ids, market: Market, span: tuple[int, int]) -> Iterator[Hole]:
    """Return the holes from the trade before a span to the one after it, in each epoch by itself."""
    exchange, symbol = market
    start_us, end_us = span
    before = _bounding_trade(ids.trades, Filter(symbol, exchange, end_us=start_us), newest=True)
    after = _bounding_trade(ids.trades, Filter(symbol, exchange, start_us=end_us), newest=False)
    low, first_us = before or (_NO_LOWER, start_us)
    high, last_us = after or (_NO_UPPER, end_us)
    epoch = ids.epoch(market, first_us)
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
    rows = trades.first_rows(sql, where, params, rows=1, newest=newest, query_type="bounding_trade")
    return (rows[0]["id"], rows[0]["moment"]) if rows else None


def _holes_between(
    trades: PinnedTable, market: Market, ids: tuple[int, int], times: tuple[int, int], epoch: tuple[int, int]
) -> list[Hole]:
    """Return the holes in the ids from ``ids[0]`` to ``ids[1]`` that gold holds of an epoch around those times."""
    exchange, symbol = market
    first_us, end_us = max(times[0] - FAR_OUT_OF_ORDER_US, epoch[0]), min(times[1] + FAR_OUT_OF_ORDER_US, epoch[1])
    where = Filter(symbol, exchange, first_us, end_us)
    clauses, params = conditions(where, "timestamp")
    params |= {"low": ids[0], "high": ids[1], "unordered": BREAK_US}
    sql = _HOLES.replace("@conditions", " AND ".join(clauses))
    rows = trades.rows_with_sequences(sql, where, params, ids, "holes")
    return [Hole(exchange, symbol, **row) for row in rows]


_HOLES: Final = f"""
    SELECT before, after, least(start_us, end_us) AS start_us, greatest(start_us, end_us) AS end_us FROM (
        SELECT source_sequence AS before, lead(source_sequence) OVER by_id AS after,
               epoch_us(timestamp) AS start_us, epoch_us(lead(timestamp) OVER by_id) AS end_us
        FROM {ROWS} WHERE @conditions AND source_sequence BETWEEN $low AND $high
        WINDOW by_id AS (ORDER BY source_sequence)
    ) AS neighbours
    WHERE after - before > 1 AND start_us <= end_us + $unordered ORDER BY before
"""  # noqa: S608  # nothing in it comes from a caller
