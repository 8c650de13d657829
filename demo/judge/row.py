"""One row of the judgement: a fault, its true causes, the remedies that may follow, and what must not happen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from demo.judge.scene import Scene

PERSON = frozenset({"escalated", "awaiting_approval"})
"""Statuses of a run that waits for a person or was handed to one."""
HEALED = frozenset({"succeeded"})
"""The remedy worked, and that was proved."""
NOT_NEEDED = frozenset({"not_needed"})
"""The run found the target well and did nothing."""


def _possible(_: Scene) -> str | None:
    return None


def _nothing(_: Scene) -> None:
    """Prepare or restore nothing."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A fault and what is right after it."""

    number: int
    fault: str
    """What is broken, in a few words."""
    alert: str
    """Name of the alert that has to reach the remediator."""
    make: Callable[[Scene], None]
    """Break it, for real."""
    causes: frozenset[str]
    """IDs of causes of which one has to be named. Empty: nothing is to be named."""
    causes_too: frozenset[str] = frozenset()
    """IDs of causes that all have to be named as well."""
    true_too: frozenset[str] = frozenset()
    """IDs of causes that are true as well, or of other runs that the same fault starts. Any other ID is wrong."""
    says: tuple[str, ...] = ()
    """Patterns for messages and evidence, for what belongs to the cause: whose, how much, which. All must match."""
    remedies: frozenset[str] = frozenset()
    """Actions that may change something. Any other action is harm."""
    ends: frozenset[str] = PERSON
    """Statuses in which the runs of the alert may end."""
    starts: Mapping[str, int] = field(default_factory=dict)
    """How often the remedy may start each program. A program that is not listed must not be started.

    Of a restless program, only the restarts and rollbacks by the remediator count.
    """
    restless: frozenset[str] = frozenset()
    """Programs that supervisord itself starts again and again, so that their starts prove nothing."""
    proof: Callable[[Scene], str | None] | None = None
    """Independent proof that the fault is over, where a remedy is expected; None until then."""
    loses_keys: bool = False
    """Whether the fault itself removes keys, so that their loss proves nothing."""
    must_not: tuple[Callable[[Scene], str | None], ...] = ()
    """Probes of the real servers at the end. Each returns a sentence if something happened that must not."""
    pages: int | None = None
    """Most incidents about which a person may be asked; None: any number."""
    seconds: float = 90
    """Time limit from the fault to the end of all runs."""
    quiet: float = 6
    """Seconds without an open run after which the row is over."""
    prepare: Callable[[Scene], None] = _nothing
    """Bring the healthy stack into the state from which the fault starts."""
    needs: Callable[[Scene], str | None] = _possible
    """Return what is missing to make the fault here; None if it can be made."""
    without: str = ""
    """What the local stack never has and the fault needs. The row is then listed and not run."""
    fast: bool = False
    """Whether `make test-long` runs it."""


@dataclass(kw_only=True)
class Judgement:
    """What happened in one row."""

    row: Row
    not_run: str = ""
    """Why the row was not run; empty if it was."""
    named: tuple[str, ...] = ()
    """Established causes, in the order in which they were named."""
    actions: tuple[str, ...] = ()
    """Actions that changed something, with their outcomes."""
    restarts: Counter[str] = field(default_factory=Counter)
    """How often the remediator itself restarted or rolled back each target."""
    unsaid: tuple[str, ...] = ()
    """Patterns of :attr:`Row.says` that nothing matches."""
    statuses: tuple[str, ...] = ()
    """Last status of each run, with its playbook."""
    harm: list[str] = field(default_factory=list)
    measured: str = ""
    """Keys, requests, restarts and messages, as counted."""
    told: tuple[str, ...] = ()
    """Kind and title of each message to people, in order."""
    proof: str = ""
    seconds: float = 0

    @property
    def wrong(self) -> tuple[str, ...]:
        """Return the causes that are not true."""
        right = self.row.causes | self.row.causes_too | self.row.true_too
        return tuple(cause for cause in self.named if cause.partition(": ")[2] not in right)

    @property
    def unnamed(self) -> bool:
        """Return whether a cause was to be named and was not."""
        named = {cause.partition(": ")[2] for cause in self.named}
        one_of, all_of = self.row.causes, self.row.causes_too
        missing = (one_of and not one_of & named) or not all_of <= named or self.unsaid
        return not self.not_run and bool(missing)
