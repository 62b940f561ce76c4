"""GET /v1/trades."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from k2_api.http.caching import conditional
from k2_api.http.cursors import Position
from k2_api.http.deps import Reading, TheReading, once_each
from k2_api.http.envelope import completeness, page_of, pagination
from k2_api.http.openapi import READ_ERRORS
from k2_api.http.parameters import TradesParameters
from k2_api.http.response_models import Envelope, Trade
from k2_api.lake.file_groups import TRADES
from k2_api.lake.file_index import Filter
from k2_api.queries.missing_ids import Ids, judge_trades
from k2_api.queries.trade_pages import trades_page

router = APIRouter(prefix="/v1", tags=["trades"], dependencies=[Depends(once_each)])


@router.get("/trades", response_model=Envelope[Trade], responses=READ_ERRORS, summary="Trades, newest first")
def get_trades(query: Annotated[TradesParameters, Query()], reading: TheReading) -> Response:
    """Return trades of gold, where each appears once.

    They are ordered by `timestamp`, then by the venue's sequence. An unknown symbol or exchange has no trades.

    **Completeness** is judged per symbol and exchange from the venue's trade ids, which rise by one: `complete` when
    gold holds every id between the smallest and the largest of the answer, up to the first trade of the next page;
    `partial` when it lacks some: `missing_trades` and `gaps` give their number and places; `unknown` for no rows, and
    where the venue's ids begin again. The verdict does not cover what lies before the first or after the last trade of
    the range; `data_until` is the time of the newest trade.
    """
    return reading.answer(lambda: _answer(query, reading))


def _answer(query: TradesParameters, reading: Reading) -> Response:
    where, limit = reading.narrowed(query.where()), reading.rows(query.limit)
    lake, position = reading.services.lake, reading.position(query.cursor, query.canonical())
    trades = lake.pin_id(TRADES, position.snapshots[0]) if position else lake.pin(TRADES, query.as_of)

    def body() -> bytes:
        after = position.last if position else None
        page = trades_page(trades, where, after, limit, newest=query.order == "desc")
        verdict = judge_trades(Ids(trades, lake.epochs()), page.rows, page.beyond)
        # The cursor names the snapshot, so that all pages show the same state of the table.
        cursor = None
        if page.beyond is not None:
            cursor = reading.next_cursor(Position((trades.number,), page.keys[-1]), query.canonical())
        until = lake.data_until(trades, Filter(where.symbol, where.exchange))
        for row in page.rows:  # it was only needed to judge
            del row["timestamp_us"]
        return page_of(page.rows, pagination(limit, cursor), trades, completeness(verdict, until))

    return conditional(reading.request, [trades], 5, body)
