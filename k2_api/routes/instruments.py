"""GET /v1/instruments."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from k2_api.http.answers import Page, form_of, page_answer
from k2_api.http.caching import conditional
from k2_api.http.cursors import Position
from k2_api.http.deps import Reading, TheReading, once_each
from k2_api.http.envelope import completeness
from k2_api.http.openapi import READ_ERRORS
from k2_api.http.parameters import InstrumentsParameters
from k2_api.http.response_models import Envelope, Instrument
from k2_api.lake.file_groups import INSTRUMENTS
from k2_api.queries.instrument_pages import instruments_page
from k2_api.queries.missing_ids import UNKNOWN

router = APIRouter(prefix="/v1", tags=["symbols"], dependencies=[Depends(once_each)])


@router.get(
    "/instruments", response_model=Envelope[Instrument], responses=READ_ERRORS, summary="The register of instruments"
)
def get_instruments(query: Annotated[InstrumentsParameters, Query()], reading: TheReading) -> Response:
    """Return every version of every instrument that the venues list, in order of exchange, symbol and `valid_from`.

    The version that holds now has `valid_to` null. A version ends, and another begins, when the venue changes a size or
    a status; an instrument that the venue no longer lists has a last version with the status `delisted`.

    Completeness is not judged here: its `status` is always `unknown`.
    """
    return reading.answer(lambda: _answer(query, reading))


def _answer(query: InstrumentsParameters, reading: Reading) -> Response:
    where, limit = reading.narrowed(query.where()), reading.rows(query.limit)
    form = form_of(reading.request, query.format)
    lake, position = reading.services.lake, reading.position(query.cursor, query.canonical())
    register = lake.pin_id(INSTRUMENTS, position.snapshots[0]) if position else lake.pin(INSTRUMENTS, query.as_of)

    def answer() -> Response:
        page = instruments_page(register, where, position.last if position else None, limit)
        cursor = None
        if page.last is not None:
            cursor = reading.next_cursor(Position((register.number,), page.last), query.canonical())
        return page_answer(Page("instruments", page.rows, register, completeness(UNKNOWN, None), limit, cursor), form)

    return conditional(reading.request, [register], 300, answer, form)
