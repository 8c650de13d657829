"""Tests for harm that was seen once and that fits no other file; docs/judgement.md names a test for each case."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.support.servers import free_port
from tests.support.servers.remediator import ROOT, Remediator

DOCUMENT = ROOT / "docs/judgement.md"


def test_every_test_in_the_list_exists() -> None:
    """Each test that the document names exists."""
    text = DOCUMENT.read_text(encoding="utf-8")
    files = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
    named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", text)
    assert len(named) >= 16
    missing = [(file, test) for file, test in named if file not in files or not _has(files, file, test)]
    assert not missing


def _has(files: dict[str, Path], file: str, test: str) -> bool:
    paths = [path for path in (ROOT / "tests").rglob(file)]
    return any(f"def {test}(" in path.read_text(encoding="utf-8") for path in paths) if test else file in files


@pytest.mark.process
def test_evidence_without_a_possible_step(tmp_path: Path) -> None:
    """supervisord does not answer, so no restart can be planned. The evidence about Redis and its disk is still
    shown."""
    service = Remediator(tmp_path / "remediator")
    service.playbooks = [yaml.safe_load((ROOT / "playbooks/redis-down.yaml").read_text(encoding="utf-8"))]
    service.settings |= {"environment": "demo", "channels": {"infrastructure": {"kind": "log"}}}
    service.settings["guards"]["off"].append({"guard": "still_firing", "reason": "this test has no Alertmanager"})
    service.inventory["services"] = {
        "redis": {
            "platform": {"kind": "supervisor", "url": f"unix://{tmp_path}/nowhere.sock", "program": "redis"},
            "redis": {"host": "127.0.0.1", "port": free_port()},
            "disk": {"path": str(tmp_path)},
        }
    }
    service.start()
    try:
        service.post(service.notification("firing", alertname="RedisDown", service="redis"))
        run = service.wait_for("escalated")
    finally:
        service.stop()
    seen = {item["name"]: item["status"] for item in run["evidence"] if item["phase"] == "diagnose"}
    assert seen["ping"] == "fail" and seen["disk"] in ("ok", "fail") and seen["status"] == "unknown"
    assert run["steps"] == []
