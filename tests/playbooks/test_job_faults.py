"""A nightly Job that fails on a real cluster, handled by the playbook of the cookbook.

The script of the pod writes the report into a folder of the node. The exporter reports the time of the report, and the
failed Jobs of the namespace as kube-state-metrics does. Prometheus evaluates the rule of the recipe. Each test causes a
fault, and asserts the reaction and the Jobs that exist afterwards.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.servers import until
from tests.support.servers.kubernetes import Cluster
from tests.support.servers.recipe import Recipe, causes, lines

pytestmark = [pytest.mark.kubernetes, pytest.mark.long]

NIGHT, LATER, OTHER = "nightly-report-29384115", "nightly-report-29384175", "invoices-29384115"
"""Names of Jobs in the form that a CronJob gives them."""
RIGHTS = (
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list"]},
    {"apiGroups": ["", "apps", "autoscaling"], "resources": ["*"], "verbs": ["get", "list"]},
)
OLD = 1_000_000_000


class Reports(Recipe):
    """A namespace with the Deployment of the reports, and the servers of the recipe."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        super().__init__(folder, "job-failed", {"cluster": "127.0.0.1"}, {"shop": cluster.namespace})
        self.cluster, self.script = cluster, "date +%s > /reports/written; echo the report is written"
        self.reports = folder / "reports"
        self.reports.mkdir(mode=0o777)
        (self.reports / "written").write_text(str(OLD))
        self.series = self._series

    def _series(self, host: str) -> str:
        """Return the time of the report, and the failed Jobs, as series."""
        written = float((self.reports / "written").read_text() or OLD)
        labels = {"namespace": self.cluster.namespace}
        found = [("report_last_success_timestamp_seconds", {**labels, "report": "nightly"}, written)]
        for job in self.cluster.get("jobs")["items"]:
            failed = any(each["type"] == "Failed" for each in job["status"].get("conditions", ()))
            found.append(("kube_job_failed", {**labels, "job_name": job["metadata"]["name"]}, failed))
        return lines(found)

    def job(self, name: str, script: str) -> dict[str, Any]:
        """Return a Job whose pod runs a script with the folder of the reports mounted."""
        mounts = {"volumeMounts": [{"name": "reports", "mountPath": "/reports"}]}
        pod = {
            "restartPolicy": "Never",
            "containers": [{**self.cluster.container(script), **mounts}],
            "volumes": [{"name": "reports", "hostPath": {"path": str(self.reports)}}],
        }
        spec = {"backoffLimit": 0, "template": {"spec": pod}}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}

    def fail(self, name: str) -> None:
        """Create a Job that fails, and wait until it has failed."""
        self.cluster.apply(self.job(name, "echo no space left; exit 1"))

    def jobs(self) -> set[str]:
        """Return the names of all Jobs of the namespace."""
        return {job["metadata"]["name"] for job in self.cluster.get("jobs")["items"]}

    def created(self) -> set[str]:
        """Return the names of the Jobs that the test did not create."""
        return self.jobs() - {NIGHT, LATER, OTHER}

    def inventory(self) -> dict[str, Any]:
        """Return the inventory of the recipe, with an account of the cluster and the script of the test."""
        made = super().inventory()
        manifest = self.folder / "nightly-report.yaml"
        manifest.write_text(yaml.safe_dump(self.job("nightly-report", self.script)))
        service = made["services"]["nightly-report"]
        service["platform"]["kubeconfig"] = str(self._kubeconfig())
        service["jobs"]["nightly-report"]["manifest"] = str(manifest)
        return made

    def _kubeconfig(self) -> Path:
        """Return a kubeconfig with the rights that the recipe needs, and no others."""
        config = yaml.safe_load(self.cluster.kubeconfig.read_text())
        for user in config["users"]:
            user["user"] = {"token": self.cluster.account("remediator", *RIGHTS)}
        path = self.folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
        return path


