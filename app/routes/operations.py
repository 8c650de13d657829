"""`/livez`, `/readyz`, `/metrics`: for those who watch the app. No fault and no overload touches them."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.health import Readiness
from app.services import Parts

router = APIRouter(tags=["operations"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """200 as long as this worker can answer at all: a restart would help, or it would not."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(parts: Parts, response: Response) -> Readiness:
    """503 names what is missing."""
    readiness = await parts.health.readiness()
    response.status_code = 200 if readiness.ready else 503
    return readiness


@router.get("/metrics")
def metrics(parts: Parts) -> Response:
    """Figures of all workers."""
    return Response(parts.metrics.render(), media_type=CONTENT_TYPE_LATEST)
