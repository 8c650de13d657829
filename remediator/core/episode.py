"""How the updates of one alert become an episode. No I/O, so that tests can try every order of updates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from remediator.core.alert import ALERTMANAGER, instant
from remediator.core.run import Episode, EpisodeStatus, LastUpdate

REPEAT_INTERVAL = timedelta(seconds=10)
"""An alert that repeats within this time is not written again: the resolution of ``last_seen_at``."""

MAX_NAME_LENGTH = 500
"""Characters of ``alertname`` in its own column: the size that an index can hold. The labels have the whole name."""


class EpisodeChange(StrEnum):
    """How one update changed an episode."""

    OPENED = "opened"
    REPEATED = "repeated"
    REOPENED = "reopened"
    RESOLVED = "resolved"
    STALE = "stale"
    """The update is older than the stored state: the end of an earlier firing, or an older answer of Alertmanager."""
    NOTHING = "nothing"
    """Resolved, and no firing was known."""


@dataclass(frozen=True, slots=True)
class AlertUpdate:
    """One alert of a notification or of the reconcile loop."""

    identity: str
    firing: bool
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts: str
    ends: str
    """The sent times; parsed only when needed, because most updates are repetitions."""
    generator_url: str = ""
    """Link to the expression in Prometheus."""
    as_of: datetime | None = None
    """When the source was asked, for an update of the reconcile loop. Later notifications are newer."""
    source: str = ALERTMANAGER
    """Name of the source in the settings."""

    @property
    def starts_at(self) -> datetime:
        """Return when the alert began, according to Alertmanager."""
        return instant(self.starts)

    @property
    def ends_at(self) -> datetime:
        """Return when the alert ended, according to Alertmanager; year 1 while it fires."""
        return instant(self.ends)


def is_repeat(current: Episode | LastUpdate, seen: AlertUpdate, now: datetime) -> bool:
    """Return whether an update repeats a write from seconds ago, as most updates of a flood do."""
    return (
        seen.firing
        and current.status is EpisodeStatus.FIRING
        and now - current.last_seen_at < REPEAT_INTERVAL
        and current.annotations == seen.annotations
    )


def fold(
    current: Episode | None, seen: AlertUpdate, now: datetime, resolve_grace: timedelta, new_id: str
) -> tuple[EpisodeChange, Episode | None]:
    """Return the changes of an update, and the episode after it.

    Args:
        current: the episode of this alert that is not closed, if there is one.
        seen: the update.
        now: when it is processed. Clocks of other hosts decide only about the order of updates of one alert.
        resolve_grace: how long the alert must stay resolved before its next firing starts a new episode.
        new_id: ID for a new episode.
    """
    if seen.as_of is not None and current is not None and current.last_seen_at >= seen.as_of:
        return (
            EpisodeChange.STALE,
            current,
        )  # a newer notification arrived while Alertmanager was asked; the next comparison decides
    if seen.firing:
        return _firing(current, seen, now, new_id)
    if current is None or current.status is EpisodeStatus.RESOLVED:
        return EpisodeChange.NOTHING, current
    if _ended_before(current, seen):
        return EpisodeChange.STALE, current
    return EpisodeChange.RESOLVED, replace(
        current, status=EpisodeStatus.RESOLVED, last_seen_at=now, resolved_at=now, closes_at=now + resolve_grace
    )


def _ended_before(current: Episode, seen: AlertUpdate) -> bool:
    """Return whether a resolved update is about a firing before the current one.

    The end decides if it is plausible. The end may be unset (year 1), if the sender has no end. It may be before the
    start of the update, if the clock of the sender is wrong. Then the start decides: the same firing, or an older one.
    """
    starts_at, ends_at = seen.starts_at, seen.ends_at
    if ends_at.year == 1 or ends_at < starts_at:
        return starts_at.year != 1 and starts_at < current.starts_at
    return ends_at < current.starts_at


def _firing(current: Episode | None, seen: AlertUpdate, now: datetime, new_id: str) -> tuple[EpisodeChange, Episode]:
    if current is None:
        return EpisodeChange.OPENED, Episode(
            id=new_id,
            identity=seen.identity,
            status=EpisodeStatus.FIRING,
            alertname=seen.labels.get("alertname", "")[:MAX_NAME_LENGTH],
            labels=seen.labels,
            annotations=seen.annotations,
            started_at=now,
            starts_at=seen.starts_at,
            last_seen_at=now,
            resolved_at=None,
            closes_at=None,
            flaps=0,
            generator_url=seen.generator_url,
            source=seen.source,
        )
    if current.status is EpisodeStatus.FIRING:
        return EpisodeChange.REPEATED, replace(current, last_seen_at=now, annotations=seen.annotations)
    starts_at = max(current.starts_at, seen.starts_at)
    # It fired again within the resolve grace. This may also be an old notification that arrives after its "resolved";
    # the guard still_firing finds that out before anything is done. Missing a real firing would be worse.
    return EpisodeChange.REOPENED, replace(
        current,
        status=EpisodeStatus.FIRING,
        starts_at=starts_at,
        last_seen_at=now,
        resolved_at=None,
        closes_at=None,
        flaps=current.flaps + 1,
        annotations=seen.annotations,
    )


def close(current: Episode) -> Episode:
    """Return the episode as closed: the next firing starts a new one."""
    return replace(current, status=EpisodeStatus.CLOSED)
