"""Two versions side by side on one PostgreSQL: this version and the next one.

The next version is made from this one, with the changes that are allowed between neighbours: the next engine version,
which it writes into its runs, and a migration that adds a column, a table and an index.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import httpx
import pytest
import yaml

from remediator.cli.audit_verify import NOT_ANCHORED
from remediator.core.identity import hash_token, make_token
from remediator.core.run import ENGINE_VERSION
from remediator.storage.migrate import HEAD
from tests.promises.conftest import MakeInstallation
from tests.support.replicas import PLAYBOOK, CrashingRemediator, Installation, changed, counted, rows, succeeded
from tests.support.servers import DEADLINE, until
from tests.support.servers.remediator import ROOT

pytestmark = [pytest.mark.long, pytest.mark.promise(2), pytest.mark.promise(3)]

NEXT = f"{int(HEAD) + 1:04d}"
MIGRATION = f'''
import sqlalchemy
from alembic import op

revision = "{NEXT}"
down_revision = "{HEAD}"


def upgrade() -> None:
    op.add_column("runs", sqlalchemy.Column("weather", sqlalchemy.Text, nullable=False, server_default="fair"))
    op.create_table("clouds", sqlalchemy.Column("id", sqlalchemy.Integer, primary_key=True))
    op.create_index("ix_runs_weather", "runs", ["weather"])
'''
ASKS = {**PLAYBOOK, "name": "target-asks", "match": {"alertname": "TargetAsks"}, "mode": "approve"}
SETTLES = {
    **PLAYBOOK,
    "name": "target-settles",
    "match": {"alertname": "TargetSettles"},
    "verify": {**PLAYBOOK["verify"], "settle": "15s", "within": "30s"},
}
ANN = make_token()
LAPSED = "lease_until < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


def later_version(folder: Path, ahead: int = 1) -> Path:
    """Copy the code with an engine version that is higher by ``ahead``, and with the next schema."""
    shutil.copytree(ROOT / "remediator", folder / "remediator", ignore=shutil.ignore_patterns("__pycache__"))
    package = folder / "remediator"
    change(
        package / "core" / "run.py",
        rf"^ENGINE_VERSION = {ENGINE_VERSION}$",
        f"ENGINE_VERSION = {ENGINE_VERSION + ahead}",
    )
    change(package / "storage" / "migrate.py", rf'^HEAD = "{HEAD}"$', f'HEAD = "{NEXT}"')
    (package / "storage" / "migrations" / "versions" / f"{NEXT}_next.py").write_text(MIGRATION)
    return folder


def change(path: Path, pattern: str, becomes: str) -> None:
    """Replace exactly one line of a file."""
    text, times = re.subn(pattern, becomes, path.read_text(), flags=re.M)
    assert times == 1, f"{path.name} has {pattern} {times} times"
    path.write_text(text)


def replica(installation: Installation, name: str, tree: Path = ROOT, crash_at: str = "") -> CrashingRemediator:
    """Return a replica with this name, all three playbooks and an approver. It is not started."""
    made = installation.replica(crash_at, tree, replica=name, access={"people": "people.yaml"})
    made.playbooks = [PLAYBOOK, ASKS, SETTLES]
    people = {"ann": {"roles": ["approver"], "tokens": [hash_token(ANN)]}}
    (made.folder / "people.yaml").write_text(yaml.safe_dump({"kind": "People", "people": people}))
    return made


def tell(to: CrashingRemediator, alertname: str, target: str) -> None:
    """Send an alert, and check that it is acknowledged."""
    assert to.post(to.notification("firing", alertname=alertname, service=target))[0] == 200


def refused(one: CrashingRemediator) -> str:
    """Start a replica, and return the sentence with which the start fails."""
    one.launch()
    until(lambda: one.ended, "it does not start")
    return one.log.strip().splitlines()[-1]


def movers(url: str, run: str) -> set[str]:
    """Return the replicas that changed the state of a run, from the audit log."""
    found = rows(url, f"SELECT canonical FROM audit WHERE run_id = '{run}' AND kind = 'run.transition'")
    return {str(re.search(rb'"actor":"remediator/([^"]*)"', bytes(canonical))[1], "utf-8") for (canonical,) in found}


def test_an_upgrade_with_everything_in_flight(
    make_installation: MakeInstallation, postgres_url: str, tmp_path: Path
) -> None:
    """The database is migrated during open runs, and then old and new replicas share the work.

    The old version does not change runs of the new version, and reports them. An incompatible replica gets an error.
    The log of each target has one restart.
    """
    url = postgres_url
    new = later_version(tmp_path / "new")
    installation = make_installation(targets=9, store=url, stubborn=2)
    asks, settles, under_way, *others = installation.targets
    old = replica(installation, "old-1")
    old.start()
    tell(old, "TargetAsks", asks)
    tell(old, "TargetSettles", settles)
    until(lambda: statuses(url, asks, settles) == ["awaiting_approval", "verifying"], "asked, and acted upon")
    tell(old, "TargetDown", under_way)
    until(lambda: counted(url, "SELECT count(*) FROM attempts WHERE mutates AND outcome IS NULL") == 1, "it restarts")

    first = replica(installation, "new-1", new, "kill@before:call")
    assert f"schema {HEAD}, but this version needs {NEXT}; run 'remediator db migrate'" in refused(first)
    migrated = first.command_line("db", "migrate")
    assert migrated.stdout == f"schema: {HEAD} -> {NEXT}\n", migrated.stderr
    tell(old, "TargetDown", others[0])
    until(lambda: succeeded(old) == {settles, under_way, others[0]}, "the old version works on, on the new schema")
    assert "start the newer remediator" in refused(replica(installation, "old-2"))

    first.start()
    too_new = later_version(tmp_path / "too-new", ahead=2)
    assert "upgrade step by step" in refused(replica(installation, "new-9", too_new))
    old.pause()
    tell(first, "TargetDown", others[1])
    until(lambda: first.ended, "the new version has begun a run, and dies before its call")
    old.resume()
    run = left_alone(old, url, others[1])

    second = replica(installation, "new-2", new)
    second.start()
    for number, target in enumerate(others[2:]):
        tell((old, second)[number % 2], "TargetDown", target)
    until(
        lambda: succeeded(old) == set(installation.targets) - {asks},
        "both heal, and the new one goes on with its own",
        180,
    )
    assert movers(url, run) == {"new-1", "new-2"}
    old.stop()
    ((request, plan_hash),) = rows(url, "SELECT id, plan_hash FROM approvals WHERE status = 'pending'")
    answer = httpx.post(
        f"{second.url}/api/v1/approvals/{request}/approve",
        headers={"Authorization": f"Bearer {ANN}"},
        json={"plan_hash": plan_hash},
        timeout=DEADLINE,
    )
    assert answer.status_code == 200, answer.text
    until(lambda: succeeded(second) == set(installation.targets), "what was asked before the upgrade is done after it")

    assert {target: installation.starts(target) for target in installation.targets} == dict.fromkeys(
        installation.targets, 2
    )
    assert counted(url, "SELECT count(*) FROM runs") == len(installation.targets)
    verified = second.command_line("audit", "verify")
    assert verified.returncode == NOT_ANCHORED, verified.stdout + verified.stderr  # no checkpoints are stored elsewhere


def statuses(url: str, *targets: str) -> list[str]:
    """Return the status of the run on each target."""
    found = dict(tuple(row) for row in rows(url, "SELECT target, status FROM runs"))
    return [found.get(target, "") for target in targets]


def left_alone(old: CrashingRemediator, url: str, target: str) -> str:
    """Return the ID of a run of the new version that an old replica does not change but reports to people."""
    ((run, engine, fence),) = rows(url, f"SELECT id, engine_version, fence FROM runs WHERE target = '{target}'")
    assert engine == ENGINE_VERSION + 1
    tell(old, "Other", target)
    until(lambda: counted(url, "SELECT count(*) FROM notifications WHERE processed_at IS NULL") == 0, "it is at work")
    until(lambda: counted(url, f"SELECT count(*) FROM runs WHERE id = '{run}' AND {LAPSED}") == 1, "the lease is over")
    waited = 11 * 60 * 1_000_000
    changed(url, f"UPDATE runs SET wake_at = wake_at - {waited} WHERE id = '{run}'")
    told = f"SELECT content FROM messages WHERE run_id = '{run}' AND kind = 'notice'"
    until(lambda: len(rows(url, told)) == 1, "people are told")
    assert f"it needs engine {engine}: start the newer version" in str(rows(url, told)[0][0])
    assert rows(url, f"SELECT fence FROM runs WHERE id = '{run}'")[0][0] == fence
    return str(run)
