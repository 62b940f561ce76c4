"""Write the envelope around every answer. response_models.py describes its fields."""

from typing import Any

import msgspec
from starlette.responses import Response
from structlog.contextvars import get_contextvars

from k2_api.http.response_models import MAX_GAPS
from k2_api.lake.table_versions import TableState
from k2_api.queries.missing_ids import Verdict
from k2_core.clock import from_us, iso, now


def page_of(
    rows: list[dict[str, Any]], pagination: dict[str, Any], table: TableState | None, completeness: dict[str, Any]
) -> bytes:
    """Return the body of a data route's answer; ``table`` is None where it is about several."""
    meta = {
        **error_meta(),
        "table": table.name if table else None,
        "snapshot_id": table.snapshot_id if table else None,
        "as_of": table.committed_at if table else None,
        "completeness": completeness,
    }
    # Not through the pydantic models: DuckDB has already given the rows the form of the answer.
    return msgspec.json.encode({"success": True, "data": rows, "pagination": pagination, "meta": meta})


def pagination(limit: int | None, next_cursor: str | None) -> dict[str, Any]:
    return {"limit": limit, "next_cursor": next_cursor, "has_more": next_cursor is not None}


def completeness(verdict: Verdict, data_until: str | None) -> dict[str, Any]:
    return {
        "status": verdict.status,
        "missing_trades": verdict.missing_trades,
        "gaps": [
            {
                "exchange": hole.exchange,
                "symbol": hole.symbol,
                "start": iso(from_us(hole.start_us)),
                "end": iso(from_us(hole.end_us)),
                "missing": hole.missing,
                "state": "open",
            }
            for hole in verdict.holes[:MAX_GAPS]
        ],
        "data_until": data_until,
    }


def problem(status: int, code: str, message: str, details: object = None) -> Response:
    """Return an error in its envelope."""
    body = {"success": False, "error": {"code": code, "message": message, "details": details}, "meta": error_meta()}
    headers = {"Cache-Control": "no-store"}
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


def error_meta() -> dict[str, Any]:
    """Return the part of ``meta`` that every answer has, errors included."""
    return {"correlation_id": get_contextvars().get("correlation_id", ""), "timestamp": iso(now())}
