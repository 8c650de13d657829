"""The ``remediator explain`` command."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import click

from remediator.authoring import explain
from remediator.authoring.explain import Explanation
from remediator.cli import _output
from remediator.cli._options import config_option, format_option
from remediator.config import Config
from remediator.core.cost import excess
from remediator.core.plan import PlannedStep
from remediator.playbooks.loader import load_config

_FINGERPRINT = re.compile(r"[0-9a-f]{16}")


@click.command("explain")
@config_option
@format_option("text", "json")
@click.option(
    "--alert",
    metavar="FILE|FINGERPRINT",
    required=True,
    help="JSON file, such as alert.json or - for standard input, or the fingerprint of a firing alert.",
)
def command(config_path: Path, format_: str, alert: str) -> None:
    """Show what would be done for an alert, and why; change nothing.

    A file contains labels, an alert, or a webhook notification. A fingerprint is Alertmanager's: 16 hexadecimal
    digits. All guards are evaluated, even after one blocks. Exit status 1 if no playbook matches.

    \b
    Examples:
      echo '{"alertname": "RedisDown"}' | remediator explain --alert -
      remediator explain --alert alert.json --format json
      remediator explain --alert 5ac5a6b4ab2bb3b1
    """
    config = load_config(config_path, Config)
    explained = [(labels, asyncio.run(explain.explain(config, labels))) for labels in _alerts(config, alert)]
    if format_ == "json":
        data = [
            {"labels": labels, "playbooks": [explain.as_json(line) for line in lines]} for labels, lines in explained
        ]
        _output.data(data)
    else:
        for number, (labels, lines) in enumerate(explained):
            _output.lines([*([""] if number else []), *_text(labels, lines)])
    if not any(not line.missing for _, lines in explained for line in lines):
        raise SystemExit(1)


def _alerts(config: Config, alert: str) -> list[dict[str, str]]:
    if _FINGERPRINT.fullmatch(alert) and not Path(alert).exists():
        return [asyncio.run(explain.by_fingerprint(config, alert))]
    with click.File(encoding="utf-8")(alert) as file:
        return explain.read_alert(file.read())


def _text(labels: dict[str, str], lines: Sequence[Explanation]) -> list[str]:
    shown = ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))
    matching = [line for line in lines if not line.missing]
    text = [f"receive  {{{shown}}}"]
    text += [f"match    not {line.playbook}: {'; '.join(line.missing)}" for line in lines if line.missing]
    if not matching:
        text.append("match    no playbook matches this alert")
    for line in matching:
        text += _playbook_text(line)
    return text


def _playbook_text(line: Explanation) -> list[str]:
    text = [f"match    {line.playbook}, target {line.target or '?'}, mode {line.mode}"]
    text += _about_text(line)
    if line.plan is None:
        return [*text, f"plan     {line.error}", f"next     {line.next_step}"]
    text += [f"plan     {step.id}: {step.call.summary}" for step in line.plan.steps]
    text += [f"cost     {step.id}: {step.cost.text}" for step in line.plan.steps if step.cost.text]
    text += [f"cost     {step.id}: asks a person: {loss}" for step in line.plan.steps for loss in _losses(step)]
    assert line.decision is not None
    text += [f"guard    {name}: {verdict.sentence}" for name, verdict in line.decision.verdicts]
    text += [f"verify   {check.check}" for check in line.plan.checks]
    return [*text, f"next     {line.next_step}"]


def _losses(step: PlannedStep) -> tuple[str, ...]:
    return excess(step.cost, step.tolerance)


def _about_text(line: Explanation) -> list[str]:
    """Return how the alert compares with the target: each label with both values, then the relation."""
    if line.about is None:
        return []
    text = [
        f"about    {side.label}: alert {side.alert!r}, target {side.service}: {'same' if side.same else 'different'}"
        for side in line.sides
    ]
    text.append(f"about    {line.about.relation}: {line.about.text}")
    if line.about_any is not None:
        text.append(f"about    any label is accepted: {line.about_any}")
    return text
