"""``prometheus.target``: Check that Prometheus scrapes the targets of a job, and report the scrape errors.

``up == 0`` does not show whether a service is down or Prometheus has a wrong address. The list of targets of Prometheus
shows it.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field

from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class PrometheusTargetParameters(Parameters):
    """Parameters of ``prometheus.target``."""

    job: str = Field(pattern="^[A-Za-z0-9_./-]+$", description="Name of the scrape job, for example fastapi-app.")


class PrometheusTarget(Check):
    """Compare the targets of a scrape job with the address of the service in the inventory."""

    name = "prometheus.target"
    Parameters = PrometheusTargetParameters
    uses_prometheus = True
    facts = (
        Fact("targets", "integer", "Targets of the job. 0: the job does not exist in Prometheus, or has no target."),
        Fact("down", "integer", "Targets whose last scrape failed."),
        Fact("address", "string", "Host and port that Prometheus scrapes, of the first target that is down."),
        Fact("same_address", "boolean", "Whether that is the HTTP address of the service in the inventory."),
        Fact("error", "string", "Error of the last scrape of that target; empty without one."),
    )

    async def observe(self, service: Service, parameters: PrometheusTargetParameters) -> Evidence:
        targets = await self.clients.required_prometheus().targets()
        found = [target for target in targets if target.labels.get("job") == parameters.job]
        down = [target for target in found if target.health == "down"]
        first = next(iter(down or found), None)
        address = "" if first is None else urlsplit(first.scrape_url).netloc
        own = "" if service.http is None else urlsplit(service.http.url).netloc
        facts = {
            "targets": len(found),
            "down": len(down),
            "address": address,
            "same_address": address == own,
            "error": "" if first is None else first.last_error,
        }
        if not found:
            return Evidence(CheckAnswer.FAIL, f"Prometheus has no target of job {parameters.job}", facts)
        if down:
            text = f"Prometheus cannot scrape {address} of job {parameters.job}: {facts['error']}"
            if own and address != own:
                text += f"; the inventory has {own}"
            return Evidence(CheckAnswer.FAIL, text, facts)
        return Evidence(CheckAnswer.OK, f"Prometheus scrapes all {len(found)} targets of job {parameters.job}", facts)
