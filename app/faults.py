"""Fault injection for demos and tests. Off unless SHOP_FAULTS_ENABLED is set; never in production."""

import asyncio
import os
import random
import secrets
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

WORKER_CRASH = 70
SERVICE_CRASH = 3  # gunicorn's WORKER_BOOT_ERROR: the master stops, and the service exits with this status


class InjectedFaultError(Exception):
    """An error injected by PUT /faults or by the release."""


class Faults(BaseModel):
    """Faults of each request for items or sessions. Health, metrics and /faults are not affected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    error_rate: float = Field(default=0, ge=0, le=1, description="share of requests that end with status 500")
    latency_ms: int = Field(default=0, ge=0, le=60_000, description="delay of each request, in milliseconds")
    leak_bytes: int = Field(default=0, ge=0, le=64 * 2**20, description="memory leaked by each request, in bytes")
    crash: Literal["no", "worker", "service"] = Field(default="no", description="what the next request terminates")

    def any(self) -> bool:
        return self != Faults()

    def over(self, base: "Faults") -> "Faults":
        """Return both combined. If both set a fault, this one has priority."""
        return base.model_copy(update=self.model_dump(exclude_defaults=True))


class FaultBoard:
    """The active faults, in a file that all workers read, so that one PUT reaches every worker."""

    def __init__(self, file: Path, *, enabled: bool, release: Faults) -> None:
        self.enabled = enabled
        self._file = file
        self._release = release
        self._seen: tuple[int, int] | None = None
        self._faults = release
        self._leaked: list[bytearray] = []

    def current(self) -> Faults:
        """Return the active faults. The file is read again only if it changed."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._faults = self._read().over(self._release) if stamp else self._release
            self._seen = stamp
        return self._faults

    def put(self, faults: Faults) -> None:
        """Activate `faults` in all workers."""
        draft = self._file.with_suffix(f".{secrets.token_hex(8)}")
        draft.write_text(faults.model_dump_json())
        draft.replace(self._file)

    def clear(self) -> None:
        """Remove the faults of `put`. The faults of the release stay."""
        self._file.unlink(missing_ok=True)
        self._leaked.clear()

    async def inject(self) -> None:
        """Apply the active faults to one request. Raise InjectedFaultError, or end the process."""
        if not self.enabled or not (faults := self.current()).any():
            return
        if faults.leak_bytes:
            self._leaked.append(bytearray(b"x") * faults.leak_bytes)
        if faults.crash != "no":
            os._exit(WORKER_CRASH if faults.crash == "worker" else SERVICE_CRASH)
        await asyncio.sleep(faults.latency_ms / 1000)
        if random.random() < faults.error_rate:  # noqa: S311 (not a secret)
            raise InjectedFaultError("injected by /faults or by the release")

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._file.stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_ino

    def _read(self) -> Faults:
        try:
            return Faults.model_validate_json(self._file.read_text())
        except FileNotFoundError:  # removed between stat and read
            return Faults()
