"""Examine an installation: one table of working parts, problems and fixes.

To add a check, write a file with a :class:`~remediator.authoring.doctor.base.DoctorCheck` and add it to ``BUILTIN``.
"""

from __future__ import annotations

from remediator.authoring.doctor.alertmanager import AlertmanagerCheck
from remediator.authoring.doctor.approvals import Approvals
from remediator.authoring.doctor.base import DoctorCheck, Examination, Level, Result, failed
from remediator.authoring.doctor.channels import Channels
from remediator.authoring.doctor.checkpoints import Checkpoints
from remediator.authoring.doctor.discovery import Discoveries
from remediator.authoring.doctor.files import Files
from remediator.authoring.doctor.hosts import Hosts
from remediator.authoring.doctor.prometheus import PrometheusCheck
from remediator.authoring.doctor.rights import Rights
from remediator.authoring.doctor.secrets import Secrets
from remediator.authoring.doctor.sources import Sources
from remediator.authoring.doctor.store import StoreCheck
from remediator.authoring.doctor.targets import Targets
from remediator.authoring.doctor.tls import Tls
from remediator.config import configure_clients
from remediator.errors import RemediatorError

BUILTIN: tuple[type[DoctorCheck], ...] = (
    Files,
    Secrets,
    StoreCheck,
    AlertmanagerCheck,
    Sources,
    PrometheusCheck,
    Hosts,
    Discoveries,
    Targets,
    Rights,
    Channels,
    Approvals,
    Checkpoints,
    Tls,
)
"""All checks, in the order of the table."""


async def examine(about: Examination) -> list[tuple[str, Result]]:
    """Run all checks and return their results, each with the name of its check."""
    configure_clients(about.config)
    found: list[tuple[str, Result]] = []
    for kind in BUILTIN:
        try:
            found += [(kind.name, result) async for result in kind().run(about)]
        except (RemediatorError, OSError) as error:
            found.append((kind.name, failed(kind.name, str(error), "correct this first, then run the doctor again")))
    return found


def worst(results: list[tuple[str, Result]]) -> Level:
    """Return the worst level of the results."""
    order = list(Level)
    return max((result.level for _, result in results), key=order.index, default=Level.OK)
