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
from k2_api.lake.lake_reader import PinnedTable
from k2_api.queries.missing_ids import Ids, judge_trades
from k2_api.queries.trade_pages import trades_page

router = APIRouter(prefix="/v1", tags=["trades"], dependencies=[Depends(once_each)])


@router.get("/trades", response_model=Envelope[Trade], responses=READ_ERRORS, summary="Trades, newest first")
def get_trades(query: Annotated[TradesParameters, Query()], reading: TheReading) -> Response:
    """Return trades of gold, where each stands once.

    They are ordered by `timestamp`, then by the venue's sequence. An unknown symbol or exchange has no trades.

    **Completeness** is judged per symbol and exchange from the venue's trade ids, which rise by one: `complete` when
    every id between the smallest and the largest of the answer stands in gold, up to the first trade of the next page;
    `partial` when some do not, with `missing_trades` and `gaps` saying how many and where; `unknown` for no rows.
    Nothing is said of what lies before the first or after the last trade of the range: `data_until` tells how far the
    data reach.
    """
    return reading.answer(lambda: _answer(query, reading))


def _answer(query: TradesParameters, reading: Reading) -> Response:
    position = reading.position(query.cursor, query.canonical())
    lake = reading.services.lake
    trades = lake.pin_id(TRADES, position.snapshots[0]) if position else lake.pin(TRADES, query.as_of)
    return conditional(reading.request, [trades], 5, lambda: _body(query, reading, trades, position))


def _body(query: TradesParameters, reading: Reading, trades: PinnedTable, position: Position | None) -> bytes:
    after = position.last if position else None
    page = trades_page(trades, query.where(), after, query.limit, newest=query.order == "desc")
    verdict = judge_trades(Ids(trades, reading.services.lake.epochs()), page.rows, page.beyond)
    cursor = None
    if page.beyond is not None:
        cursor = reading.next_cursor(Position((trades.number,), page.keys[-1]), query.canonical())
    until = reading.services.lake.data_until(trades, Filter(query.symbol, query.exchange))
    for row in page.rows:
        del row["timestamp_us"]
    return page_of(page.rows, pagination(query.limit, cursor), trades, completeness(verdict, until))
