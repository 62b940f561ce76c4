"""Trades and quotes: GET for one market, POST for many, for a snapshot, and for a replay."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from k2_api.formats.formats import Format
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
from k2_api.queries.row_pages import KINDS, DataType, Limits, RowsPage, RowsQuestion, batches, count_rows, rows_page

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


@router.post("/trades/query", response_model=Envelope[Trade], responses=READ_ERRORS, summary="Trades of many symbols")
def query_trades(body: TradesBody, reading: TheReading) -> Response:
    """Return trades of many symbols in one order of time, so that none waits for another; only the asked columns."""
    return reading.answer(lambda: _queried("trades", body, body.fields, body.limits(), reading))


@router.post("/quotes/query", response_model=Envelope[Quote], responses=READ_ERRORS, summary="Quotes of many symbols")
def query_quotes(body: QuotesBody, reading: TheReading) -> Response:
    """Return quotes of many symbols in one order of time; only the asked columns."""
    return reading.answer(lambda: _queried("quotes", body, body.fields, body.limits(), reading))


@router.post(
    "/snapshots/{snapshot_id}/query",
    response_model=Envelope[dict[str, Any]],
    responses=READ_ERRORS,
    summary="Rows as a table was",
)
def query_snapshot(
    snapshot_id: Annotated[str, Path(pattern=r"^\d{1,20}$")], body: SnapshotBody, reading: TheReading
) -> Response:
    """Return the newest rows of trades or quotes as the table was at one of its snapshots."""

    def answer() -> Response:
        table = reading.services.lake.pin(KINDS[body.data_type].shape, snapshot_id)
        question = RowsQuestion(KINDS[body.data_type], reading.narrowed(body.where()))
        return _page(reading, table, question, Asked(body.canonical(), body.cursor, body.limit, body.format))

    return reading.answer(answer)


@router.post(
    "/replay", response_model=Envelope[dict[str, Any]], responses=READ_ERRORS, summary="Rows in the order of events"
)
def replay(body: ReplayBody, reading: TheReading) -> Response:
    """Return trades or quotes of many symbols, oldest first, page by page; all pages show one snapshot."""

    def answer() -> Response:
        kind, lake = KINDS[body.data_type], reading.services.lake
        position = reading.position(body.cursor, body.canonical())
        table = lake.pin_id(kind.shape, position.snapshots[0]) if position else lake.pin(kind.shape, body.snapshot_id)
        question = RowsQuestion(kind, reading.narrowed(body.where()), newest=False)
        return _page(reading, table, question, Asked(body.canonical(), body.cursor, body.batch_size, body.format))

    return reading.answer(answer)


@dataclass(frozen=True)
class Asked:
    """Which page of an answer is asked for: of which question, from where on, how many rows, in which form."""

    canonical: str
    cursor: str | None
    limit: int
    form: Format | None


def _answer(data: DataType, query: RowsParameters, reading: Reading) -> Response:
    asked = Asked(query.canonical(), query.cursor, query.limit, query.format)
    table = _pinned(reading, data, asked, query.as_of)
    question = RowsQuestion(KINDS[data], reading.narrowed(query.where()), newest=query.order == "desc")
    form = form_of(reading.request, query.format)
    return conditional(reading.request, [table], 5, lambda: _page(reading, table, question, asked), form)


def _queried(
    data: DataType,
    body: TradesBody | QuotesBody,
    fields: tuple[str, ...],
    limits: tuple[Limits, ...],
    reading: Reading,
) -> Response:
    asked, form = Asked(body.canonical(), body.cursor, body.limit, body.format), form_of(reading.request, body.format)
    table = _pinned(reading, data, asked, body.as_of)
    question = RowsQuestion(
        KINDS[data], reading.narrowed(body.where()), body.order == "desc", tuple(map(str, fields)), limits
    )
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


def _pinned(reading: Reading, data: DataType, asked: Asked, as_of: str | None) -> PinnedTable:
    lake, position = reading.services.lake, reading.position(asked.cursor, asked.canonical)
    return lake.pin_id(KINDS[data].shape, position.snapshots[0]) if position else lake.pin(KINDS[data].shape, as_of)


def _page(reading: Reading, table: PinnedTable, question: RowsQuestion, asked: Asked) -> Response:
    position = reading.position(asked.cursor, asked.canonical)
    limit = reading.rows(asked.limit)
    page = rows_page(table, question, position.last if position else None, limit)
    # The cursor names the snapshot, so that all pages show the same state of the table.
    cursor = None if page.last is None else reading.next_cursor(Position((table.number,), page.last), asked.canonical)
    said = judged(reading.services.lake, table, question, page)
    shown = Page(question.kind.name, page.answer(question), table, said, limit, cursor)
    return page_answer(shown, form_of(reading.request, asked.form))


def judged(lake: LakeReader, table: PinnedTable, question: RowsQuestion, page: RowsPage) -> dict[str, object]:
    """Return what is known of what a page lacks."""
    # Of rows that are chosen by price or quantity, ids are missing on purpose.
    is_trades = question.kind is KINDS["trades"] and not question.limits
    verdict = judge_trades(Ids(table, lake.epochs()), page.with_beyond()) if is_trades else UNKNOWN
    return completeness(verdict, lake.data_until(table, Filter(question.where.symbols, question.where.exchanges)))
