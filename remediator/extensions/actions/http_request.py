"""``http.request``: Send an HTTP request that the settings file allows by name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import Field

from remediator.clients.allowed_requests import AllowedRequest, request
from remediator.clients.http import HttpRefused
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions.actions.base import Action, Result
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_KEPT = 2000
_LONGEST = 1000


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
    timeout = timedelta(seconds=30)
    facts = (
        Fact("status", "integer", "HTTP status."),
        Fact("text", "string", "Beginning of the answer."),
    )

    def __init__(self, clients: ClientSet) -> None:
        self._requests = clients.requests

    async def plan(self, service: Service, parameters: RequestParameters) -> PlannedCall:
        allowed = self._allowed(parameters)
        body = f" with {parameters.fields}" if parameters.fields else ""
        return PlannedCall(
            text=f"{allowed.method} {allowed.url}{body}",
            arguments={"fields": dict(parameters.fields)},
            pin={"method": allowed.method, "url": allowed.url},
        )

    def _allowed(self, parameters: RequestParameters) -> AllowedRequest:
        allowed = self._requests.get(parameters.request)
        if allowed is None:
            known = ", ".join(sorted(self._requests)) or "none"
            raise TargetError(f"the settings do not allow the request {parameters.request!r}; allowed: {known}")
        unknown = sorted(set(parameters.fields) - set(allowed.fields))
        if unknown:
            raise TargetError(f"the request {parameters.request!r} does not accept the fields: {', '.join(unknown)}")
        for name, value in parameters.fields.items():
            if len(str(value)) > _LONGEST:
                raise TargetError(f"the field {name!r} is longer than {_LONGEST} characters")
        return allowed

    async def execute(self, service: Service, parameters: RequestParameters, call: PlannedCall) -> Result:
        allowed = self._allowed(parameters)
        if {"method": allowed.method, "url": allowed.url} != dict(call.pin):
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
