"""Lint: input files, reporters, suppressions and the registration of rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from remediator.authoring.lint import Rule
from remediator.authoring.lint.alerting import read_alerts
from remediator.authoring.lint.errors import ERRORS
from remediator.authoring.lint.reporters import REPORTERS
from remediator.authoring.lint.runner import RULES, Report, Sources, lint
from remediator.cli.lint import command
from remediator.config import Config
from remediator.extensions.registry import Registry
from remediator.playbooks.diagnostics import Diagnostic, Severity
from tests.authoring.lint.catalogue import CATALOGUE
from tests.authoring.lint.mistakes import TODAY, WORLD
from tests.support.lint_reference import reference

ROOT = Path(__file__).resolve().parents[3]
BASE = (WORLD / "redis-down.yaml").read_text(encoding="utf-8")
OFF = "  off: [{guard: storm, reason: one instance only}]"


def look(tmp_path: Path, text: str, today: date = TODAY) -> Report:
    """Lint one playbook."""
    (tmp_path / "redis-down.yaml").write_text(text, encoding="utf-8")
    sources = Sources([tmp_path], WORLD / "inventory.yaml", WORLD / "remediator.yaml", [WORLD / "alerting"])
    return lint(sources, CATALOGUE, Config, today)


def rules(report: Report) -> list[str]:
    return [item.rule for item in report.diagnostics if item.severity is not Severity.INFO]


# -- the set of rules -----------------------------------------------------------------------------------------------


def _concrete(base: type[Rule]) -> Iterator[type[Rule]]:
    """Yield the rules below a class. A class with subclasses is not a rule."""
    for each in base.__subclasses__():
        if each.__subclasses__():
            yield from _concrete(each)
        else:
            yield each


def test_every_rule_is_registered() -> None:
    """Every rule class is in RULES, has the ID of its class name, and shares its ID with no other."""
    assert set(RULES) == set(_concrete(Rule))
    for rule in RULES:
        assert re.sub("(?<!^)(?=[A-Z])", "-", rule.__name__).lower() == rule.id
    assert len({rule.id for rule in RULES} | ERRORS.keys()) == len(RULES) + len(ERRORS)


def test_the_reference_is_current() -> None:
    """docs/lint.md is current. If this fails: python -m tests.support.lint_reference > docs/lint.md"""
    assert (ROOT / "docs" / "lint.md").read_text(encoding="utf-8") == reference()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_has_summary_reason_and_fix(rule: type[Rule]) -> None:
    """Summary and reason of a rule are sentences, and its fix is the hint of a diagnostic."""
    assert rule.summary().endswith(".") and rule.why.endswith(".")
    assert not rule.fix.endswith(".")


# -- the settings file ----------------------------------------------------------------------------------------------

SETTINGS = """apiVersion: remediator/v1
kind: Config
state: state
playbooks: [.]
inventory: inventory.yaml
channels:
  infrastructure: {kind: log}
  development: {kind: log}
