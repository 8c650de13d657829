"""How what Alertmanager says of one alert becomes an episode: pure, so that any order of messages can be tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from remediator.core.alert import instant
from remediator.core.run import Episode, EpisodeStatus, LastUpdate

MOMENT = timedelta(seconds=10)
"""How exactly ``last_seen_at`` is kept."""


NAME = 500
"""Characters of an alert's name that are kept apart, to search by: what an index surely holds. The labels have all."""


class EpisodeChange(StrEnum):
    """What one sighting did to an episode."""

    OPENED = "opened"
    REPEATED = "repeated"
    REOPENED = "reopened"
    RESOLVED = "resolved"
    STALE = "stale"
    """A message that was overtaken by one that we have: an end of what fired before, an answer older than the news."""
    NOTHING = "nothing"
    """Resolved, and we had not known that it fired: nothing to do for."""


@dataclass(frozen=True, slots=True)
class AlertUpdate:
    """One alert of one notification, or of the reconcile loop."""

    identity: str
    firing: bool
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts: str
    ends: str
    """As sent: read only where they matter, which for a repetition they do not."""
    as_of: datetime | None = None
    """When Alertmanager was asked, if this is its answer: what was said since then is newer."""

    @property
    def starts_at(self) -> datetime:
        """When it says that it began."""
        return instant(self.starts)

    @property
    def ends_at(self) -> datetime:
        """When it says that it ended; year 1 while it fires."""
        return instant(self.ends)


def says_nothing_new(current: Episode | LastUpdate, seen: AlertUpdate, now: datetime) -> bool:
    """Whether it repeats what was written a moment ago: the common case in a flood, and not worth a write."""
    return (
        seen.firing
        and current.status is EpisodeStatus.FIRING
        and now - current.last_seen_at < MOMENT
        and current.annotations == seen.annotations
    )


def fold(
    current: Episode | None, seen: AlertUpdate, now: datetime, quiet: timedelta, new_id: str
) -> tuple[EpisodeChange, Episode | None]:
    """The episode after a sighting, and what changed.

    Args:
        current: the episode of this identity that is not closed, if there is one.
        seen: what was said.
        now: when we read it. Clocks of other hosts decide nothing but the order within one alert.
        quiet: how long it must stay resolved before the next firing is another incident.
        new_id: the id to use if an episode opens.
    """
    if seen.as_of is not None and current is not None and current.last_seen_at >= seen.as_of:
        return EpisodeChange.STALE, current  # told while we asked; the next look will know
    if seen.firing:
        return _firing(current, seen, now, new_id)
    if current is None or current.status is EpisodeStatus.RESOLVED:
        return EpisodeChange.NOTHING, current
    if seen.ends_at < current.starts_at:
        return EpisodeChange.STALE, current
    return EpisodeChange.RESOLVED, replace(
        current, status=EpisodeStatus.RESOLVED, last_seen_at=now, resolved_at=now, closes_at=now + quiet
    )


def _firing(current: Episode | None, seen: AlertUpdate, now: datetime, new_id: str) -> tuple[EpisodeChange, Episode]:
    if current is None:
        return EpisodeChange.OPENED, Episode(
            id=new_id,
            identity=seen.identity,
            status=EpisodeStatus.FIRING,
            alertname=seen.labels.get("alertname", "")[:NAME],
            labels=seen.labels,
            annotations=seen.annotations,
            started_at=now,
            starts_at=seen.starts_at,
            last_seen_at=now,
            resolved_at=None,
            closes_at=None,
            flaps=0,
        )
    if current.status is EpisodeStatus.FIRING:
        return EpisodeChange.REPEATED, replace(current, last_seen_at=now, annotations=seen.annotations)
    starts_at = max(current.starts_at, seen.starts_at)
    # Fired again within the quiet time. It may also be an old message that was overtaken by its "resolved"; then the
    # still-firing guard finds out before anything is done. Missing a real firing would be the worse mistake.
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
    """The quiet time is over: the next firing is another incident."""
    return replace(current, status=EpisodeStatus.CLOSED)
