"""Real faults of a real PostgreSQL, handled by the playbooks of the cookbook in the production engine.

Each test causes a fault, sends the alert, and asserts the cause, the reaction and effects that must not happen: no
session that works, writes or belongs to another program is ended, and no row is changed.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

import psycopg
import pytest
import yaml

from tests.support.cookbook import COOKBOOK
from tests.support.servers import until
from tests.support.servers.postgres import Postgres, _folder
from tests.support.servers.postgres_target import STATEMENTS, Target, make_target, pid, remove, rights, start_standby
from tests.support.servers.remediator import Remediator
from tests.support.servers.supervisord import Supervisord

pytestmark = [pytest.mark.process, pytest.mark.long]

ANN = "a-token-of-ann"
ENDED = ("succeeded", "escalated", "awaiting_approval")
SLOTS = 10
BLOCKED: dict[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Playbook",
    "name": "postgresql-blocked",
    "match": {"alertname": "PostgresqlBlocked"},
    "mode": "auto",
    "target": "postgresql",
    "diagnose": [{"id": "state", "action": "postgres.diagnose", "with": {"waiting_over": "500ms"}}],
    "conclude": [
        {
            "id": "idle-blocker",
            "when": 'evidence.state.facts.locks.root_state == "idle in transaction" && '
            'evidence.state.facts.locks.root_protected == ""',
            "cause": "A session that is idle in a transaction blocks the others.",
        }
    ],
    "steps": [
        {
            "id": "end-blocker",
            "action": "postgres.terminate_backends",
            "for": ["idle-blocker"],
            "with": {"blocking_over": "500ms", "idle_in_transaction_over": "500ms", "limit": 1},
            "tolerance": {"rolled_back_transactions": 1},
        }
    ],
    "verify": {
        "settle": "100ms",
        "within": "20s",
        "checks": [{"check": "postgres.locks", "with": {"waiting_over": "500ms"}}],
    },
    "escalate": {"to": ["oncall"], "message": "still blocked"},
}
RELEASE: dict[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Playbook",
    "name": "jobs-stuck",
    "match": {"alertname": "JobsStuck"},
    "mode": "auto",
    "target": "postgresql",
    "diagnose": [
        {"id": "stuck", "check": "postgres.rows", "with": {"statement": "release-jobs", "values": {"queue": "mail"}}}
    ],
    "conclude": [
        {"id": "stuck", "when": "evidence.stuck.facts.rows > 0", "cause": "Jobs of a worker that is gone are stuck."}
    ],
    "steps": [
        {
            "id": "release",
            "action": "postgres.execute",
            "for": ["stuck"],
            "with": {"statement": "release-jobs", "values": {"queue": "mail"}},
        }
    ],
    "verify": {
        "settle": "100ms",
        "within": "20s",
        "checks": [{"check": "postgres.rows", "with": {"statement": "release-jobs", "values": {"queue": "mail"}}}],
    },
    "escalate": {"to": ["oncall"], "message": "still stuck"},
}


class Bench:
    """A PostgreSQL with an application, and remediator with the playbooks of the cookbook in mode ``auto``."""

    def __init__(self, folder: Path) -> None:
        self.server = Postgres(_folder())
        self.server.start()
        self.target = make_target(self.server)
        self.target.grant(*rights(self.target.service()))
        # the superuser has reserved connections, and remediator connects to another database
        self.target.server.sql(f"ALTER DATABASE {self.target.database} CONNECTION LIMIT {SLOTS}")
        self.supervisord = Supervisord(folder / "supervisord")
        self.supervisord.program("postgresql", "/bin/sleep 3600", "startsecs=0")
        self.remediator = Remediator(folder / "remediator")

    def start(self, *, standby: Postgres | None = None, database: str = "postgres") -> None:
        """Start remediator; if a standby is given, the service is the standby."""
        names = ("postgresql-connections-exhausted", "postgresql-replication-lag")
        found = [yaml.safe_load((COOKBOOK / name / "playbooks" / f"{name}.yaml").read_text()) for name in names]
        playbooks = yaml.safe_load(
            yaml.safe_dump(found).replace("10m", "500ms").replace("lag_over: 5m", "lag_over: 1s")
        )
        for playbook in playbooks:
            playbook["mode"] = "auto"
            playbook["match"] = {"alertname": playbook["match"]["alertname"]}
            if "verify" in playbook:
                playbook["verify"] |= {"settle": "100ms", "within": "20s"}
                del playbook["guards"]
        self.remediator.playbooks = [*playbooks, BLOCKED, RELEASE]
        self.remediator.settings["channels"] = {"oncall": {"kind": "log"}}
        reasons = {"watchdog": "these tests send no Watchdog", "still_firing": "these tests have no Alertmanager"}
        self.remediator.settings["guards"]["off"] = [{"guard": name, "reason": why} for name, why in reasons.items()]
        port = (standby or self.server).port
        self.remediator.inventory["services"] = {
            "postgresql": {
                "platform": {"kind": "supervisor", "url": self.supervisord.url, "program": "postgresql"},
                "postgres": {"port": port, "database": database, "statements": STATEMENTS},
                "alert_label_values": {"instance": ["db-1:9187"]},
            }
        }
        self.supervisord.start()
        with ServerProxy(f"http://operator:opensesame@127.0.0.1:{self.supervisord.port}/RPC2") as proxy:
            proxy.supervisor.startProcess("postgresql")
        ann = {"roles": ["admin"], "groups": ["sre"], "tokens": [hashlib.sha256(ANN.encode()).hexdigest()]}
        self.remediator.folder.joinpath("people.yaml").write_text(
            yaml.safe_dump({"kind": "People", "people": {"ann": ann}})
        )
        self.remediator.settings["access"] = {"people": "people.yaml", "anonymous_role": "viewer"}
        self.remediator.start()

    def judge(self, alertname: str) -> dict[str, Any]:
        """Send the alert, and return the run when it has ended or waits for an approval."""
        body = self.remediator.notification("firing", alertname=alertname, service="postgresql", instance="db-1:9187")
        assert self.remediator.post(body)[0] == 200

        def ended() -> bool:
            runs = self.remediator.runs()
            return bool(runs) and runs[0]["status"] in ENDED

        until(ended, f"{alertname} is judged")
        return dict(self.remediator.get(f"/api/v1/runs/{self.remediator.runs()[0]['id']}"))

    def stop(self) -> None:
        """Stop all processes."""
        self.target.close()
        self.remediator.stop()
        self.supervisord.stop()
        remove(self.server)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Return a bench whose remediator is not started."""
    made = Bench(tmp_path)
    yield made
    made.stop()