guards:
"""


def settle(tmp_path: Path, guards: str, base: str = SETTINGS) -> list[str]:
    """Lint a settings file with these lines below ``guards``, and return the diagnostics."""
    (tmp_path / "remediator.yaml").write_text(base + guards, encoding="utf-8")
    sources = Sources([WORLD / "redis-down.yaml"], WORLD / "inventory.yaml", tmp_path / "remediator.yaml", None)
    found = lint(sources, Registry().catalogue(), Config, TODAY).diagnostics
    own = [item for item in found if item.file.endswith("r.yaml") and item.rule != "no-checkpoints"]
    return [f"{item.line}:{item.column} {item.rule}: {item.message}" for item in own]


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    ("guards", "said"),
    [
        ("  coldown: 5m", "10:3 unknown-guard: unknown guard 'coldown'"),
        ("  off: [{guard: cooldown}]", "10:9 missing-key: missing key 'reason'"),
        ("  off: [{guard: rmap, reason: one target only}]", "10:17 unknown-guard: unknown guard 'rmap'"),
        ("  off: {ramp: one target only}", "10:8 wrong-type: 'off' must be a list"),
        ("  rate_limit: [3 an hour]", "10:15 wrong-value: 'rate_limit': invalid rate '3 an hour': expected"),
        ("  freeze: {timezone: Europe/Berln}", "10:22 wrong-value: 'timezone': unknown time zone 'Europe/Berln':"),
        (
            "  off: [{guard: ramp, reason: one target}]",
            "10:17 guard-off: the guard ramp is turned off for all playbooks: one",
        ),
        (
            "  cooldown: 0s",
            "10:3 guard-off: the settings turn off the guard cooldown, or a part of it, for all playbooks: its period",
        ),
    ],
)
def test_guards_in_the_settings_file_are_checked(tmp_path: Path, guards: str, said: str) -> None:
    """Lint reports errors in guard settings, and guards that are off for all playbooks."""
    found = settle(tmp_path, guards + "\n")
    assert len([line for line in found if "guard-off" not in line or "guard-off" in said]) == 1, found
    assert any(line.startswith(said) for line in found), found


def test_an_unknown_notifier_is_reported(tmp_path: Path) -> None:
    """Lint reports a channel of an unknown kind."""
    base = SETTINGS.replace("development: {kind: log}", "development: {kind: slak}")
    assert settle(tmp_path, "  cooldown: 5m\n", base) == ["8:23 wrong-value: unknown notifier 'slak'"]


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    ("given", "how"),
    [
        ("cooldown: 0s", "its period is 0s"),
        ("ramp: [100]", "a first wave of 100"),
        ("min_healthy: {minimum: 0}", "its minimum is 0"),
        ("managed_by: {allow: [argocd]}", "it allows argocd"),
        ("managed_by: {platforms: []}", "its platforms are empty"),
        ("dependency: {ignore: [app]}", "it ignores app"),
        ("rate_limit: {global: []}", "it has no limit for global"),
        ("storm: {max_share: 1.0}", "its max_share is 1"),
        ("freeze: {windows: []}", "no windows and no calendars"),
        ("cooldown: 1s", ""),
        ("ramp: [1, 100]", ""),
        ("rate_limit: [1/1d]", ""),
        ("freeze: {timezone: UTC}", ""),
    ],
)
def test_settings_that_disable_a_guard_are_reported(tmp_path: Path, given: str, how: str) -> None:
    """Lint reports settings that make a guard allow everything, like a guard that is switched off."""
    text = "apiVersion: remediator/v1\nkind: Playbook\nname: p\nmatch: {alertname: A}\ntarget: redis\n"
    (tmp_path / "p.yaml").write_text(f"{text}guards: {{{given}}}\n", encoding="utf-8")
    found = lint(Sources([tmp_path], WORLD / "inventory.yaml"), Registry().catalogue(), Config, TODAY).diagnostics
    warned = [item.message for item in found if item.rule == "guard-off"]
    name = given.partition(":")[0]
    assert warned == ([f"the settings turn off the guard {name}, or a part of it: {how}"] if how else [])


# -- suppressions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"{OFF}  # remediator: off guard-off until 2026-12-01 because the second one comes in December",
        f"  # remediator: off guard-off until 2026-12-01 because the second one comes in December\n{OFF}",
        f"  # remediator: off no-verify, guard-off until 2026-12-01 because of the second one\n\n  # remark\n{OFF}",
        f"  # remediator: off guard-off until 2026-11-23 because its last day is today\n{OFF}",
    ],
)
def test_a_suppression_applies_to_its_line(tmp_path: Path, text: str) -> None:
    """A suppression at the end of a line or alone above it applies up to and including its date."""
    report = look(tmp_path, BASE.replace("  cooldown: 5m", text))
    assert rules(report) == []
    assert [item.rule for item in report.suppressed] == ["guard-off"]


def test_a_suppression_at_the_top_applies_to_the_file(tmp_path: Path) -> None:
    """A suppression before the first line of content applies to the whole file."""
    head = "# remediator: off guard-off until 2026-12-01 because the second one comes in December\n"
    assert rules(look(tmp_path, head + BASE.replace("  cooldown: 5m", OFF))) == []


@pytest.mark.parametrize(
    "text",
    [
        f"  # remediator: off guard-off until 2026-11-22 because it ended yesterday\n{OFF}",
        f"  # remediator: off no-verify until 2026-12-01 because of something else\n{OFF}",
        f"  # remediator: off guard-off until 2026-12-01 because of the wrong line\n  cooldown: 5m\n{OFF}",
        f"{OFF}\n  # remediator: off guard-off until 2026-12-01 because it comes too late\n  cooldown: 5m",
    ],
)
def test_a_suppression_applies_to_nothing_else(tmp_path: Path, text: str) -> None:
    """A suppression does not apply after its date, to another rule, or to another line."""
    report = look(tmp_path, BASE.replace("  cooldown: 5m", text))
    assert rules(report) == ["guard-off"]


def test_a_suppression_needs_a_reason_and_a_date(tmp_path: Path) -> None:
    """A suppression without reason or date is an error and suppresses nothing."""
    for said in ("off guard-off", "off guard-off until 2026-12-01", "off guard-off because of it"):
        report = look(tmp_path, BASE.replace("  cooldown: 5m", f"  # remediator: {said}\n{OFF}"))
        assert sorted(rules(report)) == ["bad-suppression", "guard-off"]


def test_a_suppression_in_a_text_is_ignored(tmp_path: Path) -> None:
    """A suppression counts only in a comment, not inside a text."""
    text = BASE.replace("message: Redis could", "message: see#remediator: off guard-off; Redis could")
    assert rules(look(tmp_path, text.replace("off guard-off; ", "off "))) in ([], ["yaml-syntax"])


# -- reporters ------------------------------------------------------------------------------------------------------


INDENTED = "    x:"
REPORT = Report(
    diagnostics=(
        Diagnostic(
            "p/a.yaml", 3, 5, "unknown-key", Severity.ERROR, "there is no key 'x' here", "50 %, no\nmore", 1, INDENTED
        ),
        Diagnostic("p/a.yaml", 0, 0, "empty-file", Severity.ERROR, "the file is empty"),
        Diagnostic("p/b.yaml", 1, 1, "guard-off", Severity.WARNING, "a: b, c", "", 3, "abc"),
    ),
    suppressed=(Diagnostic("p/b.yaml", 9, 2, "overlap", Severity.WARNING, "two"),),
    playbooks=1,
    files=2,
    skipped=("no inventory: services are not checked",),
)


def test_text_has_source_lines_and_a_summary() -> None:
    """The text output has source lines, carets, help, skipped checks and a summary."""
    text = REPORTERS["text"](REPORT, REPORT.diagnostics)
    head = "p/a.yaml:3:5: error: there is no key 'x' here (unknown-key)"
    assert text.startswith(f"{head}\n  3 | {INDENTED}\n    |     ^\n")
    assert "p/a.yaml: error: the file is empty (empty-file)\n" in text
    assert text.endswith(
        "no inventory: services are not checked\n2 files, 1 playbook can be used: 2 errors, 1 warning, 1 suppressed"
    )


def test_json_contains_the_whole_report() -> None:
    """The JSON output contains the whole report, with numbers as JSON numbers."""
    made = json.loads(REPORTERS["json"](REPORT, REPORT.diagnostics))
    assert made["counts"] == {"error": 2, "warning": 1, "info": 0}
    assert made["findings"][0]["line"] == 3
    assert made["suppressed"][0]["rule"] == "overlap"


def test_github_commands_are_escaped() -> None:
    """Line breaks, percent signs, commas and colons in GitHub commands are escaped."""
    lines = REPORTERS["github"](REPORT, REPORT.diagnostics).split("\n")
    assert lines[0] == (
        "::error file=p/a.yaml,title=unknown-key,line=3,col=5::there is no key 'x' here; 50 %25, no%0Amore"
    )
    assert lines[1] == "::error file=p/a.yaml,title=empty-file::the file is empty"
    assert lines[2] == "::warning file=p/b.yaml,title=guard-off,line=1,col=1::a: b, c"


def test_sarif_names_every_rule() -> None:
    """SARIF contains summary, reason and fix of every rule, and the suppressed results."""
    made = json.loads(REPORTERS["sarif"](REPORT, REPORT.diagnostics))
    (run,) = made["runs"]
    known = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert known == {*ERRORS, *(rule.id for rule in RULES)}
    assert [result["ruleId"] for result in run["results"]] == ["unknown-key", "empty-file", "guard-off", "overlap"]
    assert run["results"][0]["locations"][0]["physicalLocation"]["region"] == {
        "startLine": 3,
        "startColumn": 5,
        "endColumn": 6,
    }
    assert "suppressions" in run["results"][3]


# -- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a project with a playbook for the real actions, an inventory and rule files."""
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "alerting").mkdir()
    (tmp_path / "alerting" / "rules.yml").write_text((WORLD / "alerting" / "rules.yml").read_text(), encoding="utf-8")
    (tmp_path / "inventory.yaml").write_text((WORLD / "inventory.yaml").read_text(), encoding="utf-8")
    text = BASE.partition("  - id: prune")[0] + "verify:" + BASE.partition("verify:")[2]
    (tmp_path / "playbooks" / "redis-down.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def test_a_clean_project_exits_with_0(project: Path) -> None:
    """Lint finds inventory and rule files automatically, reports what it did not check, and exits with 0."""
    result = run()
    assert result.exit_code == 0, result.output
    assert "no settings file" in result.output
    assert "no inventory" not in result.output


def test_fail_on_selects_the_severity_for_exit_status_1(project: Path) -> None:
    """`--fail-on` sets the severity that gives exit status 1. The default is warning."""
    path = project / "playbooks" / "redis-down.yaml"
    path.write_text(path.read_text().replace("RedisDown", "RedisDwon"), encoding="utf-8")
    assert run().exit_code == 1
    assert run("--fail-on", "error").exit_code == 0
    assert "unknown-alert" not in run("--fail-on", "error", "--min-severity", "error").output
    path.write_text(path.read_text().replace("target: redis", "target: reddis"), encoding="utf-8")
    assert run("--fail-on", "error").exit_code == 1
    assert json.loads(run("--format", "json").output)["counts"]["error"] == 1


def test_wrong_usage_exits_with_2(project: Path) -> None:
    """A missing path or an unknown option gives exit status 2."""
    assert run("--format", "xml").exit_code == 2
    assert run("--inventory", "nowhere.yaml").exit_code == 2
    assert "no such file or folder" in str(run("nowhere").exception)


def test_inventory_and_settings_can_be_linted_too(project: Path) -> None:
    """Lint reads the kind of a file and checks it against the model of this kind."""
    (project / "inventory.yaml").write_text("apiVersion: remediator/v1\nkind: Inventory\nservice: {}\n")
    result = run("inventory.yaml", "--format", "json")
    assert [item["rule"] for item in json.loads(result.output)["findings"]] == ["missing-key", "unknown-key"]


def test_an_existing_test_file_ends_the_finding_no_test(project: Path) -> None:
    """The finding no-test disappears when the test file exists."""
    assert "no-test" in run().output
    (project / "playbooks" / "redis-down.test.yaml").write_text("tests: []\n", encoding="utf-8")
    assert "no-test" not in run().output


RULES_OBJECT = """
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: redis}
spec:
  groups:
    - name: redis
      rules:
        - {alert: RedisDown, expr: redis_up == 0, labels: {severity: critical}}
---
apiVersion: v1
kind: List
items:
  - kind: PrometheusRule
    spec: {groups: [{name: app, rules: [{alert: AppDown, expr: up == 0}]}]}
---
groups:
  - {name: disk, rules: [{alert: RedisDiskFull, expr: disk > 0.9}]}
"""


@pytest.mark.promise(14)
def test_rules_are_read_from_several_documents_and_kubernetes_objects(tmp_path: Path) -> None:
    """Lint reads the rules of a file with several YAML documents and of Kubernetes objects such as PrometheusRule."""
    (tmp_path / "rules.yaml").write_text(RULES_OBJECT)
    found = read_alerts([tmp_path])
    assert [rule.name for rule in found.alerts] == ["RedisDown", "AppDown", "RedisDiskFull"]
    assert not found.unreadable


@pytest.mark.promise(14)
@pytest.mark.parametrize(
    ("text", "why"),
    [("{{- range .Values.rules }}\n- alert: {{ .name }}\n{{- end }}\n", "template"), ("groups: [", "not YAML")],
)
def test_rule_files_that_cannot_be_read_are_one_finding(project: Path, text: str, why: str) -> None:
    """Unreadable templates of a chart give one finding. They may contain alerts, so no alert is reported as unknown."""
    for number in range(5):
        (project / "alerting" / f"template-{number}.yaml").write_text(text)
    playbook = project / "playbooks" / "redis-down.yaml"
    playbook.write_text(playbook.read_text().replace("RedisDown", "RedisDwon"), encoding="utf-8")
    result = run("--format", "json")
    assert result.exit_code == 1
    found = json.loads(result.output)["findings"]
    ids = [item["rule"] for item in found]
    assert ids.count("unreadable-rules") == 1
    assert "unknown-alert" not in ids
    (message,) = (item["message"] for item in found if item["rule"] == "unreadable-rules")
    assert why in message
    assert "4 more like it" in message


@pytest.mark.parametrize(
    ("expression", "known"),
    [
        ("redis_up == 0", True),
        ("redis_memory_used_bytes / redis_memory_max_bytes > 0.9", True),
        ("sum by (team) (rate(errors_total[5m])) > 1", True),
        ("sum by (job) (rate(errors_total[5m])) > 1", False),
        ("sum(rate(errors_total[5m])) > 1", False),
        ("count without (team) (up == 0) > 1", False),
    ],
)
def test_only_aggregation_drops_a_label(project: Path, expression: str, known: bool) -> None:
    """Lint does not report a label as missing unless an aggregation drops it. Targets and relabelling add labels."""
    groups = {"groups": [{"name": "a", "rules": [{"alert": "RedisDown", "expr": expression}]}]}
    (project / "alerting" / "rules.yml").write_text(json.dumps(groups))
    playbook = project / "playbooks" / "redis-down.yaml"
    playbook.write_text(re.sub(r"matchers: \[.*\]", "matchers: ['team=\"shop\"']", playbook.read_text()))
    found = [item["message"] for item in json.loads(run("--format", "json").output)["findings"]]
    assert any("the label 'team'" in message for message in found) is not known, found


def test_labels_of_relabelling_are_known_by_the_settings(tmp_path: Path) -> None:
    """Lint accepts labels in `known_labels`: Prometheus adds them to alerts by relabelling, so no rule has them."""
    rule = {"alert": "RedisDown", "expr": "sum(redis_up) == 0"}
    (tmp_path / "rules").write_text(json.dumps({"groups": [{"name": "a", "rules": [rule]}]}))
    (tmp_path / "redis-down.yaml").write_text(BASE.replace('service="redis"', 'cluster="eu"'))
    for known, wanted in (("[]", True), ("[cluster, severity, instance]", False)):
        settings = (WORLD / "remediator.yaml").read_text() + f"known_labels: {known}\n"
        (tmp_path / "settings").write_text(settings)
        sources = Sources([tmp_path], WORLD / "inventory.yaml", tmp_path / "settings", [tmp_path / "rules"])
        found = lint(sources, CATALOGUE, Config, TODAY).diagnostics
        assert any(item.rule == "unknown-label" for item in found) is wanted, found
