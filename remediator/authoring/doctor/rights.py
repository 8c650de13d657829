"""The rights of the remediator on each target, for the actions of the playbooks."""

from __future__ import annotations

from collections.abc import AsyncIterator

from remediator.authoring.doctor.base import DoctorCheck, Examination, Result, failed, ok, skipped, warning
from remediator.authoring.explain import ReadOnlyStore
from remediator.runtime.preflight import Capabilities, find_missing_rights
from remediator.service import read_only_context

_GRANT = "grant it to the account of the remediator, or take the action out of the playbooks"


class Rights(DoctorCheck):
    """Asks every platform and server for the rights of every action and check, by calls that change nothing."""

    name = "rights"

    async def run(self, about: Examination) -> AsyncIterator[Result]:
        services = about.loaded.inventory.services
        async with read_only_context(about.config, ReadOnlyStore(about.config)) as context:
            capabilities = Capabilities(context.platforms, context.actions, context.checks)
            problems = await find_missing_rights(about.playbooks, about.loaded.inventory, capabilities)
        for each in problems:
            if each.known:
                yield failed(each.service, f"{each.action}: {each.text}", _GRANT)
            else:
                fix = "check that the platform or server answers and that the remediator may read it"
                yield warning(each.service, f"{each.action}: {each.text}", fix)
        for name in sorted(services.keys() - {each.service for each in problems}):
            yield ok(name, "no missing right is known")
        if not services:
            yield skipped("services", "the inventory names none")
