"""``freeze``: times in which nobody wants anything changed: nights before a launch, holidays, month ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import Field

from remediator.errors import ConfigurationError
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards import _calendars as calendars
from remediator.extensions.guards._windows import Span, Window, Zone
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Settings, Verdict, clock_time


class FreezeSettings(Settings):
    """Windows and calendars; a playbook's own replace those of the installation."""

    timezone: Zone = Field(default="UTC", description="IANA time zone in which windows are written.")
    windows: tuple[Window, ...] = Field(default=(), description="Weekly and dated windows.")
    calendars: tuple[Path, ...] = Field(
        default=(), description="iCalendar files, relative to the settings file; while any event is on, it is frozen."
    )

    def off(self) -> str:
        said = self.model_fields_set & {"windows", "calendars"}
        return "no windows and no calendars" if said and not self.windows and not self.calendars else ""


class Freeze(Guard):
    """Blocks inside a window or during an event; unknown if a calendar cannot be read."""

    name = "freeze"
    reasons = frozenset({"frozen", "calendar_unreadable"})
    Settings = FreezeSettings

    def __init__(self, world: ClientSet) -> None:
        self._folder = world.folder

    async def ask(self, question: GuardInput) -> Verdict:
        settings: FreezeSettings = question.settings
        zone = ZoneInfo(settings.timezone)
        for window in settings.windows:
            span = window.covering(question.now, zone)
            if span is not None:
                return _frozen(question, span, "windows", zone)
        return await self._calendars(question, settings, zone)

    async def _calendars(self, question: GuardInput, settings: FreezeSettings, zone: ZoneInfo) -> Verdict:
        broken: ConfigurationError | None = None
        for path in settings.calendars:
            try:
                span = await asyncio.to_thread(calendars.covering, self._folder / path, question.now, zone)
            except ConfigurationError as error:
                broken = error
                continue
            if span is not None:
                return _frozen(question, span, str(path), zone)
        if broken is not None:
            return Verdict(
                GuardAnswer.UNKNOWN, "calendar_unreadable", f"freeze calendar {broken}", {"error": str(broken)}
            )
        return ALLOW


def _frozen(question: GuardInput, span: Span, source: str, zone: ZoneInfo) -> Verdict:
    local = span.end.astimezone(zone)
    text = f"freeze {span.name!r}" if span.name else "freeze"
    return Verdict(
        GuardAnswer.BLOCK,
        "frozen",
        f"{text} until {clock_time(span.end, question.now)} ({local:%a %H:%M} {zone.key}), by {source}",
        {
            "name": span.name,
            "begin": span.begin.isoformat(),
            "end": span.end.isoformat(),
            "timezone": zone.key,
            "source": source,
        },
        span.end,
    )
