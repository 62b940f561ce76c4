"""GET /v1/trades and GET /v1/quotes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from k2_api.http.answers import Page, form_of, page_answer
from k2_api.http.caching import conditional
from k2_api.http.cursors import Position
from k2_api.http.deps import Reading, TheReading, once_each
from k2_api.http.envelope import completeness
from k2_api.http.openapi import READ_ERRORS
from k2_api.http.parameters import RowsParameters
from k2_api.http.response_models import Envelope, Quote, Trade
from k2_api.lake.file_index import Filter
from k2_api.lake.lake_reader import LakeReader, PinnedTable
from k2_api.queries.missing_ids import UNKNOWN, Ids, judge_trades
from k2_api.queries.row_pages import KINDS, DataType, RowsPage, RowsQuestion, rows_page

router = APIRouter(prefix="/v1", tags=["trades and quotes"], dependencies=[Depends(once_each)])


@router.get("/trades", response_model=Envelope[Trade], responses=READ_ERRORS, summary="Trades, newest first")
def get_trades(query: Annotated[RowsParameters, Query()], reading: TheReading) -> Response:
    """Return trades of gold, where each appears once.

    They are ordered by `timestamp`, then by the venue's sequence.

    **Completeness** is judged per symbol and exchange from the venue's trade ids, which rise by one: `complete` when
    gold holds every id between the smallest and the largest of the answer, up to the first trade of the next page;
    `partial` when it lacks some: `missing_trades` and `gaps` give their number and places; `unknown` for no rows, and
    where the venue's ids begin again. The verdict does not cover what lies before the first or after the last trade of
    the range; `data_until` is the time of the newest trade.
    """
    return reading.answer(lambda: _answer("trades", query, reading))


@router.get("/quotes", response_model=Envelope[Quote], responses=READ_ERRORS, summary="Quotes, newest first")
def get_quotes(query: Annotated[RowsParameters, Query()], reading: TheReading) -> Response:
    """Return quotes of gold: the best bid and offer of each venue, each time that they changed.

    They are ordered by `timestamp`, then by the venue's sequence where it has one.

    **Completeness** is `unknown`: venues do not number their quotes one by one. `data_until` is the newest quote.
    """
    return reading.answer(lambda: _answer("quotes", query, reading))


def _answer(data: DataType, query: RowsParameters, reading: Reading) -> Response:
    lake, position = reading.services.lake, reading.position(query.cursor, query.canonical())
    kind, form = KINDS[data], form_of(reading.request, query.format)
    table = lake.pin_id(kind.shape, position.snapshots[0]) if position else lake.pin(kind.shape, query.as_of)

    def answer() -> Response:
        question = RowsQuestion(kind, query.where(), newest=query.order == "desc")
        page = rows_page(table, question, position.last if position else None, query.limit)
        # The cursor names the snapshot, so that all pages show the same state of the table.
        cursor = (
            None if page.last is None else reading.next_cursor(Position((table.number,), page.last), query.canonical())
        )
        said = judged(lake, table, question, page)
        return page_answer(Page(data, page.answer(question), table, said, query.limit, cursor), form)

    return conditional(reading.request, [table], 5, answer, form)


def judged(lake: LakeReader, table: PinnedTable, question: RowsQuestion, page: RowsPage) -> dict[str, object]:
    """Return what is known of what a page lacks."""
    is_trades = question.kind is KINDS["trades"]
    verdict = judge_trades(Ids(table, lake.epochs()), page.with_beyond()) if is_trades else UNKNOWN
    return completeness(verdict, lake.data_until(table, Filter(question.where.symbols, question.where.exchanges)))
