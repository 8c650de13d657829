"""Changes of a run that are decided but not committed yet.

Not every change needs a separate commit. A decision without an effect may be lost with the process: the next process
decides again. Such changes are committed with the next transaction of the run. This is always before their effect is
visible outside: before an action, a request to people, or a wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from remediator.audit import Draft, Kind, redact_json
from remediator.core.run import Reason, Run, Status
from remediator.core.run_detail import Detail
from remediator.pipeline.context import PipelineContext
from remediator.storage import Tx
from remediator.storage.repositories import evidence, run_claims, run_transitions, runs
from remediator.storage.repositories.evidence import EvidenceRecord, StoredVerdict


@dataclass(slots=True)
class RunChanges:
    """Changes of a run that are not committed yet. They have the methods of :class:`RunTransaction` that need no store.

    The rows and the audit entries are written in the order in which they were added.
    """

    pipeline: PipelineContext
    run: Run
    """The run as these changes leave it."""
    moves: list[tuple[Status, Run]] = field(default_factory=list)
    """The transitions: the status before, and the run after it."""
    columns: dict[str, Any] = field(default_factory=dict)
    drafts: list[Draft] = field(default_factory=list)
    seen: list[EvidenceRecord] = field(default_factory=list)
    verdicts: list[StoredVerdict] = field(default_factory=list)
    following: list[Callable[[Tx], None]] = field(default_factory=list)
    """Further work for the transaction, for example messages."""

    def __bool__(self) -> bool:
        return bool(self.drafts)

    @property
    def has_plan(self) -> bool:
        """Return whether the plan is one of these changes: this process made the plan, and never read it from a row."""
        return "plan" in self.columns

    def copy(self) -> RunChanges:
        """Return a copy that can be changed on its own."""
        return replace(
            self,
            columns={**self.columns},
            drafts=[*self.drafts],
            seen=[*self.seen],
            verdicts=[*self.verdicts],
        )

    def move(self, to: Status, reason: Reason | None, detail: Detail, **changes: Any) -> Run:
        """Move the run to another status that is not the last. See :meth:`RunTransaction.move`."""
        before = self.run
        columns = run_transitions.transition_columns(before, to, reason, detail, changes)
        self.run = run_claims.changed(before, self.pipeline.clock.now(), columns)
        self.columns |= columns
        self.drafts.append(run_transitions.transition_draft(before, self.run, self.pipeline.actor))
        self.moves.append((before.status, self.run))
        return self.run

    def audit(self, kind: Kind, data: Mapping[str, Any], reason: str | None = None) -> None:
        """Write an audit entry about the run."""
        self.drafts.append(runs.draft(kind, self.run, self.pipeline.actor, data, reason))

    def add_evidence(self, records: Iterable[EvidenceRecord]) -> None:
        """Store observations, each with its audit entry."""
        redactor = self.pipeline.store.redactor
        for found in records:
            item = evidence.redacted(found, lambda value: redact_json(value, redactor))
            self.seen.append(item)
            self.drafts.append(evidence.draft_of(self.run, item, self.pipeline.actor))

    def add_verdicts(self, verdicts: Iterable[StoredVerdict]) -> None:
        """Store the verdicts of one evaluation, with one audit entry."""
        items = list(verdicts)
        if items:
            self.verdicts += items
            self.drafts.append(evidence.draft_of_verdicts(self.run, items, self.pipeline.actor))

    def write(self, tx: Tx, stored: Run, columns: Mapping[str, Any]) -> Run:
        """Write the changes. Return the run as the store has it then.

        Args:
            tx: the transaction.
            stored: the run without these changes.
            columns: further changes of the run.

        Raises:
            Fenced: this process lost the claim.
        """
        after = run_claims.save(tx, stored, **{**self.columns, **columns})
        evidence.insert_all(tx, stored.id, self.seen)
        evidence.insert_verdicts(tx, stored.id, self.verdicts)
        for draft in self.drafts:
            tx.append_audit(draft)
        for work in self.following:
            work(tx)
        return after
