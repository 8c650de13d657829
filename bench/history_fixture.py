"""A generated history of a remediator in a SQLite file, of any length, for the tests of the report and its bench."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, insert

from remediator.core.plan import Plan
from remediator.storage.migrate import migrate
from remediator.storage.schema import metadata

END = datetime(2026, 6, 1, tzinfo=UTC)
REMEDIES = {  # playbook: target, alert, action, usual seconds to proof, usual seconds before
    "redis-down": ("redis", "RedisDown", "service.restart", 9, 900),
    "app-crash-loop": ("app", "AppCrashLoopBackOff", "service.rollback", 40, 2400),
    "app-high-error-rate": ("app", "AppHighErrorRate", "service.scale", 75, 1500),
    "redis-disk-full": ("redis", "RedisDiskFull", "files.prune", 25, 3600),
}
HELD = (("cooldown", "too_soon"), ("watchdog", "stale"), ("freeze", "frozen"), ("dependency", "cause_fires"))
ENDS = ("succeeded",) * 80 + ("escalated",) * 7 + ("failed",) * 2 + ("blocked",) * 4 + ("cancelled",) * 7
_BATCH = 5000


def open_(path: Path) -> sqlalchemy.Engine:
    """Create a file with the schema and open it."""
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        migrate(connection)
    return engine


def make(path: Path, count: int, days: int, before: int = 200, seed: int = 7) -> None:
    """Fill a new file with incidents over some days up to :data:`END`, and with the alerts before them."""
    engine = open_(path)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA synchronous=OFF")
        batch: list[Mapping[str, Sequence[dict[str, Any]]]] = []
        for one in _incidents(random.Random(seed), count, days, before):
            batch.append(one)
            if len(batch) == _BATCH:
                _write(connection, batch)
                batch.clear()
        _write(connection, batch)
        connection.exec_driver_sql("ANALYZE")
    engine.dispose()


def _write(connection: Connection, batch: Sequence[Mapping[str, Sequence[dict[str, Any]]]]) -> None:
    connection.exec_driver_sql("BEGIN")
    for name in ("episodes", "runs", "run_episodes", "attempts", "verdicts", "approvals"):
        rows = [row for one in batch for row in one.get(name, ())]
        if rows:
            connection.execute(insert(metadata.tables[name]), rows)
    connection.exec_driver_sql("COMMIT")


def _incidents(
    random_: random.Random, count: int, days: int, before: int
) -> Iterator[Mapping[str, Sequence[dict[str, Any]]]]:
    names, first = sorted(REMEDIES), END - timedelta(days=days)
    for number in range(before):
        playbook = names[number % len(names)]
        at = first - timedelta(hours=1 + number)
        lasted = timedelta(seconds=REMEDIES[playbook][4] * random_.lognormvariate(0, 0.6))
        yield {"episodes": [_episode(f"old-{number:07d}", REMEDIES[playbook][1], at, at + lasted, 0)]}
    for number in range(count):
        at = first + timedelta(days=days) * (number + random_.random()) / count
        yield _incident(random_, number, at, random_.choices(names, (5, 2, 2, 1))[0])


def _incident(random_: random.Random, number: int, at: datetime, playbook: str) -> dict[str, list[dict[str, Any]]]:
    target, alert, action, usual, _ = REMEDIES[playbook]
    status, run, episode = random_.choice(ENDS), f"run-{number:07d}", f"episode-{number:07d}"
    took = timedelta(seconds=usual * random_.lognormvariate(0, 0.5))
    begun, ended = at + timedelta(seconds=0.05), at + timedelta(seconds=0.05) + took
    acted, asked = status in ("succeeded", "failed", "escalated"), random_.random() < 0.08
    made: dict[str, list[dict[str, Any]]] = {
        "episodes": [_episode(episode, alert, at, ended + timedelta(seconds=15), int(random_.random() < 0.1))],
        "runs": [_run(run, playbook, target, status, at, begun if acted else None, ended)],
        "run_episodes": [{"run_id": run, "episode_id": episode, "joined_at": at}],
    }
    if acted:
        outcome = "ok" if status == "succeeded" else random_.choice(("ok", "failed", "unknown"))
        made["attempts"] = [_attempt(run, playbook, target, action, begun, outcome, ended)]
    if status == "blocked":
        made["verdicts"] = [_verdict(run, at, *random_.choice(HELD))]
    if asked:
        answer = "approved" if acted else random_.choice(("rejected", "expired"))
        made["approvals"] = [_approval(run, at, answer, at + timedelta(seconds=random_.lognormvariate(5, 0.8)))]
    return made


def _episode(id_: str, alert: str, at: datetime, over: datetime, flaps: int) -> dict[str, Any]:
    values = {"id": id_, "identity": id_, "status": "closed", "alertname": alert, "labels": {"alertname": alert}}
    instants = {"started_at": at, "starts_at": at, "last_seen_at": over, "resolved_at": over, "closes_at": over}
    return {**values, **instants, "annotations": {}, "flaps": flaps}


def _run(
    id_: str, playbook: str, target: str, status: str, at: datetime, acted: datetime | None, ended: datetime
) -> dict[str, Any]:
    reason = {"cancelled": "resolved", "blocked": "guard_blocked", "escalated": "no_step_left"}.get(status)
    return {
        "id": id_,
        "status": status,
        "reason": reason,
        "detail": {},
        "blocked_by": "cooldown" if status == "blocked" else None,
        "blocked_by_run": None,
        "playbook": playbook,
        "playbook_hash": "0" * 64,
        "target": target,
        "mode": "auto",
        "engine_version": 1,
        "fence": 1,
        "wakeup_count": 0,
        "incident_open": False,
        "holds_target": False,
        "created_at": at,
        "updated_at": ended,
        "first_action_at": acted,
        "finished_at": None if status == "blocked" else ended,
    }


def _attempt(
    run: str, playbook: str, target: str, action: str, at: datetime, outcome: str, ended: datetime
) -> dict[str, Any]:
    return {
        "id": f"attempt-{run}",
        "run_id": run,
        "step": "first",
        "number": 1,
        "action": action,
        "playbook": playbook,
        "target": target,
        "mutates": True,
        "is_undo": False,
        "call": {"text": f"{action} {target}"},
        "fence": 1,
        "intent_at": at,
        "outcome": outcome,
        "outcome_at": ended,
        "result": {},
    }


def _verdict(run: str, at: datetime, guard: str, reason: str) -> dict[str, Any]:
    return {
        "run_id": run, "at": at, "phase": "plan", "guard": guard, "answer": "block", "reason": reason, "inputs": {}
    }  # fmt: skip


def _approval(run: str, at: datetime, status: str, decided: datetime) -> dict[str, Any]:
    return {
        "id": f"approval-{run}",
        "run_id": run,
        "plan_hash": "0" * 64,
        "plan": Plan("p", "h", "redis", "approve", {}, (), (), 1.0, 30.0, (), "").to_data(),
        "steps": [],
        "asked": "approval_needed",
        "why": "this playbook runs in mode approve",
        "status": status,
        "groups": ["sre"],
        "quorum": 1,
        "requested_at": at,
        "expires_at": at + timedelta(minutes=15),
        "decided_at": decided,
    }
