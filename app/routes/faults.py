"""`/faults`: fault injection. The route exists only with SHOP_FAULTS_ENABLED."""

from fastapi import APIRouter

from app.faults import Faults
from app.services import Parts

router = APIRouter(prefix="/faults", tags=["faults"])


@router.get("")
def current(parts: Parts) -> Faults:
    """Return the active faults, including those of the release."""
    return parts.faults.current()


@router.put("")
def put(faults: Faults, parts: Parts) -> Faults:
    """Set faults in all workers, for their next requests."""
    parts.faults.put(faults)
    return parts.faults.current()


@router.delete("", status_code=204)
def clear(parts: Parts) -> None:
    """Remove the faults set by PUT."""
    parts.faults.clear()
