"""``http.request``: Send an HTTP request that the settings file allows by name.

The settings declare the effect of each request: ``read_only``, ``idempotent``, ``destructive``, ``interrupts``,
``risk`` and ``undo``. Every effect that is not declared is assumed, so such a request always needs an approval. A
read-only request can be used in ``diagnose``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import Field

from remediator.clients.allowed_requests import AllowedRequest, request
from remediator.clients.http import HttpRefused
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions.actions.base import Action, Result, UndoCall
from remediator.extensions.allowed_calls import REQUEST_FACTS, declared_requests, traits_from
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.playbooks.catalogue import ActionTraits, DeclaredCalls
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.inventory import Service

_KEPT = 2000
_LONGEST = 1000
_UNKNOWN_RISK = "The settings do not declare the possible damage of this request."


class RequestParameters(Parameters):
    """Parameters of ``http.request``. Only the settings define the URL."""

    request: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]*$", description="Name of the request under requests in the settings."
    )
    fields: dict[str, str | int | float | bool] = Field(
        default={}, description="Values of its body; only fields that the settings list."
    )


class HttpRequest(Action):
    """Send an HTTP request that the settings allow."""

    name = "http.request"
    Parameters = RequestParameters
    interrupts = True
    destructive = True
    reversible = True
    timeout = timedelta(seconds=30)
    facts = REQUEST_FACTS

    @classmethod
    def declared_calls(cls, clients: ClientSet) -> DeclaredCalls:
        return declared_requests(clients.requests, cls.declared_traits())

    def traits_for(self, parameters: RequestParameters) -> ActionTraits:
        allowed, assumed = self.clients.requests.get(parameters.request), self.declared_traits()
        return assumed if allowed is None else traits_from(allowed, assumed)

    async def plan(self, service: Service, parameters: RequestParameters) -> PlannedCall:
        allowed = self._allowed(parameters)
        body = f" with {parameters.fields}" if parameters.fields else ""
        return PlannedCall(
            text=f"{allowed.method} {allowed.url}{body}",
            arguments={"fields": dict(parameters.fields), "request": parameters.request},
            pin=_pin(allowed),
            undo=None if allowed.undo is None else f"send the request {allowed.undo!r} of the settings",
            risk=None if allowed.read_only else allowed.risk or _UNKNOWN_RISK,
        )

    def _allowed(self, parameters: RequestParameters) -> AllowedRequest:
        allowed = self.clients.requests.get(parameters.request)
        if allowed is None:
            hint = did_you_mean(parameters.request, self.clients.requests) or "no request is allowed"
            raise TargetError(f"the settings do not allow the request {parameters.request!r}; {hint}")
        unknown = sorted(set(parameters.fields) - set(allowed.fields))
        if unknown:
            raise TargetError(f"the request {parameters.request!r} does not accept the fields: {', '.join(unknown)}")
        for name, value in parameters.fields.items():
            if len(str(value)) > _LONGEST:
                raise TargetError(f"the field {name!r} is longer than {_LONGEST} characters")
        return allowed

    async def execute(self, service: Service, parameters: RequestParameters, call: PlannedCall) -> Result:
        allowed = self._allowed(parameters)
        if not allowed.read_only and _pin(allowed) != dict(call.pin):
            raise TargetError(
                f"the request {parameters.request!r} was changed in the settings after planning; it was not sent"
            )
        body: dict[str, Any] = dict(parameters.fields)
        try:
            answer = await request(allowed, body)
        except HttpRefused as error:
            if error.status < 500:
                raise
            return Result(Outcome.UNKNOWN, f"{error}; the request may have taken effect", {"status": error.status})
        text = answer.body[:_KEPT].decode(errors="replace")
        return Result(
            Outcome.OK, f"{allowed.method} {allowed.url}: {answer.status}", {"status": answer.status, "text": text}
        )

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall | None:
        """Return the request that the settings name as the undo, with the fields that it accepts."""
        allowed = self.clients.requests.get(str(call.arguments.get("request")))
        undo = None if allowed is None or allowed.undo is None else self.clients.requests.get(allowed.undo)
        if allowed is None or undo is None:
            return None
        fields = {name: value for name, value in call.arguments["fields"].items() if name in undo.fields}
        return UndoCall(self.name, {"request": allowed.undo, "fields": fields})


def _pin(allowed: AllowedRequest) -> dict[str, Any]:
    """Return the address and declaration that the approver relied on: with other values, the approved call differs."""
    declared = {name: getattr(allowed, name) for name in ("destructive", "interrupts", "read_only")}
    return {"method": allowed.method, "url": allowed.url, **declared}
