"""Rows as an answer: in the envelope, or as a file in another form."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pyarrow as pa
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from k2_api.formats.formats import MEDIA_TYPES, Format, written
from k2_api.http import request_record
from k2_api.http.envelope import error_meta
from k2_api.lake.table_versions import TableState

_BY_MEDIA_TYPE: Final = {media: form for form, media in MEDIA_TYPES.items()}


@dataclass(frozen=True)
class Page:
    """The rows of an answer, and what it tells about them.

    ``name`` is that of the file; ``table`` is None where several were read, ``limit`` where all rows are in one answer.
    """

    name: str
    rows: pa.Table
    table: TableState | None
    completeness: dict[str, Any]
    limit: int | None = None
    next_cursor: str | None = None


def form_of(request: Request, asked: Format | None) -> Format:
    """Return the form that a caller wants: by the parameter, else by the header Accept, else JSON."""
    if asked is not None:
        return asked
    accepted = (each.partition(";")[0].strip() for each in request.headers.get("Accept", "").split(","))
    return next((_BY_MEDIA_TYPE[each] for each in accepted if each in _BY_MEDIA_TYPE), Format.JSON)


def page_answer(page: Page, form: Format) -> Response:
    """Return a page that is in memory whole."""
    rows = page.rows
    request_record.current().rows = rows.num_rows
    body = b"".join(written(form, rows.schema, iter(rows.combine_chunks().to_batches())))
    if form is Format.JSON:
        pagination = {"limit": page.limit, "next_cursor": page.next_cursor, "has_more": page.next_cursor is not None}
        meta = {
            **error_meta(),
            "table": page.table.name if page.table else None,
            "snapshot_id": page.table.snapshot_id if page.table else None,
            "as_of": page.table.committed_at if page.table else None,
            "completeness": page.completeness,
        }
        rest = msgspec.json.encode({"pagination": pagination, "meta": meta})
        return Response(b'{"success":true,"data":[' + body + b"]," + rest[1:], media_type=MEDIA_TYPES[form])
    headers = file_headers(page.name, form, rows.num_rows, page.table)
    headers["X-Completeness"] = str(page.completeness["status"])
    if page.next_cursor is not None:
        headers["X-Next-Cursor"] = page.next_cursor
    return Response(body, headers=headers, media_type=MEDIA_TYPES[form])


def streamed_answer(
    headers: dict[str, str], form: Format, schema: pa.Schema, batches: Iterator[pa.RecordBatch]
) -> Response:
    """Return rows that are read as they are sent."""
    body = (each for each in written(form, schema, batches) if each)
    return StreamingResponse(body, headers=headers, media_type=MEDIA_TYPES[form])


def file_headers(name: str, form: Format, rows: int, table: TableState | None) -> dict[str, str]:
    """Return the headers of an answer that is a file."""
    request_record.current().rows = rows
    return {
        "Content-Disposition": f'attachment; filename="{name}.{form}"',
        "X-Record-Count": str(rows),
        "X-Snapshot-Id": (table.snapshot_id if table else None) or "",
    }
