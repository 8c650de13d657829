"""Error answers for clients: `{"error": <code>, "detail": <sentence>}`."""

import logging
import sqlite3

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.admission import OverloadedError
from app.link import RedisUnavailableError
from app.logs import Throttle, fields
from app.metrics import Metrics

log = logging.getLogger("app.problems")
RETRY = {"Retry-After": "1"}


def install(app: FastAPI, metrics: Metrics) -> None:
    """Install the exception handlers."""
    throttle = Throttle(5.0)

    @app.exception_handler(RedisUnavailableError)
    async def sessions_unavailable(_: Request, error: RedisUnavailableError) -> JSONResponse:
        metrics.sessions.labels("unavailable").inc()
        detail = f"sessions need Redis, which is not available: {error.kind}"
        return problem(503, "sessions_unavailable", detail, RETRY | {"X-Degraded": "redis"})

    @app.exception_handler(sqlite3.OperationalError)
    async def record_unavailable(_: Request, error: sqlite3.OperationalError) -> JSONResponse:
        if throttle.suppressed_before(str(error)) is not None:
            log.error("the record is not available: sqlite3.OperationalError: %s", error)
        return problem(503, "record_unavailable", "the record cannot be read or written", RETRY)

    @app.exception_handler(OverloadedError)
    async def overloaded(_: Request, error: OverloadedError) -> JSONResponse:
        if (suppressed := throttle.suppressed_before("overloaded")) is not None:
            log.error("overloaded: %s in this worker", error, extra=fields(suppressed=suppressed or None))
        return problem(503, "overloaded", "this worker has too many requests; try again", RETRY)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        """Name the field and the problem. The input is not repeated, since it may not be valid text."""
        found = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()[:20]]
        return problem(422, "invalid", "; ".join(found).encode(errors="replace").decode())

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        codes = {400: "invalid", 401: "not_logged_in", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
        return problem(error.status_code, codes.get(error.status_code, "refused"), error.detail, error.headers)

    @app.exception_handler(Exception)
    async def internal(_: Request, error: Exception) -> JSONResponse:
        """The server logs the traceback."""
        return problem(500, "internal", f"{type(error).__name__}; see the log")


def problem(status: int, error: str, detail: str, headers: object = None) -> JSONResponse:
    more = headers if isinstance(headers, dict) else None
    return JSONResponse({"error": error, "detail": detail}, status, more)
