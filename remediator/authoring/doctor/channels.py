"""The channels: their settings are valid, playbooks use only known ones, and a test message arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

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
            yield warning("channels", "the settings name none: messages go to the log only", "add a channel")
        for name, channel in settings.items():
            if not about.send:
                text = f"{channel.kind}, not tested; --send sends a test message"
                yield skipped(name, text) if channel.kind != "log" else _log(name)
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


def _log(name: str) -> Result:
    text = "messages go to the log of the service, where nobody may read them"
    return warning(name, text, "use a chat, e-mail or a pager for this channel; see docs/notifiers.md")


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
    found: dict[str, set[str]] = {}
    for name, user in _used(about):
        if name and name not in about.config.channels:
            found.setdefault(name, set()).add(user)
    return found


def _used(about: Examination) -> Iterator[tuple[str, str]]:
    for playbook in about.playbooks:
        yield from ((name, playbook.name) for name in playbook.escalate.to)
    for service in about.loaded.inventory.services.values():
        yield service.owner, f"service {service.name}"
    yield from ((name, "watchdog.notify") for name in about.config.watchdog.notify)
