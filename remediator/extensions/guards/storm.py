"""``storm``: do nothing during an alert storm, or while most instances of a service alert."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
from sqlalchemy import Connection

from remediator.core.clock import format_duration
from remediator.core.run import EpisodeStatus
from remediator.core.types import Duration
from remediator.errors import RemediatorError
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Settings, Verdict, clock_time
from remediator.storage.repositories import storms


class StormSettings(Settings):
    """The limits of an alert storm, and of the share of a service."""

    alerts: int = Field(default=200, ge=2, description="A storm is at least this many new alerts within ``within``.")
    within: Duration = Field(default=timedelta(minutes=1), description="Time window for ``alerts``.")
    cooldown: Duration = Field(default=timedelta(minutes=5), description="How long to do nothing after a storm.")
    max_share: float = Field(
        default=0.5, gt=0, le=1, description="Do nothing to a service when more than this share of its instances alert."
    )
    min_instances: int = Field(
        default=3, ge=2, description="``max_share`` applies when at least this many instances alert."
    )
    label: str = Field(default="instance", description="The alert label that identifies an instance.")

    def off(self) -> str:
        return "its max_share is 1" if self.max_share == 1 else ""


class Storm(Guard):
    """Blocks during an alert storm, for ``cooldown`` after it, and while most instances of a service alert."""

    name = "storm"
    reasons = frozenset({"storm", "after_storm", "most_instances", "platform_silent"})
    same_for_all_steps = True
    Settings = StormSettings

    def evaluate_stored(self, connection: Connection, guard_input: GuardInput) -> Verdict:
        settings: StormSettings = guard_input.settings
        since = guard_input.now - settings.within - settings.cooldown
        last = storms.last_storm_at(connection, since, settings.alerts, settings.within)
        if last is None:
            return ALLOW
        free = last + settings.cooldown
        if free <= guard_input.now:
            return ALLOW
        rule = f"{settings.alerts} new alerts in {format_duration(settings.within)}"
        inputs = {"alerts": settings.alerts, "within": format_duration(settings.within), "last": last.isoformat()}
        at, until = clock_time(last, guard_input.now), clock_time(free, guard_input.now)
        if guard_input.now - last <= settings.within:
            text = f"alert storm at {at}: at least {rule}; no action before {until}"
            return Verdict(GuardAnswer.BLOCK, "storm", text, inputs, free)
        text = f"alert storm of at least {rule} ended at {at}; alerts may still resolve, so no action before {until}"
        return Verdict(GuardAnswer.BLOCK, "after_storm", text, inputs, free)

    def lookback(self, settings: StormSettings) -> timedelta:
        return settings.within + settings.cooldown

    async def evaluate_live(self, guard_input: GuardInput) -> Verdict:
        settings: StormSettings = guard_input.settings
        alerting = {
            item.labels[settings.label]
            for item in guard_input.episodes
            if item.status is EpisodeStatus.FIRING and settings.label in item.labels
        }
        if len(alerting) < settings.min_instances:
            return ALLOW
        name = guard_input.service.name
        try:
            status = await guard_input.view.status()
        except RemediatorError as error:
            text = f"{len(alerting)} instances of {name} alert, and their total number is unknown: {error}"
            return Verdict(GuardAnswer.UNKNOWN, "platform_silent", text, {"alerting": len(alerting)})
        total = max(status.instances, len(alerting))
        if len(alerting) <= settings.max_share * total:
            return ALLOW
        return Verdict(
            GuardAnswer.BLOCK,
            "most_instances",
            f"{len(alerting)} of {total} instances of {name} alert, more than {settings.max_share:.0%}: "
            "a shared cause is likely",
            {"alerting": sorted(alerting)[:20], "instances": total, "max_share": settings.max_share},
        )
