"""``still_firing``: ask every Alertmanager, right now: does it fire, and does anybody hold it back?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from remediator.clients.alertmanager import Alertmanager, FiringAlert
from remediator.errors import ClientError
from remediator.guards import Answer, Guard, Question, Verdict
from remediator.run import Episode, EpisodeStatus
from remediator.world import World


class StillFiring(Guard):
    """Blocks unless an alert of the run fires somewhere and is suppressed nowhere; unknown if no peer answers.

    Suppressed on any peer counts, since silences travel by gossip and may be late on the others.
    """

    name = "still_firing"
    reasons = frozenset({"not_firing", "suppressed", "no_alertmanager"})

    def __init__(self, world: World) -> None:
        self._alertmanagers = world.alertmanagers

    async def ask(self, question: Question) -> Verdict:
        if not self._alertmanagers:
            return Verdict(Answer.UNKNOWN, "no_alertmanager", "still firing? no Alertmanager is configured to ask")
        alerts = [alert for alert in question.episodes if alert.status is EpisodeStatus.FIRING][:20]
        suppressed: list[str] = []
        firing: list[str] = []
        silent: list[str] = []
        for peer in self._alertmanagers:
            try:
                found = await asyncio.gather(*(peer.alert(alert.labels) for alert in alerts))
            except ClientError as error:
                silent.append(f"{peer.url}: {error}")
                continue
            _sort(peer, alerts, found, firing, suppressed)
        return _verdict(len(self._alertmanagers), firing, suppressed, silent)


def _sort(
    peer: Alertmanager,
    alerts: Sequence[Episode],
    found: Sequence[FiringAlert | None],
    firing: list[str],
    suppressed: list[str],
) -> None:
    for alert, answer in zip(alerts, found, strict=True):
        if answer is None:
            continue
        if answer.status.suppressed:
            by = [
                *(f"silence {each}" for each in answer.status.silenced_by),
                *(f"inhibited by {each}" for each in answer.status.inhibited_by),
                *(f"muted by {each}" for each in answer.status.muted_by),
            ]
            suppressed.append(f"{alert.alertname} on {peer.url}: {', '.join(by) or 'suppressed'}")
        else:
            firing.append(f"{alert.alertname} on {peer.url}")


def _verdict(peers: int, firing: Sequence[str], suppressed: Sequence[str], silent: Sequence[str]) -> Verdict:
    inputs = {"peers": peers, "firing": list(firing), "suppressed": list(suppressed), "silent": list(silent)}
    if suppressed:
        return Verdict(Answer.BLOCK, "suppressed", f"still firing: held back: {'; '.join(suppressed)}", inputs)
    if len(silent) == peers:
        return Verdict(Answer.UNKNOWN, "no_alertmanager", f"still firing? nobody answers: {'; '.join(silent)}", inputs)
    if not firing:
        return Verdict(Answer.BLOCK, "not_firing", f"still firing: no, on {peers - len(silent)} Alertmanagers", inputs)
    return Verdict(Answer.ALLOW, inputs=inputs)