def causes(run: dict[str, Any]) -> set[str]:
    """Return the causes that a run found."""
    return {item["name"] for item in run["evidence"] if item["phase"] == "conclude"}


def fill(target: Target, number: int, statement: str, application: str = "leaky") -> list[Any]:
    """Open sessions that are idle after a statement, and wait until they have been idle for long enough."""
    made = [target.open(application) for _ in range(number)]
    for session in made:
        session.execute(statement)
    oldest = (
        "SELECT min(extract(epoch FROM clock_timestamp() - state_change)) FROM pg_stat_activity "
        f"WHERE application_name = '{application}'"
    )
    until(lambda: float(target.server.sql(oldest)) > 0.6, "idle for long enough")
    return made


def is_full(target: Target) -> bool:
    """Return whether the application gets no connection."""
    try:
        target.open("customer").close()
    except psycopg.OperationalError as error:
        return "too many connections" in str(error)
    return False


def test_idle_transactions_are_ended_and_nothing_else(bench: Bench) -> None:
    """The application can connect again. A backup, a superuser and a working session stay."""
    target = bench.target
    bench.start()
    backup = fill(target, 1, "BEGIN; SELECT 1", "pg_dump")
    superuser = target.open("admin", user="postgres")
    superuser.execute("BEGIN; SELECT 1")
    leaky = fill(target, SLOTS - 2, "BEGIN; SELECT 1")  # the two other sessions count too
    assert is_full(target)
    run = bench.judge("PostgresqlTooManyConnections")
    assert (causes(run), run["status"]) == ({"idle-transactions"}, "succeeded"), run
    assert not is_full(target)
    assert not any(target.is_there(each) for each in leaky)
    assert target.is_there(backup[0]) and target.is_there(superuser)


def test_leaked_sessions_are_ended(bench: Bench) -> None:
    """Leaked sessions without a transaction are ended, because nothing is lost."""
    bench.start()
    leaky = fill(bench.target, SLOTS, "SELECT 1")
    assert is_full(bench.target)
    run = bench.judge("PostgresqlTooManyConnections")
    assert (causes(run), run["status"]) == ({"idle-sessions"}, "succeeded"), run
    assert not any(bench.target.is_there(each) for each in leaky)


