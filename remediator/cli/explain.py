"""The ``remediator explain`` command."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import click

from remediator.authoring import explain
from remediator.cli import _output
from remediator.cli._explanations import alert_lines
from remediator.cli._options import format_option
from remediator.cli._source import Source, source_options
from remediator.config import Config
from remediator.core.alert import ALERTMANAGER
from remediator.errors import InputError
from remediator.extensions.registry import Registry

_FINGERPRINT = re.compile(r"[0-9a-f]{16}")


@click.command("explain")
@source_options
@format_option("text", "json")
@click.option(
    "--alert",
    metavar="FILE|FINGERPRINT",
    required=True,
    help="JSON file, such as alert.json or - for standard input, or the fingerprint of a firing alert.",
)
@click.option(
    "--source",
    "sender",
    metavar="NAME",
    default=ALERTMANAGER,
    help="Source of the alert, such as grafana; a file then has the format of this source (default: alertmanager).",
)
def command(source: Source, format_: str, alert: str, sender: str) -> None:
    """Show the plan for an alert, and the reasons; change nothing.

    A file contains labels, an alert, or a webhook notification. A fingerprint comes from Alertmanager: 16 hexadecimal
    digits. All guards are evaluated, even after a guard blocks. Exit status 1 if no playbook matches.

    \b
    Examples:
      echo '{"alertname": "RedisDown"}' | remediator explain --alert -
      remediator explain --alert alert.json --format json
      remediator explain --alert 5ac5a6b4ab2bb3b1
      remediator explain --alert notification.json --source grafana
    """
    found = []
    with _output.working("planning on the target"):
        if _FINGERPRINT.fullmatch(alert) and not Path(alert).exists():
            found = _explained(source, {"fingerprint": alert})
        else:
            with click.File(encoding="utf-8")(alert) as file:
                alerts = _labels(source.config, sender, file.read())
            found = [item for labels in alerts for item in _explained(source, {"labels": labels, "source": sender})]
    if format_ == "json":
        _output.data(found)
    else:
        for number, item in enumerate(found):
            _output.lines([*([""] if number else []), *alert_lines(item["labels"], item["playbooks"])])
    if not any(playbook["matches"] for item in found for playbook in item["playbooks"]):
        raise SystemExit(1)


def _explained(source: Source, body: dict[str, Any]) -> list[dict[str, Any]]:
    async def local() -> dict[str, Any]:
        sender, labels = body.get("source", ALERTMANAGER), body.get("labels")
        if labels is None:
            sender, labels = await explain.by_fingerprint(source.config, body["fingerprint"])
        return explain.as_alert_json(labels, await explain.explain(source.config, labels, sender))

    return [source.call("explain", lambda: asyncio.run(local()), body)]


def _labels(config: Config, sender: str, text: str) -> list[dict[str, str]]:
    """Return the labels of each alert in a text: labels, an alert, a notification, or a body of another source."""
    if sender == ALERTMANAGER:
        return explain.read_alert(text)
    sources = Registry.for_settings(config).make_sources(config)
    if sender not in sources:
        raise InputError(f"--source: unknown source {sender!r}; known: {', '.join(sources)}")
    return explain.read_body(sources[sender], text.encode())
