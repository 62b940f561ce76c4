"""GET /v1/symbols."""

from typing import Annotated

import pyarrow as pa
from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from k2_api.http.answers import Page, form_of, page_answer
from k2_api.http.caching import conditional
from k2_api.http.deps import Reading, TheReading, once_each
from k2_api.http.envelope import completeness
from k2_api.http.openapi import READ_ERRORS
from k2_api.http.parameters import SymbolsParameters
from k2_api.http.response_models import Envelope, Symbol
from k2_api.lake.file_groups import TRADES
from k2_api.queries.missing_ids import UNKNOWN
from k2_api.queries.traded_symbols import SYMBOLS, list_symbols

router = APIRouter(prefix="/v1", tags=["symbols"], dependencies=[Depends(once_each)])


@router.get("/symbols", response_model=Envelope[Symbol], responses=READ_ERRORS, summary="Symbols that have trades")
def get_symbols(query: Annotated[SymbolsParameters, Query()], reading: TheReading) -> Response:
    """Return every symbol of every exchange that has trades in gold, in order of symbol and exchange, in one answer.

    Completeness is not judged here: its `status` is always `unknown`.
    """
    return reading.answer(lambda: _answer(query, reading))


def _answer(query: SymbolsParameters, reading: Reading) -> Response:
    lake, form = reading.services.lake, form_of(reading.request, query.format)
    where = reading.narrowed(query.where())
    trades = lake.pin(TRADES, query.as_of)

    def answer() -> Response:
        rows = reading.all_rows(pa.Table.from_pylist(list_symbols(trades, where), SYMBOLS))
        said = completeness(UNKNOWN, lake.data_until(trades, where))
        return page_answer(Page("symbols", rows, trades, said), form)

    return conditional(reading.request, [trades], 300, answer, form)
