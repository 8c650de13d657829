"""Releases of a target: their record, and the release that a rollback may restore. Pure functions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from remediator.core.clock import rfc3339
from remediator.errors import TargetError

_LONGEST_KEY = 200


class Verdict(StrEnum):
    """The stored verdict about a release of a target."""

    BAD = "bad"
    """It was rolled back."""
    GOOD = "good"
    """A rollback restored it, and verification proved that the target is healed."""


@dataclass(frozen=True, slots=True)
class Release:
    """A version of a service that the platform recorded and can restore."""

    id: str
    """Argument of ``rollback``: an image ID, the name of a ReplicaSet, the name of a folder or a revision."""
    created_at: datetime | None
    current: bool
    facts: Mapping[str, Any] = field(default_factory=dict)
    """``redo``: according to the record of the platform, the release was rolled back before. ``tied``: the order
    relative to another release is unknown."""
    identity: str = ""
    """Equal for two records of the same content, for example a ReplicaSet and its restart. Default: the ID."""
    name: str = ""
    """How people know it: image and version, or the name of a folder. Default: the ID."""
    deployed_by: str = ""
    """The person or program that deployed it; empty if the platform does not record it."""

    @property
    def key(self) -> str:
        """Return the key of the release in the store, at most 200 characters."""
        key = self.identity or self.id
        return key if len(key) <= _LONGEST_KEY else hashlib.sha256(key.encode()).hexdigest()

    @property
    def label(self) -> str:
        """Return its name; the ID if the platform knows no name."""
        return self.name or self.id

    @property
    def title(self) -> str:
        """Return its name, time and author, for people: ``shop:1.4.2 (since 2024-05-01T12:00Z by helm)``."""
        since = "" if self.created_at is None else f"since {rfc3339(self.created_at)[:16]}Z"
        by = f"by {self.deployed_by}" if self.deployed_by else ""
        more = " ".join(part for part in (since, by) if part)
        return f"{self.label} ({more})" if more else self.label


@dataclass(frozen=True, slots=True)
class ReleaseMemory:
    """The releases of one target that the store has a verdict about, by their key."""

    verdicts: Mapping[str, Verdict] = field(default_factory=dict)

    def is_bad(self, release: Release) -> bool:
        """Return whether a rollback must not restore it. The store's verdict wins over the platform's own record."""
        verdict = self.verdicts.get(release.key)
        return bool(release.facts.get("redo")) if verdict is None else verdict is Verdict.BAD

    def is_good(self, release: Release) -> bool:
        """Return whether the target was proved healthy with it."""
        return self.verdicts.get(release.key) is Verdict.GOOD


@dataclass(frozen=True, slots=True)
class ReleaseChange:
    """A change from one release to another, as the store remembers it: key and name of both."""

    left: str
    left_name: str
    restored: str
    restored_name: str


def previous(target: str, releases: Sequence[Release], memory: ReleaseMemory) -> tuple[Release, Release]:
    """Return the current release and the release that a rollback restores.

    A rollback restores the newest earlier release that is not known to be bad. If there is no such release, or if the
    order is unknown, it restores the newest release that is known to be good. The platform may list this release as
    newer than the current one.

    Args:
        target: name of the service, for errors.
        releases: as the platform recorded them, the newest first.
        memory: the memory of these releases in the store.

    Raises:
        TargetError: there is no such release, or not exactly one release is current.
    """
    current = [release for release in releases if release.current]
    if len({release.key for release in current}) != 1:
        names = ", ".join(release.title for release in current) or "none"
        raise TargetError(f"{target}: exactly one release must be current, but these are: {names}")
    now = current[0]
    others = [release for release in releases if release.key != now.key]
    older = [release for release in releases[releases.index(now) + 1 :] if release.key != now.key]
    usable = [release for release in older if not memory.is_bad(release)]
    if usable and not (now.facts.get("tied") or usable[0].facts.get("tied")):
        return now, usable[0]
    good = [release for release in others if memory.is_good(release)]
    if good:
        return now, good[0]
    if usable:
        raise TargetError(f"{target}: several releases have the same age, so the release before {now.title} is unknown")
    bad = "; ".join(release.title for release in others if memory.is_bad(release))
    because = f"; not used, because they were rolled back: {bad}" if bad else ""
    raise TargetError(f"{target}: no release before {now.title} is recorded{because}")
