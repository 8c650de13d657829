"""Built-in notifiers, one file for each. To add one: write its file and add it to ``BUILTIN``."""

from __future__ import annotations

from remediator.extensions.notifiers.apprise import AppriseNotifier
from remediator.extensions.notifiers.base import Notifier
from remediator.extensions.notifiers.discord import DiscordNotifier
from remediator.extensions.notifiers.email import EmailNotifier
from remediator.extensions.notifiers.google_chat import GoogleChatNotifier
from remediator.extensions.notifiers.log import LogNotifier
from remediator.extensions.notifiers.mattermost import MattermostNotifier
from remediator.extensions.notifiers.opsgenie import OpsgenieNotifier
from remediator.extensions.notifiers.pagerduty import PagerDutyNotifier
from remediator.extensions.notifiers.slack import SlackNotifier
from remediator.extensions.notifiers.teams import TeamsNotifier
from remediator.extensions.notifiers.telegram import TelegramNotifier
from remediator.extensions.notifiers.webhook import WebhookNotifier

BUILTIN: tuple[type[Notifier], ...] = (
    AppriseNotifier,
    DiscordNotifier,
    EmailNotifier,
    GoogleChatNotifier,
    LogNotifier,
    MattermostNotifier,
    OpsgenieNotifier,
    PagerDutyNotifier,
    SlackNotifier,
    TeamsNotifier,
    TelegramNotifier,
    WebhookNotifier,
)
