"""The table of the runbook agrees with the steps of the playbooks."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from remediator.extensions.guards import BUILTIN

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| §(?P<step>[^|]+)\| (?P<playbook>[a-z-]+) \| (?P<names>[^|]+) \|$", re.MULTILINE)


def test_every_step_in_the_table_exists() -> None:
    """Every step in the table exists in a playbook."""
    rows = list(_ROW.finditer((ROOT / "docs/runbook.md").read_text(encoding="utf-8")))
    assert len(rows) > 25
    for row in rows:
        written = yaml.safe_load((ROOT / "playbooks" / f"{row['playbook']}.yaml").read_text(encoding="utf-8"))
        parts = [item for section in ("diagnose", "steps") for item in written.get(section, ())]
        known = {item["id"] for item in parts if "id" in item}
        named = set(re.findall("`([^`]+)`", row["names"]))
        assert named and named <= known, f"{row['playbook']}: there is no {', '.join(sorted(named - known))}"


def test_every_playbook_is_in_the_table() -> None:
    """The table has every playbook."""
    text = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    named = {row["playbook"] for row in _ROW.finditer(text)}
    files = (path for path in (ROOT / "playbooks").glob("*.yaml") if not path.name.endswith(".test.yaml"))
    assert named == {path.stem for path in files}


def test_the_readme_counts_the_playbooks() -> None:
    """The README says how many playbooks exist, how many of them have steps, and how many only diagnose."""
    files = [path for path in (ROOT / "playbooks").glob("*.yaml") if not path.name.endswith(".test.yaml")]
    playbooks = [each for path in files if (each := yaml.safe_load(path.read_text()))["kind"] == "Playbook"]
    remedies = sum(bool(playbook.get("steps")) for playbook in playbooks)
    words = {5: "Five", 8: "Eight", 13: "thirteen"}  # add a word when a number changes
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"has {words[len(playbooks)]} playbooks. {words[remedies]} of them have remedies." in text
    assert f" {words[len(playbooks) - remedies]} only diagnose" in text


def test_the_readme_counts_the_guards() -> None:
    """The excerpt of the demo has the number of all guards."""
    assert f"all {len(BUILTIN)} guards passed" in (ROOT / "README.md").read_text(encoding="utf-8")
