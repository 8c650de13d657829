"""``still_firing``: ask every Alertmanager, right now: does it fire, and does anybody hold it back?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import Field

from remediator.audit import REDACTED
from remediator.clients.alertmanager.client import Alertmanager, FiringAlert, matcher
from remediator.core.run import Episode, EpisodeStatus
from remediator.core.types import Duration
from remediator.errors import ClientError
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import Guard, GuardAnswer, GuardInput, Settings, Verdict, listed

_ONE_BY_ONE = 20
"""More alerts than this are asked for by alertname, all at once."""


class StillFiringSettings(Settings):
    """How long a peer may take."""

    within: Duration = Field(default=timedelta(seconds=3), description="A peer that takes longer counts as silent.")


@dataclass(slots=True)
class _Heard:
    """What the peers said."""

    peers: int
    firing: list[str] = field(default_factory=list)
    suppressed: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)


class StillFiring(Guard):
    """Blocks unless an alert of the run fires somewhere and is suppressed nowhere; unknown if no peer answers.

    Suppressed on any peer counts, since silences travel by gossip and may be late on the others.
    """

    name = "still_firing"
    reasons = frozenset({"not_firing", "suppressed", "no_alertmanager"})
    Settings = StillFiringSettings

    def __init__(self, world: ClientSet) -> None:
        self._alertmanagers = world.alertmanagers

    async def ask(self, question: GuardInput) -> Verdict:
        if not self._alertmanagers:
            return Verdict(GuardAnswer.UNKNOWN, "no_alertmanager", "still firing? no Alertmanager is configured to ask")
        alerts = [alert for alert in question.episodes if alert.status is EpisodeStatus.FIRING]
        heard = _Heard(len(self._alertmanagers))
        within = question.settings.within.total_seconds()
        answers = await asyncio.gather(*(_ask(peer, alerts, within) for peer in self._alertmanagers))
        for peer, answer in zip(self._alertmanagers, answers, strict=True):
            if isinstance(answer, str):
                heard.silent.append(f"{peer.url}: {answer}")
            else:
                _sort(peer, alerts, answer, heard)
        return _verdict(heard)


async def _ask(peer: Alertmanager, alerts: Sequence[Episode], within: float) -> list[FiringAlert | None] | str:
    """What one peer has for each alert, or why it has not said."""
    try:
        async with asyncio.timeout(within):
            if len(alerts) <= _ONE_BY_ONE and not any(map(_hidden, alerts)):
                return list(await asyncio.gather(*(peer.alert(alert.labels) for alert in alerts)))
            return await _by_name(peer, alerts)
    except TimeoutError:
        return f"no answer within {within:g} s"
    except ClientError as error:
        return str(error)


async def _by_name(peer: Alertmanager, alerts: Sequence[Episode]) -> list[FiringAlert | None]:
    names = sorted({alert.labels.get("alertname", "") for alert in alerts})
    found = await asyncio.gather(*(peer.alerts([matcher("alertname", name)]) for name in names))
    known = {_key(each.labels): each for group in found for each in group}
    return [_seen_through(alert, found) if _hidden(alert) else known.get(_key(alert.labels)) for alert in alerts]


def _hidden(alert: Episode) -> frozenset[str]:
    """Names of the labels whose value was a secret, and is not kept."""
    return frozenset(name for name, value in alert.labels.items() if REDACTED[:-1] in value)


def _seen_through(alert: Episode, found: Iterable[Iterable[FiringAlert]]) -> FiringAlert | None:
    """The alert that has the same labels, as far as they were kept."""
    hidden = _hidden(alert)
    kept = {name: value for name, value in alert.labels.items() if name not in hidden}
    for each in (one for group in found for one in group):
        if each.labels.keys() == alert.labels.keys() and kept.items() <= each.labels.items():
            return each
    return None


def _key(labels: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


def _sort(peer: Alertmanager, alerts: Sequence[Episode], answers: Sequence[FiringAlert | None], heard: _Heard) -> None:
    for alert, answer in zip(alerts, answers, strict=True):
        if answer is None:
            continue
        if answer.status.suppressed:
            by = [
                *(f"silence {each}" for each in answer.status.silenced_by),
                *(f"inhibited by {each}" for each in answer.status.inhibited_by),
                *(f"muted by {each}" for each in answer.status.muted_by),
            ]
            heard.suppressed.append(f"{alert.alertname} on {peer.url}: {', '.join(by) or 'suppressed'}")
        else:
            heard.firing.append(f"{alert.alertname} on {peer.url}")


def _verdict(heard: _Heard) -> Verdict:
    inputs = {
        "peers": heard.peers,
        "firing": heard.firing[:20],
        "suppressed": heard.suppressed[:20],
        "silent": heard.silent,
    }
    if heard.suppressed:
        return Verdict(GuardAnswer.BLOCK, "suppressed", f"held back: {'; '.join(heard.suppressed[:3])}", inputs)
    if len(heard.silent) == heard.peers:
        return Verdict(
            GuardAnswer.UNKNOWN, "no_alertmanager", f"still firing? nobody answers: {listed(heard.silent)}", inputs
        )
    if not heard.firing:
        asked = heard.peers - len(heard.silent)
        return Verdict(
            GuardAnswer.BLOCK, "not_firing", f"not firing any more on {asked} of {heard.peers} peers", inputs
        )
    return Verdict(GuardAnswer.ALLOW, inputs=inputs)
