"""The loops that receive the actions of people in chats, for the process that runs the loops."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from remediator.config import Config
from remediator.core.access_settings import Slack
from remediator.core.tokens import Keyring
from remediator.errors import ConfigurationError
from remediator.extensions.clientset import ClientSet
from remediator.extensions.notifiers.base import Notifier
from remediator.pipeline.context import PipelineContext
from remediator.runtime.access import AccessControl
from remediator.runtime.chat import ChatActions
from remediator.runtime.chat_polling import ButtonPoller
from remediator.runtime.slack_events import SlackEvents

Loop = Callable[[], Coroutine[Any, Any, None]]


def chat_actions(context: PipelineContext, config: Config, clients: ClientSet) -> ChatActions:
    """Return the actions of people in a chat, with the settings of this service."""
    return ChatActions(context, config.approvals, tuple(clients.alertmanagers))


def slack_events(
    context: PipelineContext, config: Config, access: AccessControl, keyring: Keyring, clients: ClientSet
) -> SlackEvents:
    """Return the handler of events of Slack. It always uses the current settings and people."""

    def settings() -> Slack:
        if access.settings.slack is None:
            raise ConfigurationError("access.slack is not set")
        return access.settings.slack

    return SlackEvents(
        settings, lambda: access.people, keyring, chat_actions(context, config, clients), context.clock.now
    )


def chat_loops(
    context: PipelineContext,
    config: Config,
    access: AccessControl,
    keyring: Keyring,
    clients: ClientSet,
    channels: Mapping[str, Notifier],
) -> dict[str, Loop]:
    """Return the loops of the chats in the settings, by name; empty if no chat needs a loop."""
    loops: dict[str, Loop] = {}
    if config.access.slack is not None and config.access.slack.app_token_file is not None:
        events = slack_events(context, config, access, keyring, clients)

        async def run_socket() -> None:
            from remediator.runtime.slack_socket import SlackSocket  # noqa: PLC0415 - only a service with a socket

            await SlackSocket(events.settings, events, context.clock).run()

        loops["slack socket"] = run_socket
    actions = chat_actions(context, config, clients)
    for name, notifier in channels.items():
        if notifier.polls_buttons:
            loops[f"buttons of {name}"] = ButtonPoller(
                context, name, notifier, lambda: access.people, keyring, actions
            ).run
    return loops
