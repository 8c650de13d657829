"""Run one check with a timeout. What cannot be seen is *unknown*, with the reason, and never an exception."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from remediator.core.types import fitted
from remediator.errors import InputError
from remediator.extensions.checks.base import CheckAnswer, Evidence
from remediator.pipeline.context import PipelineContext
from remediator.playbooks.inventory import Service


async def observe(context: PipelineContext, name: str, service: Service, given: Mapping[str, Any]) -> Evidence:
    """Return the answer of a check about a service; *unknown* if the check fails or does not answer in time."""
    check = context.checks[name]
    limit = context.timeouts.probe_timeout.total_seconds()
    try:
        async with asyncio.timeout(limit):
            return await check.ask(service, fitted(check.Parameters, given, name))
    except TimeoutError:
        return Evidence(CheckAnswer.UNKNOWN, f"check {name} gave no answer within {limit:g} s")
    except InputError as error:
        return Evidence(CheckAnswer.UNKNOWN, str(error))
