"""The reference: a Starlette endpoint that only parses the same JSON. ``python -m bench.baseline PORT``"""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def post(request: Request) -> JSONResponse:
    """Parse the body and answer."""
    await request.json()
    return JSONResponse({"status": "accepted"})


if __name__ == "__main__":
    uvicorn.run(
        Starlette(routes=[Route("/api/v1/alerts", post, methods=["POST"])]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
    )
