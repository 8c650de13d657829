"""Mutants: each promise is broken on purpose in a copy of the code, and a test must fail.

``python -m tests.mutants`` prints which test caught each mutant, and fails if none did. If it ran all mutants, it writes
the result and the table of docs/reliability.md. ``python -m tests.mutants --table`` writes the table only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers.remediator import ROOT

PAGE = ROOT / "docs/reliability.md"
_TABLE = re.compile(r"(<!-- mutants -->\n).*?(<!-- end -->)", re.DOTALL)

SIMULATION = ("-m", "tests.simulation", "1..150")
INTAKE = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/storage/test_intake.py")
CLAIMS = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/storage/test_claims.py")
QUERIES = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/storage/test_queries.py")
RECEIVE = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/pipeline/test_receive.py")
CONTRACT = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/storage/test_contract.py")
GUARDS = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/extensions/guards/test_engine.py")
LOG = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/runtime/test_log_output.py")
HEALTH = (
    "-m",
    "pytest",
    "-q",
    "-x",
    "-p",
    "no:cacheprovider",
    "tests/runtime/test_health.py",
    "tests/web/test_health.py",
)
OUTBOX = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/runtime/test_outbox.py")
WITNESSES = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/runtime/test_checkpointing.py")
POOLER = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/storage/test_pooler.py")
LOOP = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/runtime/test_event_loop.py")
READ_ONLY = (
    "-m",
    "pytest",
    "-q",
    "-x",
    "-p",
    "no:cacheprovider",
    "tests/promises/test_surroundings.py",
    "-k",
    "read_only",
)
STEP_APPROVAL = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/pipeline/test_step_approval.py")
REPLACED = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/promises/test_replaced_store.py")
REPLACEMENT = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/storage/test_replacement.py")
DEAD_LETTER = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/pipeline/test_dead_letter.py")
SOURCES = (
    "-m",
    "pytest",
    "-q",
    "-x",
    "-p",
    "no:cacheprovider",
    "tests/storage/test_sources.py",
    "tests/extensions/guards/test_still_firing.py",
)
SSH = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/clients/ssh/test_client.py", "-k", "marker or key")
CLOCK = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/core/test_clock.py")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One defect: a text in a file and its replacement."""

    promise: int
    """The number of the promise that it breaks; 0 if runs only wait longer or need more work."""
    name: str
    file: str
    text: str
    becomes: str
    by: tuple[str, ...] = SIMULATION

    @property
    def tests(self) -> tuple[str, ...]:
        """The files or folders of the tests that must notice it."""
        return tuple(item for item in self.by if item.startswith("tests/")) or ("tests/simulation",)


