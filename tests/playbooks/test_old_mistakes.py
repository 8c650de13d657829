"""Playbooks with mistakes that once did harm: lint warns of them or refuses them, and on a real Redis they do no harm.

Each playbook is in mode ``auto`` and runs in the production engine, against a real fault.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.authoring.lint.runner import Sources, lint
from remediator.config import Config
from remediator.extensions.registry import Registry
from tests.playbooks.test_redis_states import load_slowly
from tests.support import commands
from tests.support.redis_bench import Bench, Untouched, refusal, started
from tests.support.servers import until
from tests.support.servers.remediator import Remediator

pytestmark = pytest.mark.process

MISTAKE: dict[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Playbook",
    "name": "redis-down",
    "summary": "Restart Redis whenever it is not ok.",
    "match": {"alertname": "RedisDown", "matchers": ['service="redis"']},
    "mode": "auto",
    "target": "redis",
    "diagnose": [{"id": "ping", "check": "redis.ping"}],
    "conclude": [{"id": "down", "when": "!evidence.ping.ok", "cause": "Redis is down."}],
    "steps": [{"id": "restart", "action": "service.restart", "for": "down", "when": "!evidence.ping.ok"}],
    "verify": {"settle": "1s", "within": "20s", "checks": [{"check": "redis.ping"}, {"check": "redis.write_test"}]},
    "escalate": {"to": ["infrastructure"]},
}


def findings(playbook: dict[str, Any], folder: Path) -> set[str]:
    """Return the IDs of lint's findings for a playbook."""
    folder.mkdir()
    (folder / f"{playbook['name']}.yaml").write_text(yaml.safe_dump(playbook, sort_keys=False))
    redis = {"platform": {"kind": "supervisor", "url": "unix:///none", "program": "redis"}}
    inventory = folder.with_name("lint-inventory.yaml")
    content = {"apiVersion": "remediator/v1", "kind": "Inventory", "services": {"redis": redis}}
    inventory.write_text(yaml.safe_dump(content))
    report = lint(Sources([folder], inventory, None, []), Registry().catalogue(), Config, date(2026, 1, 1))
    return {item.rule for item in report.diagnostics}


@contextmanager
def bench_with(folder: Path, playbook: dict[str, Any], *settings: str) -> Iterator[Bench]:
    """Run a bench that has only this playbook."""
    made = Bench(folder / "bench", *settings)
    made.playbooks = [playbook]
    yield from started(made)


def loading(bench: Bench) -> None:
    """Let Redis load for about 20 s."""
    load_slowly(bench)


def rotated_password(bench: Bench) -> None:
    """Change the password on the server, so remediator has the old one."""
    bench.remediator.stop()
    secret = bench.folder / "password"
    secret.write_text("of-yesterday")
    bench.binding["password_file"] = str(secret)
    with bench.client() as client:
        client.config_set("requirepass", "of-today")
    bench.password = "of-today"
    bench.start_remediator()


def too_many_clients(bench: Bench) -> None:
    """Open connections until Redis accepts no more."""
    with bench.client() as client:
        client.config_set("maxclients", 20)

    def leak() -> bool:
        bench.calls.enter_context(socket.create_connection(("127.0.0.1", bench.port)))
        return "max number of clients" in refusal(bench)

    until(leak, "Redis rejects clients")


def own_password_gone(bench: Bench) -> None:
    """Remove the password file of remediator, while Redis is healthy."""
    bench.remediator.stop()
    bench.binding["password_file"] = str(bench.folder / "gone")
    bench.start_remediator()


def test_a_cause_that_is_only_not_ok_is_warned_of(tmp_path: Path) -> None:
    """Lint warns of a negated condition if a step acts for its cause; a cause without a step has no effect."""
    restart = {"id": "restart", "action": "service.restart", "for": "down"}
    assert "negated-ok" in findings(MISTAKE | {"steps": [restart]}, tmp_path / "cause")
    named = [
        *MISTAKE["conclude"],
        {"id": "dead", "when": 'evidence.ping.facts.state == "down"', "cause": "It is down."},
    ]
    other = MISTAKE | {"conclude": named, "steps": [restart | {"for": "dead"}]}
    assert "negated-ok" not in findings(other, tmp_path / "informs")


@pytest.mark.parametrize("fault", [loading, rotated_password, too_many_clients, own_password_gone])
def test_a_restart_whenever_ping_is_not_ok(tmp_path: Path, fault: Callable[[Bench], None]) -> None:
    """Lint warns. Redis is not restarted, because it answers with an error or its state is unknown: a person is
    asked."""
    assert "negated-ok" in findings(MISTAKE, tmp_path / "lint")
    with bench_with(tmp_path, MISTAKE) as bench:
        fault(bench)
        starts = bench.starts
        run = bench.judge()
        assert (run["status"] in ("awaiting_approval", "escalated"), bench.starts) == (True, starts), run["detail"]


def test_an_alert_of_another_host(tmp_path: Path) -> None:
    """Lint warns of a playbook without a matcher for its target. An alert of another host changes nothing."""
    anywhere = MISTAKE | {"match": {"alertname": "RedisDown"}}
    assert "alert-from-elsewhere" in findings(anywhere, tmp_path / "lint")
    with bench_with(tmp_path, anywhere) as bench:
        bench.kill()
        starts = bench.starts
        run = bench.judge(instance="10.20.30.40:9121", service="redis")
        assert (run["status"], run["steps"], bench.starts) == ("escalated", [], starts)
        assert "10.20.30.40:9121" in str(run)


def test_a_proof_that_held_before(tmp_path: Path) -> None:
    """Lint warns of a verification that only needs a running process. If it holds before the first step, the run ends
    as *not needed*."""
    weak = MISTAKE | {
        "diagnose": [{"id": "status", "action": "service.status"}],
        "conclude": [{"id": "odd", "when": 'evidence.status.facts.state == "running"', "cause": "It looks odd."}],
        "steps": [{"id": "restart", "action": "service.restart", "for": "odd"}],
        "verify": {"settle": "1s", "within": "20s", "checks": [{"check": "service.running"}]},
    }
    assert "weak-proof" in findings(weak, tmp_path / "lint")
    with bench_with(tmp_path, weak) as bench:
        before = Untouched(bench)
        run = bench.judge()
        assert (run["status"], run["reason"], run["steps"]) == ("cancelled", "not_needed", [])
        before.check()


def test_a_summary_that_is_matched_by_text(tmp_path: Path) -> None:
    """Lint and the service refuse the playbook, because a condition must not read text that is written for people."""
    prose = MISTAKE | {
        "conclude": [{"id": "full", "when": 'evidence.ping.summary.contains("disk")', "cause": "The disk is full."}],
        "steps": [{"id": "restart", "action": "service.restart", "for": "full"}],
    }
    assert "unknown-field" in findings(prose, tmp_path / "lint")
    service = Remediator(tmp_path / "remediator")
    service.folder.mkdir(parents=True, exist_ok=True)
    service.playbooks = [prose]
    service.inventory["services"] = {"redis": {"platform": {"kind": "supervisor", "url": "unix:///no", "program": "r"}}}
    service.write()
    ended = commands.remediator("serve", "--config", str(service.config))
    assert ended.returncode != 0 and "evidence.ping has no field 'summary'" in ended.stderr
    assert "redis-down.yaml:" in ended.stderr and "Traceback" not in ended.stderr
