"""The targets: their platforms answer, and every step of every playbook can be planned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from remediator.authoring.doctor.base import DoctorCheck, Examination, Result, failed, ok, skipped, warning
from remediator.authoring.explain import ReadOnlyStore
from remediator.errors import RemediatorError, TargetError
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.planning import Planner
from remediator.playbooks import parameters
from remediator.playbooks.inventory import Service
from remediator.playbooks.model import Playbook
from remediator.service import read_only_context

_SECONDS = 20.0


class Targets(DoctorCheck):
    """Reads the status of every service, then plans every playbook. A plan resolves each call and changes nothing."""

    name = "targets"

    async def run(self, about: Examination) -> AsyncIterator[Result]:
        async with read_only_context(about.config, ReadOnlyStore(about.config)) as context:
            services = about.loaded.inventory.services.values()
            for result in await asyncio.gather(*(_status(context, service) for service in services)):
                yield result
            for playbook in about.playbooks:
                yield await _plan(context, playbook, about)


async def _status(context: PipelineContext, service: Service) -> Result:
    try:
        async with asyncio.timeout(_SECONDS):
            status = await context.service_status(service)
    except TargetError as error:
        return failed(service.name, str(error), "correct the binding in the inventory")
    except RemediatorError as error:
        return failed(service.name, str(error), f"check that {service.platform.kind} runs and that it may be read")
    except TimeoutError:
        return failed(service.name, f"{service.platform.kind} did not answer in {_SECONDS:g} s", "check its address")
    return ok(service.name, status.summary)


async def _plan(context: PipelineContext, playbook: Playbook, about: Examination) -> Result:
    inventory, labels = about.loaded.inventory, about.labels[playbook.name]
    needed = (each.label for each in playbook.parameters.values() if each.label and each.default is None)
    unknown = [label for label in needed if label not in labels]
    if unknown:
        command = f"remediator playbook trigger {playbook.name} --label {unknown[0]}=VALUE"
        return skipped(playbook.name, f"needs a value of the label {', '.join(unknown)}; run: {command}")
    try:
        values = parameters.resolve(playbook, labels, inventory)
        target = parameters.target(playbook, values, inventory)
        async with asyncio.timeout(_SECONDS):
            plan = await Planner(context, playbook, inventory.service(target), values).plan("shadow")
    except TargetError as error:
        return warning(
            playbook.name, f"cannot be planned now: {error}", f"run: remediator playbook trigger {playbook.name}"
        )
    except RemediatorError as error:
        return failed(playbook.name, f"cannot be planned: {error}", f"run: remediator playbook trigger {playbook.name}")
    except TimeoutError:
        return failed(playbook.name, f"was not planned in {_SECONDS:g} s", "check the addresses of its target")
    calls = [step.call.summary for step in plan.steps if step.mutates]
    return ok(playbook.name, "; ".join(calls)) if calls else skipped(playbook.name, "changes nothing: it diagnoses")
