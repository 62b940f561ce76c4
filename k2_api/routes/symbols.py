"""GET /v1/symbols."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from k2_api.http.caching import conditional
from k2_api.http.deps import Reading, TheReading, once_each
from k2_api.http.envelope import completeness, page_of, pagination
from k2_api.http.openapi import READ_ERRORS
from k2_api.http.parameters import SymbolsParameters
from k2_api.http.response_models import Envelope, Symbol
from k2_api.lake.file_groups import TRADES
from k2_api.queries.missing_ids import Verdict
from k2_api.queries.traded_symbols import list_symbols

router = APIRouter(prefix="/v1", tags=["symbols"], dependencies=[Depends(once_each)])


@router.get("/symbols", response_model=Envelope[Symbol], responses=READ_ERRORS, summary="Symbols that have trades")
def get_symbols(query: Annotated[SymbolsParameters, Query()], reading: TheReading) -> Response:
    """Return every symbol of every exchange that has trades in gold, in order of symbol and exchange, in one answer.

    Completeness is not judged here: its `status` is always `unknown`.
    """
    return reading.answer(lambda: _answer(query, reading))


def _answer(query: SymbolsParameters, reading: Reading) -> Response:
    lake, where = reading.services.lake, reading.narrowed(query.where())
    trades = lake.pin(TRADES, query.as_of)

    def body() -> bytes:
        rows = reading.all_rows(list_symbols(trades, where))
        until = lake.data_until(trades, where)
        return page_of(rows, pagination(None, None), trades, completeness(Verdict("unknown", 0, ()), until))

    return conditional(reading.request, [trades], 300, body)
