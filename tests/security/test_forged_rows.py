"""A forged row of a run or request starts no action, because the service acts on the audit log and not on columns."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from remediator.core.plan import Plan
from tests.security.test_append_only import ROLE, Database
from tests.support.servers.postgres import Postgres
from tests.support.servers.remediator import PLAYBOOK, Stack

pytestmark = pytest.mark.promise(6, 9)


def to_running(connection: sqlite3.Connection) -> None:
    """Move the run past the approval."""
    step = PLAYBOOK["steps"][0]["id"]
    connection.execute(
        "UPDATE runs SET status = 'running', reason = 'approved', detail = '{}', cursor = ?, wake_at = 1, "
        "lease_until = NULL, deadline_at = 4000000000000000",
        (step,),
    )


def to_automatic(connection: sqlite3.Connection) -> None:
    """Move the run past the approval, and change row and plan so that no approval seems necessary."""
    to_running(connection)
    plan = json.loads(connection.execute("SELECT plan FROM runs").fetchone()[0])
    connection.execute("UPDATE runs SET mode = 'auto', plan = ?", (json.dumps(plan | {"mode": "auto"}),))


def to_planned(connection: sqlite3.Connection) -> None:
    """Move the run back before its guards, with a plan of another mode and the hash of that plan."""
    plan = json.loads(connection.execute("SELECT plan FROM runs").fetchone()[0]) | {"mode": "auto"}
    connection.execute(
        "UPDATE runs SET status = 'planned', reason = NULL, detail = '{}', mode = 'auto', plan = ?, plan_hash = ?, "
        "wake_at = 1, lease_until = NULL, deadline_at = NULL",
        (json.dumps(plan), Plan.from_data(plan).hash),
    )


def to_matched(connection: sqlite3.Connection) -> None:
    """Make the run look new, in a mode without approval."""
    connection.execute(
        "UPDATE runs SET status = 'matched', reason = NULL, detail = '{}', mode = 'auto', plan = NULL, "
        "plan_hash = NULL, cursor = NULL, fence = 0, lease_owner = NULL, lease_until = NULL, wake_at = 1, "
        "deadline_at = NULL",
    )
    connection.execute("DELETE FROM approvals")


def to_blocked(connection: sqlite3.Connection) -> None:
    """Make the run wait for its guards again, in a mode without approval."""
    connection.execute(
        "UPDATE runs SET status = 'blocked', reason = 'guard_blocked', detail = '{}', resume_to = 'running', "
        "mode = 'auto', wake_at = 1, lease_until = NULL, deadline_at = NULL",
    )


def to_new(connection: sqlite3.Connection) -> None:
    """End the run, and add another one for the same alert that the service did not create."""
    to_matched(connection)
    rows = connection.execute("SELECT * FROM runs")
    names = [column[0] for column in rows.description]
    old = dict(zip(names, rows.fetchone(), strict=True))
    ids = {"id": "run-forged", "incident_id": "incident-forged"}
    new = old | ids | {"created_at": old["created_at"] + 1}  # the service looks at the newest run
    connection.execute("UPDATE runs SET status = 'cancelled', incident_open = 0, finished_at = 1, wake_at = NULL")
    connection.execute(
        f"INSERT INTO runs ({', '.join(new)}) VALUES ({', '.join('?' * len(new))})",
        tuple(new.values()),
    )
    connection.execute("INSERT INTO run_episodes SELECT ?, episode_id, joined_at FROM run_episodes", (new["id"],))


def to_approved(connection: sqlite3.Connection) -> None:
    """Move the run past the approval, with a decision that no person made."""
    to_running(connection)
    approval = connection.execute("SELECT id FROM approvals").fetchone()[0]
    connection.execute("UPDATE approvals SET status = 'approved'")
    connection.execute(
        "INSERT INTO decisions (approval_id, identity, verb, at, how) VALUES (?, 'ann', 'approve', 1, 'token')",
        (approval,),
    )


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Return a service that was killed while its run waited for approval. Its state then is in the folder ``kept``."""
    folder = tmp_path_factory.mktemp("waiting")
    stack = Stack(folder)
    stack.remediator.playbooks = [{**PLAYBOOK, "mode": "approve"}]
    try:
        stack.start()
        stack.kill_redis()
        stack.alertmanager.fire(alertname="RedisDown", instance="redis:6379")
        stack.remediator.wait_for("awaiting_approval")
        stack.remediator.kill()
        shutil.copytree(folder / "remediator/state", folder / "kept")
        yield stack
    finally:
        stack.stop()


@pytest.mark.parametrize("forge", [to_running, to_automatic, to_planned, to_matched, to_blocked, to_new, to_approved])
def test_a_forged_row_does_not_act(waiting: Stack, forge: Callable[[sqlite3.Connection], None]) -> None:
    """The target is not changed, and the run is escalated with the difference from the audit log."""
    state = waiting.remediator.folder / "state"
    shutil.rmtree(state)
    shutil.copytree(state.parents[1] / "kept", state)
    waiting.alertmanager.fire(alertname="RedisDown", instance="redis:6379")  # the alert still fires
    with closing(sqlite3.connect(state / "remediator.db", isolation_level=None)) as connection:
        forge(connection)
    waiting.remediator.start()
    try:
        run = waiting.remediator.wait_for("escalated")
        assert run["reason"] == "not_in_audit_log", run
        assert "from the audit log" in json.dumps(run) or "does not have the start of" in json.dumps(run)
        assert run["first_action_at"] is None, run
    finally:
        waiting.remediator.kill()


class ServiceRole:
    """A connection to PostgreSQL as the role of the service, with the placeholders of SQLite."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """Run a statement."""
        return self._connection.execute(statement.replace("?", "%s").encode(), values)


@pytest.mark.long
@pytest.mark.parametrize("forge", [to_running, to_automatic, to_planned, to_matched, to_blocked])
def test_a_row_forged_with_the_role_of_the_service_does_not_act(
    postgres: Postgres, tmp_path: Path, forge: Callable[[Any], None]
) -> None:
    """A person with the database password can change rows, but without an approval nothing is done."""
    database = Database(postgres, tmp_path)
    assert database.run("migrate").exit_code == 0 and database.run("grant", ROLE).exit_code == 0
    stack = Stack(tmp_path)
    stack.remediator.playbooks = [{**PLAYBOOK, "mode": "approve"}]
    stack.remediator.settings |= {
        "store": {"url_file": str(tmp_path / "service")},
        "access": {"anonymous_role": "viewer"},
    }
    try:
        stack.start()
        stack.kill_redis()
        stack.alertmanager.fire(alertname="RedisDown", instance="redis:6379")
        stack.remediator.wait_for("awaiting_approval")
        stack.remediator.kill()
        with psycopg.connect(database.service, autocommit=True) as connection:
            forge(ServiceRole(connection))
        stack.remediator.start()
        run = stack.remediator.wait_for("escalated")
        assert (run["reason"], run["first_action_at"]) == ("not_in_audit_log", None), run
    finally:
        stack.stop()
        postgres.drop(database.name)
