"""``still_firing``: ask the source of each alert of the run whether it still fires and is not suppressed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain

from pydantic import Field

from remediator.audit import REDACTED
from remediator.clients.alertmanager.client import FiringAlert, matchers_for
from remediator.core.alert import ALERTMANAGER
from remediator.core.matchers import equals
from remediator.core.run import Episode, EpisodeStatus
from remediator.core.text import join_names
from remediator.core.types import Duration
from remediator.errors import ClientError
from remediator.extensions.guards.base import (
    Guard,
    GuardAnswer,
    GuardInput,
    Settings,
    Verdict,
    manual_start,
)
from remediator.extensions.sources.base import Peer

_ONE_BY_ONE = 20
"""Above this number of alerts, one request per alertname replaces one request per alert."""


class StillFiringSettings(Settings):
    """How long a source may take."""

    within: Duration = Field(
        default=timedelta(seconds=3), description="Time limit for the answer of each Alertmanager or Grafana."
    )


@dataclass(slots=True)
class _Answers:
    """The answers of all peers."""

    peers: int = 0
    firing: list[str] = field(default_factory=list)
    suppressed: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    """The peers that do not answer."""
    unanswered: list[str] = field(default_factory=list)
    """For each source without an answer from any peer: the reason why the state of its alerts is unknown."""
    unable: list[str] = field(default_factory=list)
    """For each source without a peer, the same."""


class StillFiring(Guard):
    """Blocks unless an alert of the run fires in its source and is suppressed nowhere. Unknown if no source can say.

    Each source is asked about its own alerts: every peer of Alertmanager, or Grafana. A suppression on one peer counts,
    because peers exchange silences with a delay. Labels that only name a replica of Prometheus are ignored. If one
    replica of a pair is gone, the alert of the other replica still fires. A run that a person started does not depend
    on an alert, so the guard allows it with this reason.
    """

    name = "still_firing"
    reasons = frozenset({"not_firing", "suppressed", "no_answer"})
    expected_reasons = frozenset({"suppressed"})
    passing_reasons = frozenset({"not_firing"})
    Settings = StillFiringSettings

    async def evaluate_live(self, guard_input: GuardInput) -> Verdict:
        if (manual := manual_start(guard_input, "it does not depend on an alert that fires")) is not None:
            return manual
        by_source: dict[str, list[Episode]] = {episode.source: [] for episode in guard_input.episodes}
        by_source = by_source or {ALERTMANAGER: []}
        for episode in guard_input.episodes:
            if episode.status is EpisodeStatus.FIRING:
                by_source[episode.source].append(episode)
        found = _Answers()
        within = guard_input.settings.within.total_seconds()
        await asyncio.gather(*(self._ask_source(*each, within, found) for each in by_source.items()))
        inputs = {
            "peers": found.peers,
            "firing": found.firing[:20],
            "suppressed": found.suppressed[:20],
            "silent": found.silent,
        }
        if found.suppressed:
            return Verdict(GuardAnswer.BLOCK, "suppressed", f"suppressed: {'; '.join(found.suppressed[:3])}", inputs)
        # A source that does not answer may suppress its alert, so an alert of another source that fires is not enough.
        # A source that can never say is no reason to doubt an alert of another source.
        unknown = found.unanswered or ([] if found.firing else found.unable)
        if unknown:
            text = f"cannot confirm that the alert fires: {'; '.join(unknown)}"
            return Verdict(GuardAnswer.UNKNOWN, "no_answer", text, inputs)
        if not found.firing:
            asked = found.peers - len(found.silent)
            return Verdict(
                GuardAnswer.BLOCK,
                "not_firing",
                f"not firing on {asked} of {found.peers} peers"
                if found.peers
                else "every alert of the run is resolved",
                inputs,
            )
        return Verdict(GuardAnswer.ALLOW, inputs=inputs)

    async def _ask_source(self, source: str, alerts: Sequence[Episode], within: float, found: _Answers) -> None:
        peers = self.clients.peers(source)
        found.peers += len(peers)
        answers = await asyncio.gather(*(_ask(peer, alerts, within, self.clients.ignored_labels) for peer in peers))
        silent = []
        for peer, answer in zip(peers, answers, strict=True):
            if isinstance(answer, str):
                silent.append(f"{peer.url}: {answer}")
            else:
                _sort(peer, alerts, answer, found)
        found.silent += silent
        default = source == ALERTMANAGER
        if not peers and (alerts or default):
            text = "no Alertmanager is configured" if default else f"the source {source!r} cannot be asked"
            found.unable.append(text)
        elif peers and len(silent) == len(peers):
            name = "Alertmanager" if default else f"server of the source {source!r}"
            found.unanswered.append(f"no {name} answers: {join_names(silent)}")


async def _ask(
    peer: Peer, alerts: Sequence[Episode], within: float, ignored: frozenset[str]
) -> list[FiringAlert | None] | str:
    """Return the state of each alert at one peer, or the reason why the peer did not answer."""
    wanted = [_without(alert.labels, ignored) for alert in alerts]
    try:
        async with asyncio.timeout(within):
            if len(wanted) <= _ONE_BY_ONE and not any(map(_hidden, wanted)):
                found = await asyncio.gather(*(peer.alerts(matchers_for(labels)) for labels in wanted))
            else:
                names = sorted({labels.get("alertname", "") for labels in wanted})
                found = await asyncio.gather(*(peer.alerts([equals("alertname", name)]) for name in names))
    except TimeoutError:
        return f"no answer within {within:g} s"
    except ClientError as error:
        return str(error)
    # find an alert with the same labels for each wanted alert; of several such alerts, prefer a suppressed one
    known: dict[frozenset[tuple[str, str]], FiringAlert] = {}
    for each in chain.from_iterable(found):
        key = _key(_without(each.labels, ignored))
        if key not in known or each.status.suppressed:
            known[key] = each
    return [_seen_through(labels, known) if _hidden(labels) else known.get(_key(labels)) for labels in wanted]


def _without(labels: Mapping[str, str], ignored: frozenset[str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if name not in ignored}


def _hidden(labels: Mapping[str, str]) -> frozenset[str]:
    """Return the names of the labels whose value was redacted as a secret."""
    return frozenset(name for name, value in labels.items() if REDACTED[:-1] in value)


def _seen_through(
    labels: Mapping[str, str], known: Mapping[frozenset[tuple[str, str]], FiringAlert]
) -> FiringAlert | None:
    """Return the alert with the same label names and the same values of the labels that were not redacted."""
    hidden = _hidden(labels)
    kept = {item for item in labels.items() if item[0] not in hidden}
    for key, each in known.items():
        if {name for name, _ in key} == labels.keys() and kept <= key:
            return each
    return None


def _key(labels: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


def _sort(peer: Peer, alerts: Sequence[Episode], answers: Sequence[FiringAlert | None], found: _Answers) -> None:
    for alert, answer in zip(alerts, answers, strict=True):
        if answer is None:
            continue
        if answer.status.suppressed:
            by = [
                *(f"silence {each}" for each in answer.status.silenced_by),
                *(f"inhibited by {each}" for each in answer.status.inhibited_by),
                *(f"muted by {each}" for each in answer.status.muted_by),
            ]
            found.suppressed.append(f"{alert.alertname} on {peer.url}: {', '.join(by) or 'suppressed'}")
        else:
            found.firing.append(f"{alert.alertname} on {peer.url}")
