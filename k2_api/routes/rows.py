"""Trades and quotes: GET for one market, POST for many, for a snapshot, and for a replay."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from k2_api.formats.formats import Format
from k2_api.http import request_record
from k2_api.http.answers import Page, file_headers, form_of, page_answer, streamed_answer
from k2_api.http.caching import conditional
from k2_api.http.cursors import Position
from k2_api.http.deps import Reading, TheReading, once_each
from k2_api.http.envelope import completeness
from k2_api.http.openapi import READ_ERRORS
from k2_api.http.parameters import MAX_JSON_ROWS, QuotesBody, ReplayBody, RowsParameters, SnapshotBody, TradesBody
from k2_api.http.response_models import Envelope, Quote, Trade
from k2_api.lake.file_index import Filter
from k2_api.lake.lake_reader import LakeReader, PinnedTable
from k2_api.queries.missing_ids import UNKNOWN, Ids, judge_trades
from k2_api.queries.row_pages import KINDS, DataType, Kind, RowsPage, RowsQuestion, batches, count_rows, rows_page

Columns = dict[str, Any]
"""A row of the columns that were asked for."""

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


@router.post("/trades/query", response_model=Envelope[Columns], responses=READ_ERRORS, summary="Trades of many symbols")
def query_trades(body: TradesBody, reading: TheReading) -> Response:
    """Return trades of many symbols in one order of time, so that none waits for another; only the asked columns.

    Completeness is judged as of `GET /v1/trades`; it is `unknown` where prices or quantities are bounded.
    """
    return reading.answer(lambda: _queried("trades", body, reading))


@router.post("/quotes/query", response_model=Envelope[Columns], responses=READ_ERRORS, summary="Quotes of many symbols")
def query_quotes(body: QuotesBody, reading: TheReading) -> Response:
    """Return quotes of many symbols in one order of time; only the asked columns."""
    return reading.answer(lambda: _queried("quotes", body, reading))


@router.post(
    "/snapshots/{snapshot_id}/query",
    response_model=Envelope[Columns],
    responses=READ_ERRORS,
    summary="Rows as a table was",
)
def query_snapshot(
    snapshot_id: Annotated[str, Path(pattern=r"^\d{1,20}$")], body: SnapshotBody, reading: TheReading
) -> Response:
    """Return the newest rows of trades or quotes as the table was at one of its snapshots."""

    def answer() -> Response:
        asked, kind = _asked(body, body.limit), KINDS[body.data_type]
        table = _pinned(reading, kind, asked, snapshot_id)
        return _page(reading, table, RowsQuestion(kind, reading.narrowed(body.where())), asked)

    return reading.answer(answer)


@router.post("/replay", response_model=Envelope[Columns], responses=READ_ERRORS, summary="Rows in the order of events")
def replay(body: ReplayBody, reading: TheReading) -> Response:
    """Return trades or quotes of many symbols, oldest first, page by page; all pages show one snapshot."""

    def answer() -> Response:
        asked, kind = _asked(body, body.batch_size), KINDS[body.data_type]
        table = _pinned(reading, kind, asked, body.snapshot_id)
        return _page(reading, table, RowsQuestion(kind, reading.narrowed(body.where()), newest=False), asked)

    return reading.answer(answer)


@dataclass(frozen=True)
class _Asked:
    """Which page of an answer is asked for: of which question, from where on, how many rows, in which form."""

    canonical: str
    cursor: str | None
    limit: int
    form: Format | None


def _asked(body: TradesBody | QuotesBody | SnapshotBody | ReplayBody, limit: int) -> _Asked:
    request_record.current().body = body.canonical()
    return _Asked(body.canonical(), body.cursor, limit, body.format)


def _answer(data: DataType, query: RowsParameters, reading: Reading) -> Response:
    asked, kind = _Asked(query.canonical(), query.cursor, query.limit, query.format), KINDS[data]
    table = _pinned(reading, kind, asked, query.as_of)
    question = RowsQuestion(kind, reading.narrowed(query.where()), newest=query.order == "desc")
    form = form_of(reading.request, query.format)
    return conditional(reading.request, [table], 5, lambda: _page(reading, table, question, asked), form)


def _queried(data: DataType, body: TradesBody | QuotesBody, reading: Reading) -> Response:
    asked, kind, form = _asked(body, body.limit), KINDS[data], form_of(reading.request, body.format)
    table, fields = _pinned(reading, kind, asked, body.as_of), tuple(map(str, body.fields))
    question = RowsQuestion(kind, reading.narrowed(body.where()), body.order == "desc", fields, body.bounds())
    if body.limit <= MAX_JSON_ROWS:
        return _page(reading, table, question, asked)
    if form is Format.JSON:
        message = f"limit: JSON holds up to {MAX_JSON_ROWS:,} rows; ask for ndjson, csv, parquet or arrow, or for pages"
        raise RequestValidationError([{"loc": ("body", "limit"), "msg": message}])
    if body.cursor is not None:
        message = f"cursor: pages have up to {MAX_JSON_ROWS:,} rows; more are sent in one answer, without a cursor"
        raise RequestValidationError([{"loc": ("body", "cursor"), "msg": message}])
    limit = reading.rows(body.limit)
    headers = file_headers(data, form, min(count_rows(table, question), limit), table)
    return streamed_answer(headers, form, question.schema, batches(table, question, limit))


def _pinned(reading: Reading, kind: Kind, asked: _Asked, as_of: str | None) -> PinnedTable:
    lake, position = reading.services.lake, reading.position(asked.cursor, asked.canonical)
    return lake.pin_id(kind.shape, position.snapshots[0]) if position else lake.pin(kind.shape, as_of)


def _page(reading: Reading, table: PinnedTable, question: RowsQuestion, asked: _Asked) -> Response:
    position = reading.position(asked.cursor, asked.canonical)
    limit = reading.rows(asked.limit)
    page = rows_page(table, question, position.last if position else None, limit)
    # The cursor names the snapshot, so that all pages show the same state of the table.
    cursor = None if page.last is None else reading.next_cursor(Position((table.number,), page.last), asked.canonical)
    said = _judged(reading.services.lake, table, question, page)
    shown = Page(question.kind.name, page.answer(question), table, said, limit, cursor)
    return page_answer(shown, form_of(reading.request, asked.form))


def _judged(lake: LakeReader, table: PinnedTable, question: RowsQuestion, page: RowsPage) -> dict[str, object]:
    """Return what is known of what a page lacks."""
    # Of rows that are chosen by price or quantity, ids are missing on purpose.
    is_trades = question.kind is KINDS["trades"] and not question.bounds
    verdict = judge_trades(Ids(table, lake.epochs()), page.with_beyond()) if is_trades else UNKNOWN
    return completeness(verdict, lake.data_until(table, Filter(question.where.symbols, question.where.exchanges)))
