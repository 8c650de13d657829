"""Checkpoints: the signing key exists, and the witnesses can be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from remediator.authoring.doctor.base import DoctorCheck, Examination, Result, failed, ok, warning
from remediator.errors import RemediatorError
from remediator.reporting.formatting import plural

_SECONDS = 20.0
_SEND_ONLY = ("syslog", "chat")


class Checkpoints(DoctorCheck):
    """Reads the stored checkpoints of every witness."""

    name = "checkpoints"

    async def run(self, about: Examination) -> AsyncIterator[Result]:
        settings = about.config.audit.checkpoints
        if not settings:
            text = "the settings name no witness: who can write to the database can rewrite the audit log"
            yield warning("audit.checkpoints", text, "add a witness on another system; see docs/audit.md")
            return
        try:
            witnesses = about.registry.make_witnesses(settings, about.config.channels)
        except RemediatorError as error:
            yield failed("audit.checkpoints", str(error), "correct audit.checkpoints in the settings")
            return
        for name, witness in witnesses.items():
            if name.rpartition("-")[0] in _SEND_ONLY:
                yield ok(name, "send only; it cannot be read back")
                continue
            try:
                async with asyncio.timeout(_SECONDS):
                    notes = await witness.fetch()
            except (RemediatorError, TimeoutError) as error:
                text = str(error) or f"no answer in {_SECONDS:g} s"
                yield failed(name, text, "check the location and the rights of this witness")
            else:
                yield ok(name, f"{plural(len(notes), 'checkpoint')} can be read")
