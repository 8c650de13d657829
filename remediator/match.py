"""The verb *match*: which playbooks are for an alert. The cost does not grow with playbooks that are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from remediator.matchers import Operator
from remediator.playbook import Playbook


class Index:
    """Playbooks by the label equalities that they ask for; only those whose equality holds are looked at."""

    def __init__(self, playbooks: Iterable[Playbook]) -> None:
        self._by_label: dict[str, dict[str, list[Playbook]]] = {}
        self._others: list[Playbook] = []
        for playbook in playbooks:
            self._place(playbook)

    def _place(self, playbook: Playbook) -> None:
        if playbook.match.alertname:
            for name in playbook.match.alertname:
                self._by_label.setdefault("alertname", {}).setdefault(name, []).append(playbook)
            return
        for matcher in playbook.match.parsed:
            if matcher.operator is Operator.EQUAL and matcher.value:
                self._by_label.setdefault(matcher.name, {}).setdefault(matcher.value, []).append(playbook)
                return
        self._others.append(playbook)

    def match(self, labels: Mapping[str, str]) -> list[Playbook]:
        """Those whose every condition holds, in the order of their names."""
        found = [
            playbook
            for label, values in self._by_label.items()
            for playbook in values.get(labels.get(label, ""), ())
            if _holds(playbook, labels)
        ]
        found += [playbook for playbook in self._others if _holds(playbook, labels)]
        return sorted(found, key=lambda playbook: playbook.name)


def _holds(playbook: Playbook, labels: Mapping[str, str]) -> bool:
    return all(matcher.matches(labels) for matcher in playbook.match.parsed)


def explain(playbooks: Sequence[Playbook], labels: Mapping[str, str]) -> dict[str, list[str]]:
    """For each playbook, the conditions that do not hold; empty for those that match."""
    return {playbook.name: _missing(playbook, labels) for playbook in playbooks}


def _missing(playbook: Playbook, labels: Mapping[str, str]) -> list[str]:
    missing = [str(matcher) for matcher in playbook.match.parsed if not matcher.matches(labels)]
    names = playbook.match.alertname
    if len(names) > 1 and labels.get("alertname") not in names:
        missing.insert(0, f"alertname is one of {', '.join(names)}")
    return missing
