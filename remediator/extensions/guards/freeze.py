"""``freeze``: block in freeze windows and during calendar events."""

from __future__ import annotations

import asyncio
from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import Field

from remediator.errors import ConfigurationError
from remediator.extensions.guards import _calendars as calendars
from remediator.extensions.guards._windows import Span, Window, Zone
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Settings, Verdict, clock_time


class FreezeSettings(Settings):
    """Windows and calendars. A playbook replaces the windows and calendars of the settings file."""

    timezone: Zone = Field(default="UTC", description="IANA time zone of the windows, for example Europe/Berlin.")
    windows: tuple[Window, ...] = Field(default=(), description="Weekly and dated freeze windows.")
    calendars: tuple[Path, ...] = Field(
        default=(), description="iCalendar files, relative to the settings file. Every event in them is a freeze."
    )

    def off(self) -> str:
        said = self.model_fields_set & {"windows", "calendars"}
        return "no windows and no calendars" if said and not self.windows and not self.calendars else ""


class Freeze(Guard):
    """Blocks in a freeze window and during a calendar event. Unknown if a calendar cannot be read."""

    name = "freeze"
    reasons = frozenset({"frozen", "calendar_unreadable"})
    applies_to_undo = True
    Settings = FreezeSettings

    async def evaluate_live(self, guard_input: GuardInput) -> Verdict:
        settings: FreezeSettings = guard_input.settings
        zone = ZoneInfo(settings.timezone)
        for window in settings.windows:
            span = window.covering(guard_input.now, zone)
            if span is not None:
                return _frozen(guard_input, span, "windows", zone)
        # a calendar that cannot be read must not hide a freeze in a later one
        broken: ConfigurationError | None = None
        for path in settings.calendars:
            try:
                span = await asyncio.to_thread(calendars.covering, self.clients.folder / path, guard_input.now, zone)
            except ConfigurationError as error:
                broken = error
                continue
            if span is not None:
                return _frozen(guard_input, span, str(path), zone)
        if broken is not None:
            return Verdict(
                GuardAnswer.UNKNOWN, "calendar_unreadable", f"freeze calendar {broken}", {"error": str(broken)}
            )
        return ALLOW


def _frozen(guard_input: GuardInput, span: Span, source: str, zone: ZoneInfo) -> Verdict:
    local = span.end.astimezone(zone)
    text = f"freeze {span.name!r}" if span.name else "freeze"
    return Verdict(
        GuardAnswer.BLOCK,
        "frozen",
        f"{text} until {clock_time(span.end, guard_input.now)} ({local:%a %H:%M} {zone.key}), by {source}",
        {
            "name": span.name,
            "begin": span.begin.isoformat(),
            "end": span.end.isoformat(),
            "timezone": zone.key,
            "source": source,
        },
        span.end,
    )
