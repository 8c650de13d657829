"""Whether any notification channel reaches a person."""

from __future__ import annotations

from collections.abc import Mapping

from remediator.extensions.notifiers.base import Notifier


def reach_problem(channels: Mapping[str, Notifier]) -> str:
    """Return why no channel reaches a person; an empty text if one does.

    Args:
        channels: the channels of the settings, by name.
    """
    obstacles = {name: notifier.obstacle for name, notifier in sorted(channels.items())}
    if not all(obstacles.values()):
        return ""
    why = "; ".join(f"{name}: {obstacle}" for name, obstacle in obstacles.items()) or "the settings have no channels"
    return f"no channel reaches a person ({why}); requests and escalations are only in the log and the console"
