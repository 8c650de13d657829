"""Problems: each error that a client may see, as `{"error": <word>, "detail": <sentence>}`."""

import logging
import sqlite3

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.admission import OverloadedError
from app.link import RedisUnavailableError
from app.logs import Throttle
from app.metrics import Metrics

log = logging.getLogger("app.problems")
RETRY = {"Retry-After": "1"}


def install(app: FastAPI, metrics: Metrics) -> None:
    """Teaches `app` to answer with problems."""
    throttle = Throttle(5.0)

    @app.exception_handler(RedisUnavailableError)
    async def sessions_unavailable(_: Request, error: RedisUnavailableError) -> JSONResponse:
        metrics.sessions.labels("unavailable").inc()
        detail = f"sessions need Redis, which is not available: {error.kind}"
        return problem(503, "sessions_unavailable", detail, RETRY | {"X-Degraded": "redis"})

    @app.exception_handler(sqlite3.OperationalError)
    async def record_unavailable(_: Request, error: sqlite3.OperationalError) -> JSONResponse:
        if throttle.held_back(str(error)) is not None:
            log.error("the record is not available: sqlite3.OperationalError: %s", error)
        return problem(503, "record_unavailable", "the record cannot be read or written", RETRY)

    @app.exception_handler(OverloadedError)
    async def overloaded(_: Request, error: OverloadedError) -> JSONResponse:
        if (held := throttle.held_back("overloaded")) is not None:
            log.error("overloaded: %s in this worker, %d refusals not logged", error, held)
        return problem(503, "overloaded", "this worker is full", RETRY)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        """Says where and what; never repeats the input, which may not even be valid text."""
        found = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()[:20]]
        return problem(422, "invalid", "; ".join(found).encode(errors="replace").decode())

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        word = {400: "invalid", 401: "not_logged_in", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
        return problem(error.status_code, word.get(error.status_code, "refused"), error.detail, error.headers)

    @app.exception_handler(Exception)
    async def internal(_: Request, error: Exception) -> JSONResponse:
        """The traceback is in the error log: the server logs what it sees raised."""
        return problem(500, "internal", f"{type(error).__name__}; the log has more")


def problem(status: int, error: str, detail: str, headers: object = None) -> JSONResponse:
    more = headers if isinstance(headers, dict) else None
    return JSONResponse({"error": error, "detail": detail}, status, more)
