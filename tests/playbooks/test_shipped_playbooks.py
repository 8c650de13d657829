"""The tests of every shipped playbook cover all its branches, and a wrong expectation fails."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner

from remediator.authoring.lint.runner import Sources, lint
from remediator.authoring.testing.runner import Report, files_in, run
from remediator.cli.test import command
from remediator.config import Config
from remediator.extensions.registry import Registry

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
NAMES = sorted(path.stem for path in PLAYBOOKS.glob("*.yaml") if not path.name.endswith(".test.yaml"))
REMEDIES = [name for name in NAMES if "kind: Fragment" not in (PLAYBOOKS / f"{name}.yaml").read_text()]
KINDS = Registry()


def play(path: Path, only: str = "") -> Report:
    """Run the tests of one file."""
    return run(path, KINDS, only)


@pytest.mark.slow
@pytest.mark.parametrize("name", REMEDIES)
def test_the_tests_of_a_shipped_playbook_pass(name: str) -> None:
    """All tests pass, and together they take every branch."""
    report = play(PLAYBOOKS / f"{name}.test.yaml")
    assert [str(item) for item in report.errors] == []
    assert [str(item) for test in report.tests for item in test.diagnostics] == []
    assert report.untaken == []


def test_the_shipped_playbooks_have_no_findings() -> None:
    """Lint reports nothing, not even informational findings."""
    found = lint(
        Sources([PLAYBOOKS], None, None, [PLAYBOOKS.parent / "alerting"]),
        Registry().catalogue(),
        Config,
        date(2026, 1, 1),
    )
    assert [str(item) for item in found.diagnostics] == []


PLAYBOOK = """\
apiVersion: remediator/v1
kind: Playbook
name: kick
summary: Restart it.
match: {alertname: Down}
mode: auto
target: thing
diagnose: [{id: ping, check: redis.ping}]
conclude: [{id: down, when: "!evidence.ping.ok", cause: It does not run.}]
steps: [{id: again, action: service.restart, for: down, when: "!evidence.ping.ok"}]
verify: {settle: 1s, within: 5s, checks: [{check: service.running}]}
escalate: {to: [oncall], message: Look at the thing.}
"""
TESTS = """\
apiVersion: remediator/v1
kind: PlaybookTest
playbook: kick
given: {platform: {thing: [{state: exited}, {state: running, after: service.restart}]}}
tests:
  - name: healed
    alerts: [{labels: {alertname: Down}}]
    checks: {redis.ping: fail}
    expect:
      outcome: succeeded
      steps: {again: ok}
