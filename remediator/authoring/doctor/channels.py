"""The channels: their settings are valid, playbooks use only known ones, and a test message arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from remediator.authoring.doctor.base import DoctorCheck, Examination, Result, failed, ok, skipped, warning
from remediator.core.message import MessageKind
from remediator.errors import RemediatorError
from remediator.extensions.notifiers.base import Message, Section

_SECONDS = 30.0


class Channels(DoctorCheck):
    """Builds each channel; with ``--send``, sends one test message to each."""

    name = "channels"

    async def run(self, about: Examination) -> AsyncIterator[Result]:
        settings = about.config.channels
        for name, users in sorted(_unknown(about).items()):
            text = f"used by {', '.join(sorted(users))} and not in the settings: its messages go to the log only"
            yield warning(name, text, f"add {name} to 'channels' in the settings")
        if not settings:
            yield warning("channels", "the settings contain no channel: messages go to the log only", "add a channel")
        for name, channel in settings.items():
            if not about.send:
                if channel.kind == "log":
                    text = "messages go only to the log of the service, where no person may read them"
                    yield warning(name, text, "use a chat, e-mail or a pager for this channel; see docs/notifiers.md")
                else:
                    yield skipped(name, f"{channel.kind}, not tested; --send sends a test message")
                continue
            try:
                notifier = about.registry.make_channels({name: channel})[name]
            except RemediatorError as error:
                yield failed(name, str(error), f"correct channels.{name} in the settings")
                continue
            try:
                async with asyncio.timeout(_SECONDS):
                    await notifier.send(_message(about))
            except (RemediatorError, TimeoutError) as error:
                yield failed(name, str(error) or f"no answer in {_SECONDS:g} s", f"correct channels.{name}")
            else:
                yield ok(name, f"{channel.kind}: a test message was delivered")
            finally:
                await notifier.aclose()


def _message(about: Examination) -> Message:
    section = Section("What to do", ("Nothing. 'remediator doctor --send' tests this channel.",))
    return Message(
        id=f"doctor-{int(about.now.timestamp())}",
        run_id=None,
        kind=MessageKind.NOTICE,
        title=f"Test message from remediator ({about.config.environment})",
        sections=(section,),
    )


def _unknown(about: Examination) -> dict[str, set[str]]:
    """Return the channels that are used and not configured, with their users."""
    used = [(name, playbook.name) for playbook in about.playbooks for name in playbook.escalate.to]
    used += [(service.owner, f"service {service.name}") for service in about.loaded.inventory.services.values()]
    used += [(name, "watchdog.notify") for name in about.config.watchdog.notify]
    found: dict[str, set[str]] = {}
    for name, user in used:
        if name and name not in about.config.channels:
            found.setdefault(name, set()).add(user)
    return found