MUTANTS = (
    Mutant(
        3, "another host executes a request that came too late", "clients/ssh/wrapper.py",
        'if attempt + ".closed" in names:', "if False:", SSH,
    ),
    Mutant(3, "another host executes a call twice", "clients/ssh/wrapper.py", "        if name in names:\n", "        if False:\n", SSH),
    Mutant(8, "any host key is accepted", "clients/ssh/configuration.py", '"StrictHostKeyChecking": "yes"', '"StrictHostKeyChecking": "no"', SSH),
    Mutant(1, "the webhook answers before the commit", "pipeline/receive.py", "await store.accept(", "_ = store.accept("),
    Mutant(
        1, "the group commit answers before the commit", "storage/group_commit.py",
        "            self._batches.put(batch)\n", "            self._batches.put(batch)\n            self._answer(batch, set())\n",
        CONTRACT,
    ),
    Mutant(
        1, "a long notification is marked as processed after its first part", "pipeline/ingest.py",
        "            inbox.mark_partly_processed(tx, received, received.processed_alerts + room)\n            break\n",
        "            pass\n", INTAKE,
    ),
    Mutant(
        1, "one entry that cannot be recorded aborts the whole group", "storage/transaction.py",
        "        raise GroupAborted from error", "        raise", CONTRACT,
    ),
    Mutant(
        1, "senders wait for a store that hangs", "storage/group_commit.py",
        "batch.loop.call_later(_ACCEPT_TIMEOUT,", "batch.loop.call_later(3600,", CONTRACT,
    ),
    Mutant(1, "a store that cannot write is acknowledged", "web/webhook.py", "await _refuse(send, 503, str(error))", "await _refuse(send, 200, str(error))", RECEIVE),
    Mutant(2, "the unique index on incidents is missing", "storage/migrations/versions/0001_first.py",
           '"uq_runs_incident", runs.c.playbook, runs.c.target, unique=True', '"uq_runs_incident", runs.c.playbook, runs.c.target', CONTRACT),
    Mutant(2, "every firing creates a run", "pipeline/run_creation.py", "known = existing.get((name, target))", "known = None"),
    Mutant(2, "the same labels of two sources are one alert", "core/alert.py",
           "msgspec.json.encode((source, kept))", "msgspec.json.encode(kept)", SOURCES),
    Mutant(5, "a source that cannot be asked says that its alert is over", "extensions/guards/still_firing.py",
           "if not peers and (alerts or default):", "if not peers and default:", SOURCES),
    Mutant(2, "an incident ends with its run", "pipeline/stages.py",
           "    if all(alert.status is EpisodeStatus.CLOSED for", "    if True or all(alert.status is EpisodeStatus.CLOSED for"),
    Mutant(2, "an incident never ends", "storage/repositories/runs.py", "values(incident_open=False)", "values(incident_open=True)"),
    Mutant(3, "no intent is written", "pipeline/step_execution.py", "        attempts.record_intent(tx.tx, tx.run, attempt, tx.pipeline.actor, assumed=assumed)\n", ""),
    Mutant(3, "an attempt without an outcome is ignored", "pipeline/act.py", "    if lost is not None:\n", "    if False and lost is not None:\n"),
    Mutant(3, "an unknown effect counts as not done", "pipeline/act.py", "if seen.happened is EffectStatus.UNKNOWN and not step.idempotent:", "if False:"),
    Mutant(3, "a timeout counts as a failure", "pipeline/step_execution.py", 'Result(Outcome.UNKNOWN, f"no answer within', 'Result(Outcome.FAILED, f"no answer within'),
    Mutant(4, "writes do not check the fence", "storage/repositories/run_claims.py",
           '            table.c.fence == bindparam("its_fence"),\n            table.c.lease_owner == bindparam("its_owner"),\n',
           '            bindparam("its_fence", type_=Integer) >= 0,\n            bindparam("its_owner", type_=table.c.lease_owner.type) != "",\n'),
    Mutant(4, "an expired claim can write", "storage/repositories/run_claims.py", "            table.c.lease_until > at,\n", "", CLAIMS),
    Mutant(4, "a run of a newer version is claimed", "storage/repositories/run_claims.py", '            table.c.engine_version <= ENGINE_VERSION,\n', '', CLAIMS),
    Mutant(4, "a scheduled undo takes a run of a newer version", "storage/repositories/run_claims.py", " or run.engine_version > ENGINE_VERSION:", ":", CLAIMS),
    Mutant(4, "the fence does not increase", "storage/repositories/run_claims.py", "type_=Instant), fence=table.c.fence + 1", "type_=Instant), fence=table.c.fence"),
    Mutant(4, "claims ignore leases", "storage/repositories/run_claims.py",
           "(table.c.lease_until.is_(None)) | (table.c.lease_until < now),", "table.c.id.is_not(None),"),
    Mutant(4, "a call starts however long the process was paused", "pipeline/context.py",
           "return asyncio.get_running_loop().time() - began_at >", "return False and asyncio.get_running_loop().time() - began_at >"),
    Mutant(4, "the unique index on target locks is missing", "storage/migrations/versions/0001_first.py",
           '"uq_runs_target_lock", runs.c.target, unique=True', '"uq_runs_target_lock", runs.c.target', CONTRACT),
    Mutant(4, "a target lock is released although a call may still take effect", "storage/repositories/run_transitions.py",
           "run.holds_target and may_still_act(tx.connection, run.id)", "False"),
    Mutant(4, "a target lock is never released", "storage/repositories/run_transitions.py",
           "run.holds_target and may_still_act(tx.connection, run.id)", "run.holds_target"),
    Mutant(7, "a run succeeds without evidence", "pipeline/verify.py",
           "    return bool(seen) and all(item.status == CheckAnswer.OK.value for item in seen)", "    return True"),
    Mutant(9, "a transition has no audit entry", "storage/repositories/run_transitions.py",
           "    tx.append_audit(transition_draft(run, after, actor))\n", ""),
    Mutant(9, "a transition that is committed later has no audit entry", "pipeline/run_changes.py",
           "        self.drafts.append(run_transitions.transition_draft(before, self.run, self.pipeline.actor))\n", ""),
    Mutant(10, "an event between the guards and the intent is not seen", "pipeline/act.py",
           "if tx.run.wakeup_count != ctx.events_seen:", "if False:",
           ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/pipeline/test_transactions.py")),
    Mutant(0, "a query uses no index", "storage/repositories/episodes.py", "    table.c.status != EpisodeStatus.CLOSED.value,  # the condition of the partial index\n", "", QUERIES),
    Mutant(0, "an event during processing does not schedule the run again", "storage/repositories/run_claims.py", '_NOTIFIED = (table.c.wakeup_count != bindparam("seen")) &', '_NOTIFIED = (table.c.wakeup_count < bindparam("seen")) &', INTAKE),
    Mutant(0, "the end of a run schedules all blocked runs", "storage/repositories/blocked_runs.py", ".limit(_FEW)", "", GUARDS),
    Mutant(0, "the end of a run does not schedule the runs that it blocked", "storage/repositories/blocked_runs.py", 'or_(table.c.target == bindparam("target"), table.c.blocked_by_run == bindparam("run"))', 'table.c.target == bindparam("target")', GUARDS),
    Mutant(0, "thousands of blocked runs are all evaluated all the time", "pipeline/guard_evaluation.py", "max(context.timeouts.guard_recheck_interval, in_turn)", "context.timeouts.guard_recheck_interval", GUARDS),
    Mutant(2, "the second writer of a key at the same time is refused", "storage/prepared.py",
           "given.on_conflict_do_update(index_elements=unique, set_=new_values)", "given", CONTRACT),
    Mutant(3, "after a failover a run acts without observing its target", "pipeline/replaced_store.py",
           "    if replaced is None or any(", "    if True or any(", REPLACED),
    Mutant(3, "an approval that does not name the lost commits counts", "pipeline/step_approval.py",
           "item.asked is Reason.COMMITS_LOST and ", "", STEP_APPROVAL),
    Mutant(3, "a lost run acts again", "pipeline/replaced_store.py",
           "    if step.idempotent or replaced is None or replaced.lossless:", "    if True:", REPLACED),
    Mutant(4, "claims from before a failover stay valid", "storage/replacement.py", "    if not lossless:\n", "    if False:\n", REPLACEMENT),
    Mutant(9, "each replica records a failover", "storage/replacement.py", "_INCARNATION, lock=True)", "_INCARNATION)", REPLACEMENT),
    Mutant(14, "a failover behind a pooler is not noticed", "storage/postgres.py",
           "server(connection) != known.server:", "False:", REPLACEMENT),
    Mutant(1, "an alert is dead-lettered because memory is short", "pipeline/dead_letter.py", ", MemoryError, OSError", "", DEAD_LETTER),
    Mutant(14, "the time goes back with the clock of the host", "core/clock.py",
           "self._last = max(host, self._last + timedelta(seconds=_CATCHING_UP * (at - self._at)))", "self._last = host", CLOCK),
    Mutant(14, "an observer of events reaches the run", "pipeline/context.py",
           "        with suppress(Exception):  # catch", "        with suppress(ZeroDivisionError):  # catch"),
    Mutant(14, "an event that cannot be logged reaches the run", "runtime/log_output.py",
           "            raise structlog.DropEvent from None", "            raise"),
    Mutant(14, "the queue of the log has no bound", "runtime/background_queue.py",
           "            if self._size + self._size_of(item) > self._limit:", "            if False:", LOG),
    Mutant(14, "lost lines are not counted", "runtime/background_queue.py",
           "self.lost += self._count_of(item) if error else 0", "self.lost += 0", LOG),
    Mutant(14, "a defect of a channel ends the sending", "runtime/outbox.py",
           "    except Exception as error:\n        if not", "    except RemediatorError as error:\n        if not", OUTBOX),
    Mutant(14, "a message waits for its chart", "runtime/outbox.py",
           "            async with asyncio.timeout(CHART_TIMEOUT):", "            async with asyncio.timeout(None):", OUTBOX),
    Mutant(14, "a witness that hangs keeps the others from the checkpoint", "runtime/checkpointing.py",
           "            async with asyncio.timeout(PUBLISH_TIMEOUT):", "            async with asyncio.timeout(None):", WITNESSES),
    Mutant(14, "notifications are acknowledged although none is processed", "web/webhook.py",
           "if problem := self._health.intake_problem():", 'if problem := "":', HEALTH),
    Mutant(14, "ready although no notification is processed", "web/health.py",
           "if problem := service.health.intake_problem():", 'if problem := "":', HEALTH),
    Mutant(14, "a loop that hangs is not noticed", "runtime/health.py", "            if now > loop.due:", "            if False:", HEALTH),
    Mutant(14, "a flood counts as an inbox that does not move", "runtime/health.py",
           "        if oldest is None or oldest != self._oldest:", "        if oldest is None:", HEALTH),
    Mutant(14, "statements are prepared behind a pooler", "storage/postgres_connection.py",
           '"prepare_threshold": None,', '"prepare_threshold": 0,', POOLER),
    Mutant(14, "transactions behind a pooler have no timeouts", "storage/postgres_connection.py",
           "pooled=is_pooled(connection)", "pooled=False", POOLER),
    Mutant(14, "a frozen server is waited for", "storage/postgres_connection.py", '{"timeout": ANSWER_TIMEOUT, **more}', "more", POOLER),
    Mutant(14, "SQLite needs a temporary folder", "storage/sqlite_settings.py", "PRAGMA temp_store=MEMORY", "PRAGMA temp_store=FILE", READ_ONLY),
    Mutant(14, "a resolver that hangs is waited for", "runtime/event_loop.py",
           "            async with asyncio.timeout(TIMEOUT):", "            async with asyncio.timeout(None):", LOOP),
    Mutant(0, "a blocked run is evaluated in a loop without a pause", "pipeline/stages.py", "max(until, tx.now + tx.pipeline.timeouts.guard_recheck_interval)", "until", CLAIMS),
)  # fmt: skip


def caught(mutant: Mutant) -> tuple[bool, str]:
    """Return whether a test failed, and its last message."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        for name in ("remediator", "tests", "demo", "app", "playbooks", "alerting", "pyproject.toml"):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        place = copy / "remediator" / mutant.file
        text = place.read_text()
        assert text.count(mutant.text) == 1, f"{mutant.name}: {mutant.file} has it {text.count(mutant.text)} times"
        place.write_text(text.replace(mutant.text, mutant.becomes))
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, *mutant.by],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=3600,
            check=False,
        )
        said = [line for line in done.stdout.splitlines() if line.startswith(("seed ", "FAILED", "E  "))]
        return done.returncode == 1 and bool(said), said[-1] if said else (done.stdout + done.stderr)[-200:]


def table() -> str:
    """Return the table of all mutants in Markdown, sorted by promise."""
    rows = [
        f"| {item.promise or 'liveness'} | {item.name} | {', '.join(f'`{test}`' for test in item.tests)} |"
        for item in sorted(MUTANTS, key=lambda item: item.promise or 99)
    ]
    return "\n".join(["| promise | defect | detected by |", "|---|---|---|", *rows])


def with_table(page: str, result: str | None = None) -> str:
    """Return the page with the table, and with the result of the last run if there is a new one."""

    def section(match: re.Match[str]) -> str:
        old = re.search(r"^Last run: .*$", match[0], re.MULTILINE)
        last = f"Last run: {result}" if result else (old[0] if old else "Last run: none.")
        return f"{match[1]}{last}\n\n{table()}\n{match[2]}"

    return _TABLE.sub(section, page)


def main(wanted: str) -> int:
    """Run the mutants whose name contains ``wanted``. Return 1 if no test caught one of them."""
    if wanted == "--table":
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return 0
    escaped = []
    for mutant in MUTANTS:
        if wanted not in mutant.name:
            continue
        begun = time.monotonic()
        found, how = caught(mutant)
        by = ", ".join(mutant.tests)
        print(
            f"{'caught ' if found else 'ESCAPED'} {mutant.promise}  {mutant.name}: {by}, {time.monotonic() - begun:.0f} s"
        )
        print(f"            {how[:160]}", flush=True)
        if not found:
            escaped.append(mutant.name)
    if not wanted:
        result = f"{len(MUTANTS) - len(escaped)} of {len(MUTANTS)} detected."
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), result), encoding="utf-8")
    print(f"{len(escaped)} escaped: {escaped}" if escaped else "all were caught")
    return bool(escaped)


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