@pytest.fixture
def reports(controllers: None, cluster: Cluster, tmp_path: Path) -> Reports:
    """Return the recipe, not started; the report of the last night is missing."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o755)  # a pod may run as another user
    cluster.deploy("reports", "sleep 1000", replicas=0)
    return Reports(tmp_path, cluster)


@pytest.mark.promise(7)
def test_a_missing_report_is_written_once_more(reports: Reports) -> None:
    """One Job writes the report, and its log is evidence. Prometheus shows the report. The other Job does not
    change."""
    with reports.running():
        reports.fail(OTHER)
        reports.fail(NIGHT)
        run = reports.run("nightly-report", seconds=180)
        assert (causes(run), run["status"]) == ({"missing"}, "succeeded"), str(run)
        assert float((reports.reports / "written").read_text()) > OLD
        assert len(reports.created()) == 1
        assert len(reports.remediator.runs()) == 1, "the other Job failed too, and has no playbook"
        with closing(sqlite3.connect(reports.remediator.folder / "state/remediator.db")) as store:
            ((facts,),) = store.execute("SELECT facts FROM evidence WHERE name = 'wait' AND status = 'ok'")
        assert "the report is written" in json.loads(facts)["logs"]


def test_a_second_failure_is_escalated_and_starts_no_third_job(reports: Reports) -> None:
    """The same alert reports the failure of the new Job, and later of the next one of the CronJob: no further Job is
    created."""
    reports.script = "echo the database is gone; exit 1"
    with reports.running():
        reports.fail(NIGHT)
        run = reports.run("nightly-report", seconds=180)
        assert (causes(run), run["status"]) == ({"missing"}, "escalated"), str(run)
        assert "the database is gone" in str(run), str(run)
        (own,) = reports.created()
        firing = 'ALERTS{alertstate="firing",job_name="NAME"}'.replace("NAME", own)
        until(lambda: bool(reports.prometheus.query(firing)), "the alert about its own Job fires")
        reports.fail(LATER)
        path = f"/api/v1/runs/{run['id']}"
        until(lambda: LATER in reports.remediator.text(path), "the next alert joins the run, which is over")
        assert reports.created() == {own}

        reports.cluster.kubectl("delete", "job", NIGHT, LATER, own)
        until(lambda: reports.alertmanager.get("/api/v2/alerts") == [], "the alerts have ended")
        until(
            lambda: all(each["resolved_at"] for each in reports.remediator.get(path)["alerts"]), "the incident is over"
        )
        reports.fail(LATER)
        until(lambda: reports.remediator.runs()[0]["status"] == "blocked", "the next run is blocked")
        assert "rate_limit 1/20h" in reports.remediator.text(f"/api/v1/runs/{reports.remediator.runs()[0]['id']}")
        assert reports.jobs() == {LATER}


def test_a_report_that_is_there_needs_no_job(reports: Reports) -> None:
    """If a later Job wrote the report before the alert was handled, no Job is created."""
    (reports.reports / "written").write_text("4000000000")
    with reports.running():
        reports.fail(NIGHT)
        run = reports.run("nightly-report", seconds=120)
        assert causes(run) == {"written"}, str(run)
        assert [step["action"] for step in run["steps"] if step["action"] == "job.run" and step["outcome"]] == []
        assert reports.jobs() == {NIGHT}


@pytest.mark.promise(3)
@pytest.mark.parametrize("moment", ["before:call", "after:call"])
def test_a_killed_service_creates_the_job_once(reports: Reports, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a SIGKILL at the call that creates the Job, there is one Job, and the run continues to its verification."""
    monkeypatch.setenv("REMEDIATOR_CRASH_AT", f"kill@{moment}")
    with reports.running():
        reports.fail(NIGHT)
        process = reports.remediator._process
        assert process is not None
        until(lambda: process.poll() is not None, "the service is dead")
        monkeypatch.delenv("REMEDIATOR_CRASH_AT")
        reports.remediator.start()
        assert reports.run("nightly-report", seconds=180)["status"] == "succeeded"
        assert len(reports.created()) == 1
