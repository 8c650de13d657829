"""One row of the judgement: a fault, its true causes, the allowed remedies, and forbidden effects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from demo.judge.scene import Scene

PERSON = frozenset({"escalated", "awaiting_approval"})
"""Statuses of a run that waits for a person or was handed to one."""
HEALED = frozenset({"succeeded"})
"""The remedy worked and was proved."""
NOT_NEEDED = frozenset({"not_needed"})
"""The run found the target healthy and did nothing."""


def _possible(_: Scene) -> str | None:
    return None


def _nothing(_: Scene) -> None:
    """Do nothing, for rows that prepare or restore nothing."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A fault and its correct handling."""

    number: int
    fault: str
    """The fault, in a few words."""
    alert: str
    """Name of the alert that has to reach the remediator."""
    make: Callable[[Scene], None]
    """Make the real fault."""
    causes: frozenset[str]
    """IDs of causes, one of which must be named. If empty, no cause must be named."""
    causes_too: frozenset[str] = frozenset()
    """IDs of further causes that must all be named."""
    true_too: frozenset[str] = frozenset()
    """IDs of other true causes, or causes of other runs of the same fault. Any other ID is wrong."""
    says: tuple[str, ...] = ()
    """Patterns that messages or evidence must all match: details of the cause, such as owner, amount or name."""
    remedies: frozenset[str] = frozenset()
    """Actions that may change something. Any other action is harm."""
    ends: frozenset[str] = PERSON
    """Statuses in which the runs of the alert may end."""
    starts: Mapping[str, int] = field(default_factory=dict)
    """How often the remedy may start each program. A program that is not listed must not be started. For a restless
    program, only restarts and rollbacks by the remediator count.
    """
    restless: frozenset[str] = frozenset()
    """Programs that supervisord itself restarts repeatedly, so that their starts prove nothing."""
    proof: Callable[[Scene], str | None] | None = None
    """Returns independent proof that the fault is over, None until then. Only for rows with an expected remedy."""
    loses_keys: bool = False
    """Whether the fault itself removes keys, so that their loss proves nothing."""
    must_not: tuple[Callable[[Scene], str | None], ...] = ()
    """Probes of the real servers at the end. Each returns a sentence if a forbidden effect occurred."""
    pages: int | None = None
    """Maximum number of incidents about which a person may be asked, or None for any number."""
    seconds: float = 90
    """Time limit from the fault to the end of all runs."""
    quiet: float = 6
    """Seconds without an open run after which the row is over."""
    prepare: Callable[[Scene], None] = _nothing
    """Prepare the healthy stack for the fault."""
    needs: Callable[[Scene], str | None] = _possible
    """Return what is missing to make the fault here, or None if it can be made."""
    without: str = ""
    """Requirement that the local stack never meets. The row is then listed and not run."""
    fast: bool = False
    """Whether `make test-long` runs it."""


@dataclass(kw_only=True)
class Judgement:
    """The result of one row."""

    row: Row
    not_run: str = ""
    """Why the row was not run, or empty."""
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
    """Counted keys, requests, restarts and messages."""
    told: tuple[str, ...] = ()
    """Kind and title of each message to people, in order."""
    proof: str = ""
    seconds: float = 0

    @property
    def wrong(self) -> tuple[str, ...]:
        """Return the named causes that are not true."""
        right = self.row.causes | self.row.causes_too | self.row.true_too
        return tuple(cause for cause in self.named if cause.partition(": ")[2] not in right)

    @property
    def unnamed(self) -> bool:
        """Return whether a required cause was not named."""
        named = {cause.partition(": ")[2] for cause in self.named}
        one_of, all_of = self.row.causes, self.row.causes_too
        missing = (one_of and not one_of & named) or not all_of <= named or self.unsaid
        return not self.not_run and bool(missing)
