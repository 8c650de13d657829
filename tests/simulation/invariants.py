"""The judge: checks the promises after every commit, before every call and at the end, and reports a broken one.

It reads only the tables and the records of the targets; it shares no code with the engine.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any, NamedTuple

from remediator.audit import decode, verify
from remediator.authoring.simulation.memory_store import START
from remediator.core.run import TRANSITIONS, Status
from remediator.storage.repositories import audit as audit_records
from tests.simulation.alertmanager import Accepted, SimAlertmanager
from tests.simulation.hosts import FaultyDatabase
from tests.simulation.world import Call, World


class _Row(NamedTuple):
    """A run as a row of its table."""

    id: str
    status: str
    reason: str | None
    fence: int
    lease_owner: str | None
    lease_until: int | None
    holds_target: int
    target: str
    playbook: str
    incident_open: int


_RUNS = f"SELECT {', '.join(_Row._fields)} FROM runs"
_TERMINAL = {status.value for status, following in TRANSITIONS.items() if not following}


class Broken(Exception):
    """A promise was broken.

    Args:
        promise: the number of the promise; 0 for an invariant of any engine.
    """

    def __init__(self, promise: int, text: str) -> None:
        super().__init__(promise, text)  # complete, so another process can unpickle it
        self.promise, self.text = promise, text

    def __str__(self) -> str:
        return f"promise {self.promise}: {self.text}" if self.promise else self.text


class Judge:
    """Check one schedule."""

    def __init__(self, database: FaultyDatabase, world: World) -> None:
        self._database = database
        self._world = world
        self._before: dict[str, _Row] = {}
        self._audited_to = 0
        self._changes = -1
        self._forgiven: list[Call] = []
        """Calls that began before a failover, whose intents may be lost."""
        self._failed_over_at: int | None = None
        self._lost: set[bytes] = set()
        """Notifications that a failover lost."""
        self._lost_at = 0.0
        self.claims = 0
        self.broken: Broken | None = None
        database.after_commit = self._after_commit
        world.before_call = self._before_call

    def forgive(self, stored_before: set[bytes]) -> None:
        """Accept the loss of the last commits: their acknowledgements and intents do not count as broken promises.

        A run that the database still has must not act twice, and every run must end.

        Args:
            stored_before: the notifications that the database had before the loss.
        """
        self._before = {row.id: row for row in self._runs()}
        self._audited_to = self._rows("SELECT coalesce(max(seq), 0) FROM audit")[0][0]
        self._forgiven = list(self._world.calls)
        self._failed_over_at = self._now
        self._lost, self._lost_at = stored_before - self.stored(), self._database.loop.time()

    def stored(self) -> set[bytes]:
        """Return the notifications that the database has."""
        return {bytes(body) for (body,) in self._rows("SELECT body FROM notifications")}

    def _is_forgiven(self, other: Call) -> bool:
        """Return whether the call began before a failover, so its run or its lease may be lost."""
        return any(other is call for call in self._forgiven)

    def _is_allowed_again(self, run: str) -> bool:
        """Return whether a person approved a step after a failover, with the note that it may have been done
        already."""
        statement = (
            "SELECT 1 FROM approvals WHERE run_id = ? AND status = 'approved' AND decided_at > ? "
            "AND why LIKE '%lost its last commits%'"
        )
        return self._failed_over_at is not None and bool(self._rows(statement, run, self._failed_over_at))

    def _say(self, promise: int, text: str) -> None:
        """Record the first broken promise; the caller of the schedule ends it."""
        self.broken = self.broken or Broken(promise, text)

    @property
    def _now(self) -> int:
        return (self._database.now - START) // timedelta(microseconds=1) + int(START.timestamp() * 1_000_000)

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        return self._database.raw.execute(statement, values).fetchall()

    def _runs(self) -> list[_Row]:
        return [_Row(*row) for row in self._rows(_RUNS)]

    def _after_commit(self) -> None:
        changes = self._database.raw.total_changes
        if changes == self._changes:
            return  # the commit changed nothing, like most polls of the loops
        self._changes = changes
        moves = self._moves()
        holding: Counter[str] = Counter()
        incidents: Counter[tuple[str, str]] = Counter()
        for row in self._runs():
            holding[row.target] += bool(row.holds_target)
            incidents[row.playbook, row.target] += bool(row.incident_open)
            if row.id in self._before:
                self._compare(self._before[row.id], row)
            self._follow(self._before.get(row.id), row, moves.pop(row.id, []))
            self._before[row.id] = row
        for run in moves:
            self._say(9, f"the audit log has a transition of {run}, which does not exist")
        for target, hands in holding.items():
            if hands > 1:
                self._say(4, f"{hands} runs have their hand on {target}")
        for key, count in incidents.items():
            if count > 1:
                self._say(2, f"{count} open incidents of {key}")

    def _moves(self) -> dict[str, list[tuple[str, str]]]:
        """Return the transitions of each run that the audit log has since the last commit, in order."""
        moves: dict[str, list[tuple[str, str]]] = {}
        statement = "SELECT seq, kind, run_id, canonical FROM audit WHERE seq > ? ORDER BY seq"
        for seq, kind, run, canonical in self._rows(statement, self._audited_to):
            self._audited_to = seq
            if kind == "run.transition":
                data = decode(canonical).data
                moves.setdefault(run, []).append((data["from"], data["to"]))
        return moves

    def _follow(self, old: _Row | None, new: _Row, moves: list[tuple[str, str]]) -> None:
        """Check that the audit log has every transition of a commit, and that each leads from the old status to an
        allowed one."""
        status = Status.MATCHED.value if old is None else old.status
        for before, after in moves:
            if before != status:
                self._say(9, f"{new.id} was {status}, and the audit log has a transition from {before} to {after}")
            if Status(after) not in TRANSITIONS[Status(before)]:
                self._say(0, f"{new.id} went from {before} to {after}")
            status = after
        if status != new.status:
            self._say(9, f"{new.id} is {new.status}, and the last transition in the audit log is to {status}")

    def _compare(self, old: _Row, new: _Row) -> None:
        if new.fence < old.fence:
            self._say(4, f"the fence of {new.id} fell from {old.fence} to {new.fence}")
        if new.lease_owner is not None and new.lease_owner != old.lease_owner:
            self.claims += 1
            if new.fence <= old.fence:
                self._say(4, f"{new.lease_owner} took {new.id} from {old.lease_owner} with the same fence")
            if old.lease_owner is not None and old.lease_until is not None and old.lease_until >= self._now:
                self._say(4, f"{new.lease_owner} took {new.id} while the lease of {old.lease_owner} lasted")

    def _before_call(self, call: Call) -> None:
        """Check that a call has a durable intent, and that its host holds the run and the target now."""
        rows = self._rows(
            "SELECT a.fence, r.fence, r.lease_owner, r.lease_until, r.holds_target FROM attempts a "
            "JOIN runs r ON r.id = a.run_id WHERE r.id = ? AND a.step = ? AND a.outcome IS NULL",
            call.run,
            call.step,
        )
        host = call.host.name if call.host else ""
        where = f"{call.kind} on {call.target} by {host} for {call.run}"
        if len(rows) != 1:
            self._say(3, f"{where} without a durable intent ({len(rows)} open attempts)")
            return
        intended, fence, owner, until, holds = rows[0]
        call.fence = intended
        if (intended, owner) != (fence, host) or until < self._now or not holds:
            self._say(4, f"{where} without the claim: fence {intended} of {fence}, lease of {owner}, holds {holds}")
        for other in self._world.calls:
            if self._is_forgiven(other):
                continue
            if other.target == call.target and not other.ended and self._rules(other):
                self._say(4, f"{where} while {other.kind} for {other.run} is under way")
        self._not_again(call, where)

    def _rules(self, other: Call) -> bool:
        """Return whether the host of a call in progress still holds the run."""
        if other.host is None or not other.host.alive or other.host.paused:
            return False
        rows = self._rows("SELECT fence, lease_until FROM runs WHERE id = ?", other.run)
        return bool(rows) and rows[0][0] == other.fence and rows[0][1] is not None and rows[0][1] >= self._now

    def _not_again(self, call: Call, where: str) -> None:
        """Check that no call follows an unanswered kick on the target: its effect cannot be observed, so a person must
        decide."""
        for other in self._world.calls:
            if self._is_forgiven(other) and (other.run != call.run or self._is_allowed_again(call.run)):
                continue
            if (other.target, other.kind, other.answered) == (call.target, "kick", False):
                self._say(3, f"{where}, though nobody knows what became of the kick for {other.run}")

    def at_the_end(self, alertmanagers: list[SimAlertmanager], playbooks: int) -> None:
        """Check, after a long calm, that every alert is accounted for and that no run is stuck."""
        self._accounted(alertmanagers, playbooks)
        self._no_action_twice()
        self._nothing_stuck()
        self._audited()

    def _accounted(self, alertmanagers: list[SimAlertmanager], playbooks: int) -> None:
        stored = self.stored()
        known = {name for (name,) in self._rows("SELECT identity FROM episodes")}
        for alertmanager in alertmanagers:
            for accepted in alertmanager.accepted:
                if self._is_lost(accepted):
                    continue
                if accepted.body not in stored:
                    self._say(1, "an acknowledged notification is not in the store")
                if not known.issuperset(accepted.firing):
                    self._say(1, "an alert of an acknowledged notification has no episode")
        waiting = self._rows("SELECT count(*) FROM notifications WHERE processed_at IS NULL")[0][0]
        if waiting:
            self._say(1, f"{waiting} acknowledged notifications were never taken in")
        for episode, runs in self._rows(
            "SELECT e.id, count(r.run_id) FROM episodes e LEFT JOIN run_episodes r ON r.episode_id = e.id GROUP BY e.id"
        ):
            if runs != playbooks:
                self._say(2, f"episode {episode} has {runs} runs for {playbooks} playbooks")

    def _is_lost(self, accepted: Accepted) -> bool:
        """Return whether a failover lost the commit of a request; the answer may have arrived after the failover."""
        return accepted.body in self._lost and accepted.sent_at < self._lost_at

    def _no_action_twice(self) -> None:
        for target in self._world.targets.values():
            done = Counter(effect.run for effect in target.effects if effect.kind == "kick")
            for run, times in done.items():
                before = sum(
                    (call.run, call.kind, call.target) == (run, "kick", target.name) for call in self._forgiven
                )
                if times > (1 + before if self._is_allowed_again(run) else 1):
                    self._say(3, f"{target.name} was kicked {times} times for {run}")
            incarnations = [effect.incarnation for effect in target.effects]
            if incarnations != sorted(set(incarnations)):
                self._say(4, f"{target.name} was changed twice at once")
            forgiven = {(call.run, call.kind) for call in self._forgiven}
            for effect in target.effects:
                if (effect.run, effect.kind) in forgiven:
                    continue
                if not self._rows("SELECT 1 FROM attempts WHERE run_id = ? AND step = ?", effect.run, effect.kind):
                    self._say(3, f"{target.name}: {effect.kind} for {effect.run} was never intended")

    def _nothing_stuck(self) -> None:
        for row in self._runs():
            run = row.id
            if row.status not in _TERMINAL:
                self._say(0, f"{run} is stuck in {row.status} ({row.reason})")
                continue
            if row.lease_owner is not None:
                self._say(0, f"{run} is over and still claimed")
            if row.incident_open:
                self._say(2, f"the incident of {run} never ended, though its alerts did")
            unclear = self._rows(
                "SELECT 1 FROM attempts WHERE run_id = ? AND (outcome IS NULL OR outcome = 'unknown')", run
            )
            if bool(row.holds_target) != bool(unclear):
                held = "holds" if row.holds_target else "let go of"
                self._say(4, f"{run} is over and {held} {row.target}; outcomes unknown: {len(unclear)}")
            came_back = self._rows(
                "SELECT 1 FROM run_episodes j JOIN audit a ON a.episode_id = j.episode_id "
                "WHERE j.run_id = ? AND a.kind = 'episode.continued' "
                "AND a.at > (SELECT finished_at FROM runs WHERE id = ?)",
                run,
                run,
            )
            told = self._rows(  # by a separate message, or by an update of the message of its incident
                "SELECT 1 FROM messages WHERE run_id = ? AND (kind = 'escalation' OR kind = 'update' AND "
                'CAST(content AS TEXT) LIKE \'%"about":"escalation"%\')',
                run,
            )
            if row.status == "succeeded" and came_back and not told:
                self._say(12, f"the alert of {run} came back after its success, and nobody was told")
            if row.status == "succeeded" and not self._rows(
                "SELECT 1 FROM evidence WHERE run_id = ? AND phase = 'verify' AND status = 'ok'", run
            ):
                self._say(7, f"{run} succeeded without evidence")

    def _audited(self) -> None:
        entries = list(self._database.look(audit_records.iterate))
        head = self._database.look(audit_records.get_head)
        findings = verify(entries, head=head).findings
        if findings:
            self._say(9, f"the audit log does not verify: {findings[0]}")
