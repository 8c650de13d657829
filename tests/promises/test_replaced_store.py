"""If a database lost its last commits, as after a restore or a failover, no action is repeated because of it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from copy import deepcopy

import pytest

from tests.promises.conftest import MakeInstallation
from tests.support.replicas import PLAYBOOK
from tests.support.servers import until

pytestmark = [pytest.mark.long, pytest.mark.promise(3)]


def test_a_restored_run_does_not_act_again(make_installation: MakeInstallation) -> None:
    """With a backup from just before the intent, a target that was restarted and still fails is not restarted again."""
    installation = make_installation()
    replica = installation.replica(crash_at="kill@before:action.intended")
    replica.start()
    assert replica.tell("target-0")
    until(lambda: replica.ended, "killed before the commit of the intent")
    replica.kill()
    database, backup = replica.folder / "state/remediator.db", replica.folder / "backup.db"
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(backup)) as copy:
        source.backup(copy)
    replica.crash_at = ""
    replica.start()
    replica.wait_for("succeeded")
    assert installation.starts("target-0") == 2
    replica.stop()

    installation.fixed = lambda name: False  # a healthy service would need no action
    restored = replica.command_line("db", "restore", str(backup), "--actor", "user:ann")
    assert restored.returncode == 0, restored.stderr
    replica.start()
    run = replica.wait_for("awaiting_approval")  # a new plan cannot show the restart
    assert installation.starts("target-0") == 2, "the target was restarted again"
    assert "the database lost its last commits after the alert began" in str(run["timeline"])
    assert replica.audit_has("restored from backup.db")
    shutil.rmtree(replica.folder / "state")


@pytest.mark.parametrize("helped", [False, True])
def test_the_action_of_a_lost_run_is_not_repeated(make_installation: MakeInstallation, helped: bool) -> None:
    """With a backup from before the alert, a new plan cannot show the restart, so a person decides about an action."""
    installation = make_installation()
    replica = installation.replica()
    replica.start()
    database, backup = replica.folder / "state/remediator.db", replica.folder / "backup.db"
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(backup)) as copy:
        source.backup(copy)
    assert replica.tell("target-0")
    replica.wait_for("succeeded")
    replica.stop()
    installation.fixed = lambda name: helped
    restored = replica.command_line("db", "restore", str(backup), "--actor", "user:ann")
    assert restored.returncode == 0, restored.stderr
    replica.start()
    assert replica.tell("target-0")  # Alertmanager repeats alerts that still fire
    run = replica.wait_for("cancelled" if helped else "awaiting_approval")
    assert ("the database lost its last commits after the alert began" in str(run["timeline"])) is not helped
    assert installation.starts("target-0") == 2, "the target was restarted again"


def test_a_step_of_a_plan_from_before_is_observed_before_it_is_done_again(make_installation: MakeInstallation) -> None:
    """A second step that the backup lacks is observed before it could be repeated."""
    installation = make_installation()
    installation.fixed = lambda name: installation.starts(name) > 2
    replica = installation.replica(crash_at="kill@before:action.intended#2")
    (step,) = PLAYBOOK["steps"]
    replica.playbooks = [{**PLAYBOOK, "steps": [step, {**deepcopy(step), "id": "again"}]}]
    replica.start()
    assert replica.tell("target-0")
    until(lambda: replica.ended, "killed before the commit of the second intent")
    replica.kill()
    database, backup = replica.folder / "state/remediator.db", replica.folder / "backup.db"
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(backup)) as copy:
        source.backup(copy)
    replica.crash_at = ""
    replica.start()
    replica.wait_for("succeeded")
    assert installation.starts("target-0") == 3
    replica.stop()

    installation.fixed = lambda name: False
    restored = replica.command_line("db", "restore", str(backup), "--actor", "user:ann")
    assert restored.returncode == 0, restored.stderr
    replica.start()
    run = replica.wait_for("escalated")
    assert installation.starts("target-0") == 3, "the target was restarted again"
    assert "perhaps started before the database was replaced" in str(run["timeline"])
