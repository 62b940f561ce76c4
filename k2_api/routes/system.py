"""Routes for operators and their monitoring; none needs a key."""

import msgspec
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import RedirectResponse, Response

from k2_api.api_errors import LakeUnavailable
from k2_api.http.deps import TheServices
from k2_api.http.envelope import error_meta
from k2_api.http.response_models import ErrorEnvelope
from k2_api.version import VERSION

# Monitoring must work when the key is not known, and none of these routes shows market data.
router = APIRouter(tags=["system"])


@router.get("/", include_in_schema=False)
def get_root() -> Response:
    """Redirect to the documentation."""
    return RedirectResponse("docs")


@router.get("/health", summary="Is the process alive")
def get_health() -> Response:
    """Answer 200 as long as the process serves; the lake is not read."""
    return _success({"status": "ok", "version": VERSION})


@router.get("/ready", summary="Can the lake be read", responses={503: {"model": ErrorEnvelope}})
def get_ready(services: TheServices) -> Response:
    """Answer 200 when the catalog can be read and the tables exist, else 503 with the names of missing tables.

    A table without rows counts as ready: its routes answer with no rows.
    """
    missing = services.lake.missing_tables()
    if missing:
        raise LakeUnavailable(f"not made yet: {', '.join(missing)}", {"missing_tables": missing})
    return _success({"status": "ready"})


@router.get("/metrics", summary="Metrics in Prometheus' text format")
def get_metrics() -> Response:
    """Return the metrics of this process."""
    return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _success(data: dict[str, str]) -> Response:
    body = {"success": True, "data": data, "meta": error_meta()}
    return Response(msgspec.json.encode(body), headers={"Cache-Control": "no-store"}, media_type="application/json")
