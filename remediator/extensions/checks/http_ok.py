"""``http.ok``: Check that a service answers HTTP correctly at its address in the inventory."""

from __future__ import annotations

from contextlib import aclosing
from datetime import timedelta
from typing import Literal

from pydantic import Field

from remediator.clients.endpoints import Endpoint
from remediator.clients.http import HttpClient, HttpRefused
from remediator.core.types import Duration
from remediator.errors import TimedOut, Unreachable
from remediator.extensions import bindings
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class HttpOkParameters(Parameters):
    """Parameters of ``http.ok``."""

    path: Literal["ready", "live"] = Field(
        default="ready", description="Path to request, by its name in the inventory."
    )
    timeout: Duration = Field(default=timedelta(seconds=3), description="Timeout of the request.")


class HttpOk(Check):
    """Send a request to a service. A status from 200 to 299 is ok."""

    name = "http.ok"
    needs = ("http",)
    Parameters = HttpOkParameters
    facts = (
        Fact("status", "integer", "HTTP status; null if there was no answer."),
        Fact("text", "string", "Beginning of an answer with another status than 2xx."),
    )

    async def observe(self, service: Service, parameters: HttpOkParameters) -> Evidence:
        http = bindings.http(service)
        path = http.ready if parameters.path == "ready" else http.live
        url = f"{http.url}{path}"
        async with aclosing(
            HttpClient(Endpoint(url=http.url, timeout=parameters.timeout), max_bytes=64 * 1024)
        ) as client:
            try:
                answer = await client.call("GET", path)
            except HttpRefused as error:
                return Evidence(
                    CheckAnswer.FAIL,
                    f"{url} returned status {error.status}",
                    {"status": error.status, "text": error.text[:500]},
                )
            except (Unreachable, TimedOut) as error:
                return Evidence(CheckAnswer.FAIL, str(error), {"status": None})
        return Evidence(CheckAnswer.OK, f"{url} returned status {answer.status}", {"status": answer.status})
