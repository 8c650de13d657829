"""When people are notified: the settings of approval channels, reminders, pages and quiet hours."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from remediator.core.severity import SEVERITIES, Severity
from remediator.core.types import Duration, PositiveDuration, SecretFile, Strict


class QuietHours(Strict):
    """Daily hours in which a channel gets only messages about severe alerts."""

    begin: str = Field(
        alias="from", pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="Local time of the beginning, such as 22:00."
    )
    end: str = Field(
        alias="to", pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="Local time of the end, such as 07:00."
    )
    timezone: str = Field(default="UTC", description="IANA time zone, for example Europe/Berlin.")
    severity: Severity = Field(
        default="critical", description="Alerts of this severity and above are sent in these hours too."
    )

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"unknown time zone {value!r}, expected a name like Europe/Berlin") from None
        return value

    def quiet_until(self, severity: str, now: datetime) -> datetime | None:
        """Return the time until which a message of this severity waits; None if it is sent now."""
        if severity in SEVERITIES[: SEVERITIES.index(self.severity) + 1]:
            return None
        local = now.astimezone(ZoneInfo(self.timezone))
        begin, end = (time.fromisoformat(item) for item in (self.begin, self.end))
        clock = local.time()
        quiet = begin <= clock < end if begin <= end else clock >= begin or clock < end
        if not quiet:
            return None
        day = local.date() + timedelta(days=1 if clock >= end else 0)
        return datetime.combine(day, end, local.tzinfo).astimezone(now.tzinfo)


class Approvals(Strict):
    """Approval requests."""

    channels: tuple[str, ...] = Field(
        default=(),
        description="Channels for requests. All channels get a request at once. If no channel can be reached, the "
        "service uses the channels in escalate.to of the playbook.",
    )
    remind_after: Duration = Field(
        default=timedelta(minutes=5), description="Remind these channels after this time without a decision; 0s: never."
    )
    page_channels: tuple[str, ...] = Field(
        default=(), description="Channels to page before the deadline of an undecided request."
    )
    time_to_page: Mapping[Severity, Duration] = Field(
        default={"critical": timedelta(minutes=3)},
        description="How long after a request page_channels are paged, by severity of the alert. Default: 3m for "
        "critical; other severities page_before the deadline.",
    )
    page_before: PositiveDuration = Field(
        default=timedelta(minutes=5),
        description="How long before the deadline page_channels are paged, for severities that are not in "
        "time_to_page. If the request is shorter, after half of its time.",
    )
    allow_link_only: bool = Field(
        default=False, description="Let the link alone approve plans of low risk. The audit log records 'link holder'."
    )
    keys_file: SecretFile | None = Field(
        default=None,
        description="File with the keys that sign links and forms. Default with SQLite: <state>/links.key, which is "
        "created. Required with PostgreSQL, because all replicas need the same keys.",
    )
    snooze_duration: Duration = Field(
        default=timedelta(minutes=30), description="How long after a snooze the service plans and asks again."
    )

    def reminder_at(self, requested: datetime, expires: datetime) -> datetime | None:
        """Return when people are reminded of a request; None if never before its deadline."""
        at = requested + self.remind_after
        return at if self.remind_after and at < expires else None

    def page_at(self, severity: str, requested: datetime, expires: datetime) -> datetime | None:
        """Return when ``page_channels`` are paged about a request, or None."""
        if not self.page_channels:
            return None
        wait = next((span for name, span in self.time_to_page.items() if name == severity), None)
        if wait is not None:
            return min(requested + wait, expires)
        return max(expires - self.page_before, requested + (expires - requested) / 2)
