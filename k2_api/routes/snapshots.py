"""GET /v1/snapshots."""

from typing import Annotated

import pyarrow as pa
from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from k2_api.http.answers import Page, form_of, page_answer
from k2_api.http.caching import conditional
from k2_api.http.deps import Reading, TheReading, once_each
from k2_api.http.envelope import completeness
from k2_api.http.openapi import NEWEST_ERRORS
from k2_api.http.parameters import SnapshotsParameters
from k2_api.http.response_models import Envelope, TableSnapshot
from k2_api.queries.missing_ids import UNKNOWN
from k2_api.queries.table_facts import SNAPSHOTS, newest_snapshots

router = APIRouter(prefix="/v1", tags=["tables"], dependencies=[Depends(once_each)])


@router.get(
    "/snapshots", response_model=Envelope[TableSnapshot], responses=NEWEST_ERRORS, summary="States that are kept"
)
def get_snapshots(query: Annotated[SnapshotsParameters, Query()], reading: TheReading) -> Response:
    """Return the newest `limit` states of a table that are kept, newest first; `as_of` takes their ids and tags.

    Every state of the last minutes is kept; of older ones those with a tag. A state is what a whole commit left:
    snapshots inside a commit, which nobody could see, are left out.

    Completeness is not judged here: its `status` is always `unknown`.
    """
    return reading.answer(lambda: _answer(query, reading))


def _answer(query: SnapshotsParameters, reading: Reading) -> Response:
    reading.require_every_exchange()
    form = form_of(reading.request, query.format)
    version = reading.services.lake.version(query.table)

    def answer() -> Response:
        rows = pa.Table.from_pylist(newest_snapshots(version, query.limit), SNAPSHOTS)
        return page_answer(Page("snapshots", rows, version, completeness(UNKNOWN, None), query.limit), form)

    return conditional(reading.request, [version], 10, answer, form)
