"""Build the application from settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from k2_api.api_errors import HTTP_CODES, STATUS, ApiError
from k2_api.http import openapi
from k2_api.http.body_limit import BodyLimit
from k2_api.http.deps import Services
from k2_api.http.envelope import problem
from k2_api.http.middleware import Observed
from k2_api.routes import instruments, ohlcv, rows, snapshots, stats, symbols, system
from k2_api.version import VERSION
from k2_core.logs import logger
from k2_core.settings import Settings

_OUR_FAULT: Final = 500

log = logger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """Return the API over the lake that the settings name. The lake may be empty, or not be reachable yet."""
    app = FastAPIOffline(title="K2 market data", version=VERSION, description=openapi.DESCRIPTION, lifespan=_lifespan)
    app.state.services = Services.of(settings)
    for module in (rows, ohlcv, symbols, instruments, stats, snapshots, system):
        app.include_router(module.router)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(BodyLimit)
    if settings.api.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.api.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=openapi.REQUEST_HEADERS,
            expose_headers=openapi.ANSWER_HEADERS,
        )
    # The last one is the outermost: it also answers what no handler knows.
    app.add_middleware(Observed, own_key=settings.api.key.get_secret_value())
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.services.close()


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101  # registered for nothing else
    status, code = STATUS[type(error)]
    if status >= _OUR_FAULT:  # what a caller did wrong is in the request's own log line
        log.warning("answer failed", code=code, error=str(error), cause=repr(error.__cause__))
    return problem(status, code, str(error), error.details)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for nothing else
    details = []
    for each in error.errors():
        parameter = ".".join(str(part) for part in each["loc"] if part != "query") or "query"
        # pydantic's own words for an unknown parameter speak of "extra inputs".
        unknown = each.get("type") == "extra_forbidden"
        words = "is not a parameter of this route" if unknown else str(each["msg"]).removeprefix("Value error, ")
        details.append({"parameter": parameter, "problem": words})
    message = "; ".join(f"{each['parameter']}: {each['problem']}" for each in details)
    return problem(422, HTTP_CODES[422], message, details)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for nothing else
    code = HTTP_CODES.get(error.status_code, "http_error")
    answer = problem(error.status_code, code, f"{request.method} {request.url.path}: {error.detail}")
    answer.headers.update(error.headers or {})
    return answer
