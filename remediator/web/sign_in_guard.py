"""Throttle failed authentications, and record every authentication: in the metrics, the log and the audit log.

Failures are counted for each address and, where it is known, for each account. While there are too many, further
attempts get 429 without being checked. Open sessions are not affected, and neither is the webhook: Alertmanager drops a
notification that gets 401 or 429.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from starlette.requests import Request

from remediator.audit import Draft, Kind
from remediator.core.approval import PermissionDenied, Person
from remediator.core.listen import network_of
from remediator.errors import RemediatorError, StoreError
from remediator.runtime.metrics import Metrics
from remediator.storage import Store

WINDOW = 60.0
"""Seconds in which failures are counted."""
MAX_FAILURES = 10
"""Failures of one address or account in ``WINDOW`` after which attempts are refused."""
MAX_RECORDS = 20
"""Failures in ``WINDOW`` that are logged and audited one by one; the rest is counted."""
_MAX_KEYS = 10_000
_MAX_ACCOUNT = 200
"""Characters of an account name that count. Callers can type any length."""
log: Any = structlog.get_logger("remediator.web.sign_in")


class TooManyFailures(RemediatorError):
    """The address or the account failed too often; the attempt was not checked."""

    def __init__(self) -> None:
        super().__init__(f"too many failed attempts: wait {WINDOW:g} s, then try again")


@dataclass(slots=True)
class SignInGuard:
    """Counts failed authentications.

    Args:
        store: has the audit log.
        metrics: count every authentication.
        actor: this process.
        address: returns the address of the client of a request.
        now: returns seconds that never go back.
    """

    store: Store
    metrics: Metrics
    actor: str
    address: Callable[[Request], str]
    now: Callable[[], float] = time.monotonic
    _failures: dict[str, list[float]] = field(default_factory=dict)
    _recorded: list[float] = field(default_factory=list)
    _unrecorded: int = 0

    async def require_allowed(self, request: Request, how: str, account: str = "") -> None:
        """Refuse an attempt of an address or account with too many failures.

        Raises:
            TooManyFailures: there are too many.
        """
        now = self.now()
        for key in self._keys(request, account):
            recent = [at for at in self._failures.get(key, ()) if now - at < WINDOW]
            if len(recent) >= MAX_FAILURES:
                self.metrics.authentications.labels(how, "throttled").inc()
                raise TooManyFailures

    async def failed(self, request: Request, how: str, why: str, account: str = "") -> None:
        """Count and record a failure."""
        now = self.now()
        self.metrics.authentications.labels(how, "failed").inc()
        if len(self._failures) > _MAX_KEYS:
            self._failures = {key: times for key, times in self._failures.items() if now - times[-1] < WINDOW}
        for key in self._keys(request, account):
            if key in self._failures or len(self._failures) <= _MAX_KEYS:
                self._failures[key] = [*self._failures.get(key, ())[-MAX_FAILURES:], now]
        data = {"how": how, "address": self.address(request), "account": account[:_MAX_ACCOUNT]}
        await self._record("authentication failed", self.actor, why, data)

    async def denied(self, request: Request, person: Person | None, error: RemediatorError) -> None:
        """Count and record a missing permission of a caller. Other errors are not refusals."""
        if not isinstance(error, PermissionDenied):
            return
        how = "none" if person is None else person.how
        self.metrics.authentications.labels(how, "denied").inc()
        data = {"how": how, "address": self.address(request), "path": request.url.path[:_MAX_ACCOUNT]}
        await self._record("request denied", self.actor if person is None else person.id, str(error), data)

    async def _record(self, event: str, actor: str, why: str, data: dict[str, Any]) -> None:
        """Write to the log and the audit log, at most :data:`MAX_RECORDS` times in :data:`WINDOW`."""
        now = self.now()
        self._recorded = [at for at in self._recorded if now - at < WINDOW]
        if len(self._recorded) >= MAX_RECORDS:
            self._unrecorded += 1
            return
        self._recorded.append(now)
        data["unrecorded"], self._unrecorded = self._unrecorded, 0
        log.warning(event, **data, reason=why)
        draft = Draft(kind=Kind.ACCESS_REFUSED, actor=actor, reason=why, data=data)
        try:
            await self.store.write(lambda tx: tx.append_audit(draft))
        except StoreError as error:  # the answer does not depend on the record
            log.warning("refusal not audited", error=str(error))

    def succeeded(self, request: Request, person: Person) -> None:
        """Count a success. The audit log has it as the start of a session or as the decision itself."""
        self.metrics.authentications.labels(person.how, "succeeded").inc()
        self._failures.pop(f"account {person.id}", None)

    def _keys(self, request: Request, account: str) -> tuple[str, ...]:
        address = f"address {network_of(self.address(request))}"
        return (address, f"account {account[:_MAX_ACCOUNT]}") if account else (address,)
