"""``storm``: when everything looks broken, it is not each thing that is: stop, and let a person look."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
from sqlalchemy import Connection

from remediator.core.clock import format_duration
from remediator.core.run import EpisodeStatus
from remediator.core.types import Duration
from remediator.errors import RemediatorError
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Settings, Verdict, clock_time
from remediator.storage.repositories import storms


class StormSettings(Settings):
    """What is a flood of alerts, and what is too large a part of one service."""

    alerts: int = Field(default=200, ge=2, description="So many new alerts within ``within`` are a storm.")
    within: Duration = Field(default=timedelta(minutes=1), description="The time in which they are counted.")
    cooldown: Duration = Field(default=timedelta(minutes=5), description="How long nothing is done after a storm.")
    max_share: float = Field(
        default=0.5, gt=0, le=1, description="If more than this part of a service's instances alert, nothing is done."
    )
    min_instances: int = Field(default=3, ge=2, description="Smaller services are not judged by their share.")
    label: str = Field(default="instance", description="The alert label that tells instances apart.")

    def off(self) -> str:
        return "more than all instances never alert" if self.max_share == 1 else ""


class Storm(Guard):
    """Blocks in a flood of new alerts and for a while after it, and when most instances of a service alert."""

    name = "storm"
    reasons = frozenset({"storm", "after_storm", "most_instances", "platform_silent"})
    Settings = StormSettings

    def __init__(self, world: ClientSet) -> None:
        """It asks the platform through the question's sight."""

    def decide(self, connection: Connection, question: GuardInput) -> Verdict:
        settings: StormSettings = question.settings
        since = question.now - settings.within - settings.cooldown
        last = storms.last_storm_at(connection, since, settings.alerts, settings.within)
        if last is None:
            return ALLOW
        free = last + settings.cooldown
        if free <= question.now:
            return ALLOW
        rule = f"{settings.alerts} new alerts in {format_duration(settings.within)}"
        inputs = {"alerts": settings.alerts, "within": format_duration(settings.within), "last": last.isoformat()}
        at, until = clock_time(last, question.now), clock_time(free, question.now)
        if question.now - last <= settings.within:
            text = f"storm of {rule} or more at {at}; a person should look; not before {until}"
            return Verdict(GuardAnswer.BLOCK, "storm", text, inputs, free)
        text = f"storm of {rule} or more ended at {at}; statuses arrive in part, so nothing is done until {until}"
        return Verdict(GuardAnswer.BLOCK, "after_storm", text, inputs, free)

    def looks_back(self, settings: StormSettings) -> timedelta:
        return settings.within + settings.cooldown

    async def ask(self, question: GuardInput) -> Verdict:
        settings: StormSettings = question.settings
        alerting = {
            item.labels[settings.label]
            for item in question.episodes
            if item.status is EpisodeStatus.FIRING and settings.label in item.labels
        }
        if len(alerting) < settings.min_instances:
            return ALLOW
        name = question.service.name
        try:
            status = await question.sight.status()
        except RemediatorError as error:
            text = f"{len(alerting)} instances of {name} alert; of how many, the platform does not say: {error}"
            return Verdict(GuardAnswer.UNKNOWN, "platform_silent", text, {"alerting": len(alerting)})
        total = max(status.instances, len(alerting))
        if len(alerting) <= settings.max_share * total:
            return ALLOW
        return Verdict(
            GuardAnswer.BLOCK,
            "most_instances",
            f"storm at {name}: {len(alerting)} of {total} instances alert, more than {settings.max_share:.0%}; "
            "a person should look",
            {"alerting": sorted(alerting)[:20], "instances": total, "max_share": settings.max_share},
        )
