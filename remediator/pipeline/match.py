"""Find the playbooks whose matchers fit an alert. Playbooks for other alerts cost no time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from remediator.playbooks.model import Playbook

_ALERTNAME = "alertname"


@dataclass(frozen=True, slots=True)
class Unmet:
    """A matcher of a playbook that an alert does not fulfil."""

    label: str
    wanted: str
    """The matcher, as the playbook writes it."""
    found: str | None
    """The value of the alert's label; None if the alert does not have the label."""

    def __str__(self) -> str:
        found = f"is {self.found!r}" if self.found is not None else "is missing"
        return f"{self.wanted}, but {self.label} {found}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a playbook matches an alert, or does not."""

    playbook: Playbook
    unmet: tuple[Unmet, ...]
    note: str = ""
    """The reason why the playbook does not match although every matcher fits."""

    @property
    def matches(self) -> bool:
        """Return whether the playbook matches the alert."""
        return not self.unmet and not self.note


@dataclass(frozen=True, slots=True)
class _Key:
    """One way to find a playbook: by whole values of a label, or by prefixes of its value."""

    label: str
    texts: frozenset[str]
    whole: bool


class Index:
    """An index of playbooks by labels, so that only playbooks with a label of the alert are compared.

    Each playbook is indexed by the rarest of its matchers that can be looked up. A matcher can be looked up by a list
    of values (``=``, and plain alternatives in ``=~``), or by the prefix of a regular expression. The few playbooks
    without such a matcher are compared with every alert.

    Args:
        playbooks: the active playbooks.
        watchdog: the alertname that proves that alerts arrive; no playbook matches it.
    """

    def __init__(self, playbooks: Iterable[Playbook], watchdog: str = "Watchdog") -> None:
        self.playbooks = tuple(playbooks)
        self.watchdog = watchdog
        self._by_value: dict[str, dict[str, list[Playbook]]] = {}
        self._by_prefix: dict[str, dict[str, list[Playbook]]] = {}
        self._others: list[Playbook] = []
        keys = [tuple(_keys(playbook)) for playbook in self.playbooks]
        common = Counter((key.label, text, key.whole) for each in keys for key in each for text in key.texts)
        for playbook, each in zip(self.playbooks, keys, strict=True):
            if not each:
                self._others.append(playbook)
                continue
            rarest = min(each, key=lambda key: max(common[key.label, text, key.whole] for text in key.texts))
            table = self._by_value if rarest.whole else self._by_prefix
            for text in rarest.texts:
                table.setdefault(rarest.label, {}).setdefault(text, []).append(playbook)
        self._lengths = {
            label: tuple(sorted({len(prefix) for prefix in prefixes})) for label, prefixes in self._by_prefix.items()
        }

    def match(self, labels: Mapping[str, str]) -> list[Playbook]:
        """Return the playbooks that match an alert, by name."""
        if labels.get(_ALERTNAME) == self.watchdog:
            return []
        found = [playbook for playbook in self._candidates(labels) if holds(playbook, labels)]
        if len(found) > 1:
            found.sort(key=lambda playbook: playbook.name)
        return found

    def _candidates(self, labels: Mapping[str, str]) -> Iterator[Playbook]:
        for label, value in labels.items():
            if (values := self._by_value.get(label)) is not None:
                yield from values.get(value, ())
            if (prefixes := self._by_prefix.get(label)) is not None:
                for length in self._lengths[label]:
                    yield from prefixes.get(value[:length], ()) if length <= len(value) else ()
        yield from self._others

    def explain(self, labels: Mapping[str, str]) -> list[Explanation]:
        """Return for every playbook the matchers that the alert does not fulfil, by name of the playbook."""
        note = (
            f"{self.watchdog} only proves that alerts arrive; no playbook matches it"
            if labels.get(_ALERTNAME) == self.watchdog
            else ""
        )
        return explain(self.playbooks, labels, note)


def explain(playbooks: Sequence[Playbook], labels: Mapping[str, str], note: str = "") -> list[Explanation]:
    """Return for every playbook why it matches an alert with these labels, or does not, by name of the playbook."""
    ordered = sorted(playbooks, key=lambda playbook: playbook.name)
    return [Explanation(playbook, tuple(_unmet(playbook, labels)), note) for playbook in ordered]


def _unmet(playbook: Playbook, labels: Mapping[str, str]) -> Iterator[Unmet]:
    for matcher in playbook.match.parsed:
        if not matcher.matches(labels):
            yield Unmet(matcher.name, str(matcher), labels.get(matcher.name))


def holds(playbook: Playbook, labels: Mapping[str, str]) -> bool:
    """Return whether every matcher of a playbook fits an alert with these labels."""
    return all(matcher.matches(labels) for matcher in playbook.match.parsed)


def accepts_alertname(playbook: Playbook, value: str) -> bool:
    """Return whether all matchers of a playbook for the label ``alertname`` accept a value."""
    return all(matcher.accepts(value) for matcher in playbook.match.parsed if matcher.name == "alertname")


def _keys(playbook: Playbook) -> Iterator[_Key]:
    """Return the keys. An empty value means "missing" and an empty prefix anything: neither can be looked up."""
    for matcher in playbook.match.parsed:
        if matcher.literals is not None:
            if "" not in matcher.literals:
                yield _Key(matcher.name, matcher.literals, whole=True)
        elif matcher.prefix:
            yield _Key(matcher.name, frozenset({matcher.prefix}), whole=False)