"""


@pytest.fixture
def kick(tmp_path: Path) -> Path:
    """Write a playbook and its test file."""
    (tmp_path / "kick.yaml").write_text(PLAYBOOK)
    (tmp_path / "kick.test.yaml").write_text(TESTS)
    return tmp_path / "kick.test.yaml"


WRONG = [
    ("outcome: succeeded", "outcome: escalated", "10:16", "expected outcome escalated, got succeeded"),
    ("steps: {again: ok}", "steps: {}", "11:14", "expected steps none, got again: ok"),
    ("steps: {again: ok}", "plan: []", "11:13", "expected plan [], got [again]"),
    ("steps: {again: ok}", "skipped: [again]", "11:16", "expected skipped steps [again], got []"),
    ("steps: {again: ok}", "guards: {freeze: block}", "11:24", "expected guard freeze block, got allow"),
    ("steps: {again: ok}", "evidence: {ping: ok}", "11:24", "expected evidence ping ok, got fail"),
    ("steps: {again: ok}", "matches: []", "11:16", "expected playbooks that match [], got [kick]"),
    ("steps: {again: ok}", "runs: 2", "11:13", "expected number of runs 2, got 1"),
    ("steps: {again: ok}", "within: 1ms", "11:15", "expected the end within 1ms, but it took"),
    ("steps: {again: ok}", "messages: [{to: nobody}]", "11:18", "expected a message to nobody, sent: none"),
    ("steps: {again: ok}", "mode: approve", "11:13", "expected mode approve, got auto"),
    ("steps: {again: ok}", "causes: [rust]", "11:15", "expected likely causes [rust], got [down: It does not run.]"),
    ("steps: {again: ok}", "reason: never", "11:15", "expected reason never, got"),
    (
        "steps: {again: ok}",
        "calls: {again: kick it}",
        "11:22",
        "expected call of again 'kick it', got 'service.restart",
    ),
    ("steps: {again: ok}", "undone: [again]", "11:15", "expected undone steps [again], got []"),
]


@pytest.mark.parametrize(("right", "wrong", "place", "sentence"), WRONG)
def test_a_wrong_expectation_is_reported_at_its_place(
    kick: Path, right: str, wrong: str, place: str, sentence: str
) -> None:
    """Each kind of expectation can fail, with line, column, expected and actual value."""
    assert [test.diagnostics for test in play(kick).tests] == [()]
    kick.write_text(TESTS.replace(right, wrong))
    [test] = play(kick).tests
    [diagnostic] = test.diagnostics
    assert f"{diagnostic.line}:{diagnostic.column}" == place
    assert sentence in diagnostic.message


OF_NO_RUN = [
    ("reason: verified", "11:15"),
    ("mode: auto", "11:13"),
    ("plan: [again]", "11:13"),
    ("calls: {again: x}", "11:14"),
    ("steps: {again: ok}", "11:14"),
    ("skipped: [again]", "11:16"),
    ("undone: [again]", "11:15"),
    ("evidence: {ping: fail}", "11:17"),
    ("causes: [full]", "11:15"),
    ("guards: {freeze: allow}", "11:15"),
    ("within: 1h", "11:15"),
    ("messages: [{to: oncall}]", "11:18"),
]


@pytest.mark.parametrize(("expected", "place"), OF_NO_RUN)
def test_expectations_about_a_run_fail_without_a_run(kick: Path, expected: str, place: str) -> None:
    """The tests of a playbook that no longer matches its alert fail."""
    text = TESTS.replace("Down", "Up").replace("outcome: succeeded", "runs: 0").replace("steps: {again: ok}", expected)
    kick.write_text(text)
    [test] = play(kick).tests
    assert [f"{item.line}:{item.column}" for item in test.diagnostics] == [place]


def test_a_read_only_step_counts_for_coverage(kick: Path) -> None:
    """A read-only step has no attempt, but it succeeds or fails like other steps, so it counts for the coverage."""
    steps = "steps: [{id: look, action: service.logs}, "
    kick.with_name("kick.yaml").write_text(PLAYBOOK.replace("steps: [", steps))
    assert "look fails" in play(kick).taken
    kick.write_text(TESTS.replace("    expect:", "    actions: {service.logs: ok}\n    expect:"))
    assert "look is done" in play(kick).taken


@pytest.mark.slow
def test_a_scheduled_undo_runs_in_time(kick: Path) -> None:
    """Timers use the clock of the test: the step is undone when its time is over, not before."""
    undo = "for: down, undo: {action: redis.memory_purge, after: 10m}, "
    kick.with_name("kick.yaml").write_text(PLAYBOOK.replace("for: down, ", undo))
    for lasts, undone in (("9m", "[]"), ("11m", "[again]")):
        kick.write_text(TESTS.replace("    expect:\n", f"    lasts: {lasts}\n    expect:\n      undone: {undone}\n"))
        assert [test.diagnostics for test in play(kick).tests] == [()]


def test_a_failed_plan_is_escalated(kick: Path) -> None:
    """If the alert lacks a label that the playbook needs, the channels of the playbook are notified."""
    missing = "parameters: {size: {label: size, type: integer}}\nmode: auto"
    kick.with_name("kick.yaml").write_text(PLAYBOOK.replace("mode: auto", missing))
    expect = "outcome: escalated\n      reason: no_plan\n      messages: [{kind: escalation, to: oncall}]"
    kick.write_text(TESTS.replace("outcome: succeeded", expect).replace("      steps: {again: ok}\n", ""))
    [test] = play(kick).tests
    assert [str(item) for item in test.diagnostics] == []


MISTAKES = [
    ("redis.ping: fail", "redis.ping: fail, promql: [{answer: ok, with: {qeury: up}}]", "did you mean 'query'?"),
    ("{again: ok}", "{again: ok}\n      undone: [agian]", "did you mean 'again'?"),
    ("given: {", "given: {actions: {service.restrat: ok}, ", "did you mean 'service.restart'?"),
    ("redis.ping: fail}", "redis.ping: fail}\n    platform: {thnig: stopped}", "did you mean 'thing'?"),
    ("redis.ping", "redis.pnig", "did you mean 'redis.ping'?"),
    ("{again: ok}", "{agian: ok}", "did you mean 'again'?"),
    ("playbook: kick", "playbook: kik", "did you mean 'kick'?"),
    ("outcome:", "outcom:", "did you mean 'outcome'?"),
    ("{again: ok}", "{again: fine}", "must be one of ok, failed, unknown"),
]


@pytest.mark.parametrize(("right", "wrong", "hint"), MISTAKES)
def test_an_error_in_a_test_file_is_reported(kick: Path, right: str, wrong: str, hint: str) -> None:
    """An unknown name in a test file is an error with its place, so no test passes by mistake."""
    kick.write_text(TESTS.replace(right, wrong))
    report = play(kick)
    assert report.tests == [] and any(hint in str(item) for item in report.errors), [str(i) for i in report.errors]


def test_the_command_prints_text_and_json(kick: Path) -> None:
    """The command prints text with the coverage, or JSON, and has the documented exit statuses."""
    runner = CliRunner()
    fine = runner.invoke(command, [str(kick)])
    assert fine.exit_code == 0
    assert "3 of 6 branches tested (50 %)" in fine.output and "ok   healed" in fine.output
    assert "branches not tested: again fails, again is skipped, success is not proved" in fine.output
    assert runner.invoke(command, [str(kick), "--coverage", "80"]).exit_code == 1
    [plain] = json.loads(runner.invoke(command, [str(kick), "--format", "json"]).output)
    assert plain["tests"] == [{"name": "healed", "failures": []}]
    kick.write_text(TESTS.replace("succeeded", "failed"))
    assert runner.invoke(command, [str(kick)]).exit_code == 1
    kick.write_text("kind: [")
    assert runner.invoke(command, [str(kick)]).exit_code == 3


@pytest.mark.slow
def test_the_example_of_the_documentation_works(tmp_path: Path) -> None:
    """The playbook has no errors, and its tests pass and take every branch."""
    text = (PLAYBOOKS.parent / "docs" / "testing.md").read_text(encoding="utf-8")
    playbook, tests = (block.partition("```")[0] for block in text.split("```yaml\n")[1:3])
    (tmp_path / "redis-fragmented.yaml").write_text(playbook, encoding="utf-8")
    (tmp_path / "redis-fragmented.test.yaml").write_text(tests, encoding="utf-8")
    report = play(tmp_path / "redis-fragmented.test.yaml")
    assert [str(item) for item in report.errors] == []
    assert [str(item) for test in report.tests for item in test.diagnostics] == []
    assert len(report.tests) == 4 and report.untaken == []


def test_a_test_has_the_same_result_each_time(kick: Path) -> None:
    """Tests use no real clock and no randomness."""
    taken = frozenset({"again is done", "cause 'It does not run.'", "success is proved"})
    assert [play(kick).taken for _ in range(3)] == [taken] * 3


def test_every_test_file_is_found() -> None:
    """Every test file below a given folder is run."""
    assert [file.name for file in files_in([PLAYBOOKS])] == [f"{name}.test.yaml" for name in REMEDIES]
