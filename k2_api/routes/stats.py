"""GET /v1/stats."""

from typing import Annotated

import pyarrow as pa
from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from k2_api.http.answers import Page, form_of, page_answer
from k2_api.http.caching import conditional
from k2_api.http.deps import Reading, TheReading, once_each
from k2_api.http.envelope import completeness
from k2_api.http.openapi import NEWEST_ERRORS
from k2_api.http.parameters import StatsParameters
from k2_api.http.response_models import Envelope, TableStats
from k2_api.lake.table_versions import TableVersion
from k2_api.queries.missing_ids import UNKNOWN
from k2_api.queries.table_facts import STATS, Facts, files_facts, snapshot_count
from k2_core.lake.tables import SERVED

router = APIRouter(prefix="/v1", tags=["tables"], dependencies=[Depends(once_each)])

_TIMES = {spec.name: spec.partition_by for spec in SERVED}


@router.get("/stats", response_model=Envelope[TableStats], responses=NEWEST_ERRORS, summary="How much there is")
def get_stats(query: Annotated[StatsParameters, Query()], reading: TheReading) -> Response:
    """Return how many rows, bytes, files and snapshots each served table has, and how new its newest row is.

    All of it is read from the tables' metadata. As the answer is about several tables, `meta` names none; completeness
    is not judged here: its `status` is always `unknown`.
    """
    return reading.answer(lambda: _answer(query, reading))


def _answer(query: StatsParameters, reading: Reading) -> Response:
    reading.require_every_exchange()
    form = form_of(reading.request, query.format)
    versions = [each for each in map(reading.services.lake.version, _TIMES) if each.table is not None]

    def answer() -> Response:
        rows = pa.Table.from_pylist([_row(each, reading) for each in versions], STATS)
        return page_answer(Page("stats", rows, None, completeness(UNKNOWN, None)), form)

    return conditional(reading.request, versions, 30, answer, form)


def _row(version: TableVersion, reading: Reading) -> Facts:
    # The files of a snapshot never change, and there may be very many of them.
    key = ("files", version.name, version.snapshot_id)
    files = reading.services.lake.remember(key, lambda: files_facts(version, _TIMES[version.name]))
    return {
        "table": version.name,
        **files,
        "snapshots": snapshot_count(version),
        "committed_at": version.committed_at,
    }
