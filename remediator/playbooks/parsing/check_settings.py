"""What a settings file means: its model leaves guards and channels to whoever knows which kinds there are."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.playbooks.catalogue import Catalogue
from remediator.playbooks.diagnostics import Diagnostic, did_you_mean
from remediator.playbooks.parsing import check_guards
from remediator.playbooks.parsing.nodes import Node, Scalar, Table, child


def in_settings(catalogue: Catalogue, root: Node) -> Iterator[Diagnostic]:
    """Everything that is wrong with what a settings file means."""
    yield from check_guards.of_installation(catalogue.guards, root)
    channels = child(root, "channels")
    for entry in channels.entries.values() if isinstance(channels, Table) else ():
        kind = child(entry.value, "kind")
        said = kind.value if isinstance(kind, Scalar) else None
        if isinstance(kind, Scalar) and isinstance(said, str) and said not in (catalogue.notifiers or (said,)):
            hint = did_you_mean(said, catalogue.notifiers)
            yield kind.finding("wrong-value", f"there is no notifier {said!r}", hint)
