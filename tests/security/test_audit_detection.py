"""Attacks on the audit log that verification detects without options, and its statements about its own limits."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from remediator.audit import GENESIS, Draft, Kind, Problem, checkpoint, seal, verify
from remediator.audit.signed_note import Signer
from remediator.audit.verification import Anchors
from remediator.cli.main import cli
from tests.support.servers import until
from tests.support.servers.remediator import Stack

pytestmark = pytest.mark.promise(9)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY, OTHER = Signer.generate("log"), Signer.generate("log")


@pytest.mark.parametrize("forged", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_a_recorded_root_that_does_not_fit_is_found(forged: bool, strict: bool) -> None:
    """Verification compares each recorded checkpoint with the entries that it covers, even without a witness."""
    first, head = seal(GENESIS, [Draft(Kind.SERVICE_STARTED, "test") for _ in range(1500)], NOW)
    root = bytes(32).hex() if forged else head.root().hex()
    drafts = [Draft(Kind.CHECKPOINT_SIGNED, "test", data={"size": head.seq, "root": root}), Draft(Kind.EVIDENCE, "x")]
    second, _ = seal(head, drafts, NOW)
    result = verify([*first, *second], strict=strict)
    assert result.ok is not forged
    if forged:
        assert (result.findings[0].problem, result.findings[0].seq) == (Problem.REWRITTEN, 1501)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"note": None}, Problem.FORGED),
        ({"note": "text"}, Problem.FORGED),
        ({"size": 9}, Problem.UNREADABLE),
        ({"size": 0}, Problem.UNREADABLE),
        ({"root": None}, Problem.UNREADABLE),
        ({"size": 3}, Problem.REWRITTEN),
    ],
)
def test_the_signature_in_an_entry_is_checked(change: dict[str, Any], problem: Problem | None) -> None:
    """With the public key, each checkpoint in the log needs a signature over the content of its entry."""
    assert _signed(KEY, change) == problem


def test_a_log_that_was_written_again_with_another_key_is_found() -> None:
    """A rewritten log is found, because its checkpoints cannot be signed without the signing key."""
    assert _signed(OTHER, {}) is Problem.UNTRUSTED


def _signed(signer: Signer, change: dict[str, Any]) -> Problem | None:
    """Return the findings in a log of five entries whose last entry is about a checkpoint of the first four."""
    first, head = seal(GENESIS, [Draft(Kind.SERVICE_STARTED, "test") for _ in range(4)], NOW)
    note = checkpoint.sign("log", head, [signer])
    data = {"size": head.seq, "root": head.root().hex(), "note": note} | change
    second, _ = seal(head, [Draft(Kind.CHECKPOINT_SIGNED, "test", data=data)], NOW)
    result = verify([*first, *second], Anchors(keys=[KEY.verifier]))
    assert not result.anchored
    return result.findings[0].problem if result.findings else None


class Foreign(StrEnum):
    """A kind of entry that the service does not have."""

    GRANTED = "approval.granted"


def test_an_unknown_kind_is_refused() -> None:
    """An entry of an unknown kind is a finding, because the service writes only known kinds."""
    first, head = seal(GENESIS, [Draft(Kind.SERVICE_STARTED, "test")], NOW)
    second, _ = seal(head, [Draft(Foreign.GRANTED, "mallory")], NOW)  # type: ignore[arg-type]
    result = verify([*first, *second])
    assert (result.findings[0].problem, result.findings[0].seq) == (Problem.UNKNOWN_KIND, 2)


@pytest.fixture(scope="module")
def healed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the folder of a stopped service that fixed a Redis, has a stop, and published checkpoints elsewhere."""
    folder = tmp_path_factory.mktemp("healed")
    (folder / "elsewhere").mkdir()
    stack = Stack(folder)
    stack.remediator.settings["audit"] = {
        "checkpoint_entries": 10,
        "checkpoints": [{"kind": "file", "path": str(folder / "elsewhere/remediator.txt")}],
    }
    try:
        stack.start()
        stack.kill_redis()
        stack.alertmanager.fire(alertname="RedisDown", instance="redis:6379")
        stack.remediator.wait_for("succeeded")
        config = ["--config", str(stack.remediator.config)]
        for name in ("kept", "gone"):
            made = run("stop", "create", "--service", "redis", "--reason", name, *config)
            assert made.exit_code == 0, made.output
        until(lambda: run("audit", "verify", *config).exit_code == 0, "a checkpoint was published")
    finally:
        stack.stop()
    yield stack.remediator.folder


def run(*arguments: str) -> Any:
    """Run the command line in the process of the test."""
    return CliRunner().invoke(cli, arguments)


