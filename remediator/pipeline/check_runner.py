"""Looking: one check, bounded in time, that never raises for what it cannot see."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from remediator.core.types import fitted
from remediator.errors import RemediatorError
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.pipeline.context import PipelineContext
from remediator.playbooks.inventory import Service


async def observe(context: PipelineContext, name: str, service: Service, given: Mapping[str, Any]) -> Evidence:
    """One check, bounded in time; whatever goes wrong is *unknown*, with the reason."""
    check: Check = context.checks[name]
    try:
        async with asyncio.timeout(context.pace.probe.total_seconds()):
            return await check.observe(service, fitted(check.Parameters, given, name))
    except TimeoutError:
        return Evidence(CheckAnswer.UNKNOWN, f"{name} gave no answer within {context.pace.probe.total_seconds():g} s")
    except (RemediatorError, OSError, ValueError) as error:
        return Evidence(CheckAnswer.UNKNOWN, f"{name} could not look: {error}")
