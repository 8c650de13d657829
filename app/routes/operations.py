"""`/livez`, `/readyz`, `/metrics`: health and metrics. Faults and overload do not affect them."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.health import Readiness
from app.services import Parts

router = APIRouter(tags=["operations"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """Answer 200 while this worker can answer."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(parts: Parts, response: Response) -> Readiness:
    """Answer 200, or 503 with the missing dependencies."""
    readiness = await parts.health.readiness()
    response.status_code = 200 if readiness.ready else 503
    return readiness


@router.get("/metrics")
def metrics(parts: Parts) -> Response:
    """Return the metrics of all workers."""
    return Response(parts.metrics.render(), media_type=CONTENT_TYPE_LATEST)