@pytest.fixture
def copy(healed: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder that the test may change."""
    shutil.copytree(healed, tmp_path / "copy", ignore=shutil.ignore_patterns("log"))
    return tmp_path / "copy"


def verified(folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Return the exit status and the JSON of ``audit verify``."""
    done = run("audit", "verify", "--config", str(folder / "remediator.yaml"), "--format", "json", *options)
    assert done.exit_code in (0, 1, 4), (done.output, done.exception)
    return done.exit_code, json.loads(done.output)


def change(folder: Path, *statements: str) -> None:
    """Change the database with SQL, as a person with access to the file can."""
    with sqlite3.connect(folder / "state/remediator.db") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_an_unchanged_log_and_its_state_verify(copy: Path) -> None:
    """With places and key from the settings, an unchanged log verifies with exit status 0, anchored."""
    status, said = verified(copy, "--state")
    assert (status, said["findings"], said["anchored"]) == (0, [], True)


def test_a_log_without_checkpoints_elsewhere_has_its_own_status_and_sentence(copy: Path) -> None:
    """The exit status is 4, and the sentence does not claim that the log verifies."""
    database = str(copy / "state/remediator.db")
    done = run("audit", "verify", "--db", database)
    assert done.exit_code == 4
    assert done.output.startswith("The audit log has no finding: entries 1 to ")
    assert "verifies" not in done.output


@pytest.mark.parametrize("anchored", [True, False])
def test_an_emptied_log_beside_runs_is_found(copy: Path, anchored: bool) -> None:
    """An emptied log is found, even with its head set back and no checkpoint elsewhere."""
    genesis = f"UPDATE audit_head SET seq = 0, hash = x'{bytes(32).hex()}', tree = x''"
    change(copy, "DELETE FROM audit", genesis, "DELETE FROM key_values WHERE name = 'checkpoint'")
    options = () if anchored else ("--db", str(copy / "state/remediator.db"))
    status, said = verified(copy, *options)
    assert status == 1
    assert said["findings"][0]["problem"] == ("truncated" if anchored else "emptied")


def test_a_truncated_log_is_found_by_the_checkpoint_in_the_database(copy: Path) -> None:
    """A truncated log is found by the newest signature in the database, even without the places for checkpoints."""
    rows, _ = sealed_again(copy, drop=3)
    shutil.rmtree(copy.parent / "elsewhere", ignore_errors=True)
    status, said = verified(copy)
    assert (status, said["findings"][0]["problem"]) == (1, "truncated")
    assert rows


def test_a_rewritten_log_is_found(copy: Path) -> None:
    """A rewritten log is found even with new hashes and a matching head."""
    sealed_again(copy, drop=0)
    change(copy, "DELETE FROM key_values WHERE name = 'checkpoint'")
    assert verified(copy)[0] == 1


def sealed_again(folder: Path, drop: int) -> tuple[list[Any], Any]:
    """Write the log again with another actor in the first entry and without its last entries."""
    database = folder / "state/remediator.db"
    with sqlite3.connect(database) as connection:
        old = [json.loads(row[0]) for row in connection.execute("SELECT canonical FROM audit ORDER BY seq")]
        signed = json.loads(connection.execute("SELECT value FROM key_values WHERE name = 'checkpoint'").fetchone()[0])
        if drop:
            old = old[: signed["size"] - drop]
        else:
            old[0]["actor"] = "nobody"
        rows, head = [], GENESIS
        for item in old:
            draft = Draft(
                Kind(item["kind"]),
                item["actor"],
                run=item["run"],
                episode=item["episode"],
                playbook=item["playbook"],
                playbook_hash=item["playbook_hash"],
                plan_hash=item["plan_hash"],
                reason=item["reason"],
                data=item["data"],
            )
            made, head = seal(head, [draft], datetime.fromisoformat(item["time"]))
            rows += made
        connection.execute("DELETE FROM audit WHERE seq > ?", (len(rows),))
        for row in rows:
            assert hashlib.sha256(b"\0" + row.canonical).digest() == row.hash
            connection.execute(
                "UPDATE audit SET canonical = ?, hash = ? WHERE seq = ?", (row.canonical, row.hash, row.seq)
            )
        connection.execute("UPDATE audit_head SET seq = ?, hash = ?, tree = ?", (head.seq, head.hash, head.tree))
    connection.close()
    return rows, head


TAMPERED = {
    "a run that is not in the log": (
        "CREATE TEMP TABLE copied AS SELECT * FROM runs LIMIT 1;"
        "UPDATE copied SET id = 'run-x', incident_id = 'incident-x', incident_open = 0, holds_target = 0;"
        "INSERT INTO runs SELECT * FROM copied",
        "run run-x is in the database, but not in the log",
    ),
    "a deleted run": ("DELETE FROM runs", "is in the log, but not in the database"),
    "another status": ("UPDATE runs SET status = 'running'", "has the status 'running' in the database"),
    "another mode": ("UPDATE runs SET mode = 'approve'", "has the mode 'approve' in the database"),
    "another plan": ("UPDATE runs SET plan = replace(plan, 'redis', 'nginx')", "has another plan in the database"),
    "a released stop": ("UPDATE stops SET released_at = 1, released_by = 'ann'", "is released in the database"),
    "a deleted stop": ("DELETE FROM stops WHERE reason = 'gone'", "is active in the log, but not in the database"),
    "a stop of another service": ("UPDATE stops SET name = 'nginx'", "has another scope"),
    "a shorter stop": ("UPDATE stops SET expires_at = 1", "expires at another time"),
    "an approved request": (
        "INSERT INTO approvals (id, run_id, plan_hash, plan, steps, asked, why, status, groups, quorum, requested_at, "
        "expires_at) SELECT 'approval-x', id, plan_hash, plan, '[]', 'approval_needed', '', 'approved', '[]', 1, 1, 1 "
        "FROM runs",
        "the log has no decision that makes it so",
    ),
    "remembered": (
        "INSERT INTO remedy_memory (id, target, kind, subject, name, verdict, reason, at) "
        "VALUES ('m', 'redis', 'release', 's', '1.2', 'bad', '', 9)",
        "what is remembered about '1.2' on redis differs from the log",
    ),
}


@pytest.mark.parametrize(("statement", "told"), TAMPERED.values(), ids=TAMPERED)
def test_a_state_that_is_not_what_the_log_says_is_found(copy: Path, statement: str, told: str) -> None:
    """``--state`` finds a change that SQL made beside the log. Without this option, the log alone verifies."""
    change(copy, "PRAGMA foreign_keys = ON", *statement.split(";"))
    assert verified(copy)[0] == 0
    status, said = verified(copy, "--state")
    assert status == 1
    assert any(told in item["message"] for item in said["findings"]), said
