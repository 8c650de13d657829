"""The record of a service's host about the calls of an attempt, as an observation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from remediator.clients.ssh.client import CallState, PastCall, RemoteHost
from remediator.clients.ssh.settings import Host
from remediator.extensions.actions.base import EffectStatus, Observation
from remediator.playbooks.inventory import Service

_REMEMBERED = timedelta(days=7)
"""Hosts keep markers for a month by their own clock. This service relies only on this shorter time."""


def observation(calls: Sequence[PastCall] | None, age: timedelta) -> Observation | None:
    """Return the observation from the calls alone; None if the state of the target decides, because no call can still
    run.

    Args:
        calls: the calls that the host began; None for a target without such a record.
        age: time since the intent, by the clock of the store.
    """
    if calls is None:
        return None
    if not calls and age > _REMEMBERED:
        return Observation(EffectStatus.UNKNOWN, "the host may have forgotten the call, which is more than a week old")
    if not calls:
        return Observation(EffectStatus.NO, "the host never began the call, and refuses it from now on")
    if any(call.state is CallState.RUNNING for call in calls):
        return Observation(EffectStatus.UNKNOWN, "the call still runs on the host")
    return None


async def of_host(service: Service, age: timedelta) -> Observation | None:
    """Return the record of a service's host about the current attempt; None as in :func:`observation`.

    Raises:
        ClientError: the host cannot be asked.
    """
    return None if service.host is None else observation(await RemoteHost(service.host).settle(), age)


async def outcome(host: Host, age: timedelta) -> Observation:
    """Return the record of a host about an attempt whose outcome is the exit status of its program.

    Raises:
        ClientError: the host cannot be asked.
    """
    calls = await RemoteHost(host).settle()
    if (known := observation(calls, age)) is not None:
        return known
    result = calls[-1].outcome.get("ok")
    status = result.get("status") if isinstance(result, dict) else None
    if not isinstance(status, int):
        why = calls[-1].outcome.get("text", "its process on the host ended without an outcome")
        return Observation(EffectStatus.UNKNOWN, f"the command was begun: {why}")
    text = f"the command exited with status {status}"
    return Observation(EffectStatus.YES if status == 0 else EffectStatus.NO, text, {"status": status})
