"""``overlap``: two playbooks can take the same alert."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

from remediator.authoring.lint import Context, Rule
from remediator.core.matchers import Matcher
from remediator.playbooks.diagnostics import Diagnostic
from remediator.playbooks.model import Playbook


class Overlap(Rule):
    """Pairs of playbooks for which a label set that fulfils both can be found."""

    id = "overlap"
    what = "Two playbooks match the same alert."
    why = "Both start a run for the alert. The second run waits for the first, or reverts its changes."
    mend = "exclude the alerts of one playbook in the matchers of the other, or put both remedies into one playbook"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for first, second in combinations(context.playbooks, 2):
            example = shared(first, second)
            if example is not None:
                where = context.read.documents[first.name].text.file
                alert = ", ".join(f"{label}={value!r}" for label, value in sorted(example.items()) if value)
                message = f"{first.name} ({where}) can take the same alert: {alert or 'one without labels'}"
                yield self.at(context, second, ("match",), message, key=True)


def shared(first: Playbook, second: Playbook) -> dict[str, str] | None:
    """Labels that fulfil both playbooks' conditions; None if none are found.

    Conditions on different labels do not touch each other, so each label is tried by itself: with every value that
    either side names, the beginning of every pattern, nothing, and something that nobody names.
    """
    asked = (*first.match.parsed, *second.match.parsed)
    found: dict[str, str] = {}
    for label in sorted({matcher.name for matcher in asked}):
        mine = [matcher for matcher in asked if matcher.name == label]
        fits = [value for value in _candidates(mine) if all(matcher.accepts(value) for matcher in mine)]
        if not fits:
            return None
        found[label] = fits[0]
    return found


def _candidates(matchers: Iterable[Matcher]) -> Iterator[str]:
    for matcher in matchers:
        yield from sorted(matcher.literals or ())
    for matcher in matchers:
        yield matcher.prefix
        yield f"{matcher.prefix}-x"
        yield f"{matcher.prefix}0"
    yield ""
    yield "something"
