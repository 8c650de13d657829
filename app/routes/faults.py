"""`/faults`: make things go wrong on purpose. The route is only there when FAULTS_ENABLED."""

from fastapi import APIRouter

from app.faults import Faults
from app.services import Parts

router = APIRouter(prefix="/faults", tags=["faults"])


@router.get("")
def current(parts: Parts) -> Faults:
    """What is in force, the release's own faults included."""
    return parts.faults.current()


@router.put("")
def put(faults: Faults, parts: Parts) -> Faults:
    """In force in all workers from their next request on."""
    parts.faults.put(faults)
    return parts.faults.current()


@router.delete("", status_code=204)
def clear(parts: Parts) -> None:
    """Takes back what PUT did."""
    parts.faults.clear()