def test_sessions_with_changes_need_an_approval(bench: Bench) -> None:
    """The transactions have changes that would be lost, so no session is ended without an approval."""
    target = bench.target
    target.sql("INSERT INTO sessions SELECT g, 1 FROM generate_series(1, 20) AS g")
    bench.start()
    leaky = [target.open("leaky") for _ in range(SLOTS)]
    for number, session in enumerate(leaky):
        session.execute(f"BEGIN; UPDATE sessions SET note = 'x' WHERE id = {number}")
    until(lambda: float(target.server.sql(_IDLE)) > 0.6, "idle for long enough")
    run = bench.judge("PostgresqlTooManyConnections")
    assert (causes(run), run["status"]) == ({"idle-transactions"}, "awaiting_approval"), run
    assert all(target.is_there(each) for each in leaky)


_IDLE = "SELECT min(extract(epoch FROM clock_timestamp() - state_change)) FROM pg_stat_activity WHERE usename = 'shop'"


def test_a_blocker_is_ended_and_the_others_go_on(bench: Bench) -> None:
    """The session that is idle in a transaction is ended, and the waiting sessions finish their work."""
    target = bench.target
    target.sql("INSERT INTO jobs (id, state) VALUES (1, 'new')")
    bench.start()
    root = target.open("reports")
    root.execute("BEGIN; UPDATE jobs SET state = 'lost' WHERE id = 1")
    waiter = target.open("shop")
    thread = threading.Thread(target=lambda: waiter.execute("UPDATE jobs SET worker = 'done' WHERE id = 1"))
    thread.start()
    waits = "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)), 0) FROM pg_locks WHERE NOT granted"
    until(lambda: float(target.server.sql(waits)) > 0.6, "the session waits")
    run = bench.judge("PostgresqlBlocked")
    assert (causes(run), run["status"]) == ({"idle-blocker"}, "succeeded"), run
    thread.join(10)
    assert target.server.sql("SELECT state || ' ' || worker FROM shop.jobs", target.database) == "new done"
    assert not target.is_there(root) and target.is_there(waiter)
    [step] = run["steps"]
    assert (step["action"], step["outcome"]) == ("postgres.terminate_backends", "ok")
    assert str(pid(root)) in repr(step)


def test_a_paused_replay_is_named_and_not_resumed(bench: Bench) -> None:
    """A person paused the replay, so only a person resumes it."""
    standby = start_standby(bench.server)
    try:
        standby.sql("SELECT pg_wal_replay_pause()")
        until(lambda: standby.sql("SELECT pg_get_wal_replay_pause_state()") == "paused", "the replay is paused")
        bench.target.sql("INSERT INTO jobs (id) SELECT generate_series(1, 1000)")
        bench.start(standby=standby)
        run = bench.judge("PostgresqlReplicationLag")
        assert (causes(run), run["status"]) == ({"paused"}, "escalated"), run
        assert standby.sql("SELECT pg_get_wal_replay_pause_state()") == "paused"
    finally:
        remove(standby)


def test_a_statement_waits_for_an_approval_that_shows_its_rows(bench: Bench) -> None:
    """The statement waits for an approval even in mode ``auto``. After it, exactly the rows of the request change."""
    target = bench.target
    insert = "INSERT INTO jobs SELECT g, '{}', 'running', 'w', now() - interval '2h' FROM generate_series({}, {}) AS g"
    target.sql("; ".join((insert.format("mail", 1, 3), insert.format("images", 4, 6))))
    bench.start(database=target.database)
    run = bench.judge("JobsStuck")
    assert (causes(run), run["status"]) == ({"stuck"}, "awaiting_approval"), run
    [asked] = bench.remediator.get("/api/v1/approvals")
    shown = repr(asked)
    for part in ('UPDATE "shop"."jobs"', "mail", "at most 5 rows", "3 rows match now"):
        assert part in shown, shown
    assert target.sql("SELECT count(*) FROM jobs WHERE state = 'running'") == "6"
    decision = json.dumps({"plan_hash": asked["plan_hash"], "reason": "seen", "confirm": "postgresql"}).encode()
    assert bench.remediator.post(decision, f"/api/v1/approvals/{asked['id']}/approve", ANN)[0] == 200
    bench.remediator.wait_for("succeeded")
    assert target.sql("SELECT DISTINCT queue FROM jobs WHERE state = 'running'") == "images"
    assert target.sql("SELECT changed FROM remediator.applied_calls") == "3"
