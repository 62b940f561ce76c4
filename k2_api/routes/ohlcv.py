"""GET /v1/ohlcv/{interval}."""

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from k2_api.http.answers import Page, form_of, page_answer
from k2_api.http.caching import conditional
from k2_api.http.cursors import Position
from k2_api.http.deps import Reading, TheReading, once_each
from k2_api.http.envelope import completeness
from k2_api.http.openapi import READ_ERRORS
from k2_api.http.parameters import CandlesParameters
from k2_api.http.response_models import Candle, Envelope
from k2_api.lake.file_groups import CANDLES, TRADES
from k2_api.lake.file_index import Filter
from k2_api.queries.candle_pages import candles_page
from k2_api.queries.missing_ids import Ids, judge_candles
from k2_core.timeframes import TIMEFRAMES

router = APIRouter(prefix="/v1/ohlcv", tags=["candles"], dependencies=[Depends(once_each)])


Interval = StrEnum("Interval", {each.name: each.name for each in TIMEFRAMES})  # type: ignore[misc]  # it knows literals
_SHAPES = {Interval(timeframe.name): CANDLES[timeframe] for timeframe in TIMEFRAMES}


@router.get("/{interval}", response_model=Envelope[Candle], responses=READ_ERRORS, summary="Candles")
def get_candles(interval: Interval, query: Annotated[CandlesParameters, Query()], reading: TheReading) -> Response:
    """Return candles, oldest first within an answer; every candle that is stored is served.

    With `start`, the first answer holds the oldest `limit` candles of the range and the cursor goes forward in time.
    Without it, the first answer holds the **newest** `limit` candles (before `end`, if given) and the cursor goes back.
    A window without a trade has no candle.

    **Completeness**: `complete` when every candle of the answer is; `partial` when trades are known to be missing;
    `unknown` when no trade is known to be missing but a candle is not proved complete, such as the newest one, or when
    there are no candles. `missing_trades` counts each missing id once; a hole on the boundary of two windows is in the
    `missing_trades` of both candles. `data_until` is the newest trade that these candles could be built from.
    """
    return reading.answer(lambda: _answer(interval, query, reading))


def _answer(interval: Interval, query: CandlesParameters, reading: Reading) -> Response:
    shape, form = _SHAPES[interval], form_of(reading.request, query.format)
    where, limit = reading.narrowed(query.where()), reading.rows(query.limit)
    # A cursor belongs to its question, and so to the table.
    lake, question = reading.services.lake, f"{shape.table}?{query.canonical()}"
    position = reading.position(query.cursor, question)
    # Candles are judged by the trades that they could be built from: those of the same moment, on every page.
    if position is not None:
        of_candles, of_trades = position.snapshots
        candles, trades = lake.pin_id(shape, of_candles), lake.pin_id(TRADES, of_trades)
    else:
        candles = lake.pin(shape, query.as_of)
        trades = lake.pin_beside(TRADES, candles)

    def answer() -> Response:
        after = position.last if position else None
        page = candles_page(candles, shape, where, after, limit, newest=query.start is None)
        verdict = judge_candles(Ids(trades, lake.epochs()), page.rows)
        cursor = (
            None
            if page.last is None
            else reading.next_cursor(Position((candles.number, trades.number), page.last), question)
        )
        said = completeness(verdict, lake.data_until(trades, Filter(where.symbols, where.exchanges)))
        return page_answer(Page(f"candles-{interval}", page.rows, candles, said, limit, cursor), form)

    return conditional(reading.request, (candles, trades), 5, answer, form)
