"""A start for a new playbook: complete, commented, and harmless until its author says otherwise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from remediator.errors import InputError
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.inventory import Inventory, Service

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_ALERT = re.compile(r"[a-zA-Z_][a-zA-Z0-9_:]*")


@dataclass(frozen=True, slots=True)
class KnownAlert:
    """What Prometheus' rules say of an alert."""

    name: str
    service: str = ""
    """Its label ``service``, where the rule sets it."""
    expression: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """What a new playbook is about."""

    name: str
    alert: str
    target: str
    probe: str
    """The check that shows best that the target serves, as YAML."""
    check: str
    """Its name."""
    expression: str
    channel: str
    redis: bool = False
    """Whether the inventory says how to ask the target as a Redis."""


def begin(
    name: str,
    alert: str,
    target: str,
    inventory: Inventory,
    alerts: Sequence[KnownAlert],
    channels: Sequence[str] = (),
) -> Start:
    """Work out what was not said: the alert from the name, the target from the alert or the inventory.

    Raises:
        InputError: a name is malformed, or the target is not known.
    """
    if _NAME.fullmatch(name) is None:
        raise InputError(f"{name!r} is no name for a playbook: lower-case letters, digits, - and _")
    alert = alert or "".join(word.capitalize() for word in re.split("[-_]", name))
    if _ALERT.fullmatch(alert) is None:
        raise InputError(f"{alert!r} is no alertname; give one with --alert")
    known = next((item for item in alerts if item.name == alert), KnownAlert(alert))
    service = _service(target or known.service, inventory)
    return Start(
        name,
        alert,
        service.name,
        _probe(service),
        _check(service),
        " ".join(known.expression.split()),
        _channel(service, channels),
        service.redis is not None,
    )


def _service(name: str, inventory: Inventory) -> Service:
    if not name and len(inventory.services) == 1:
        return next(iter(inventory.services.values()))
    if name in inventory.services:
        return inventory.services[name]
    what = f"the inventory has no service {name!r}" if name else "which service is it about?"
    raise InputError(f"{what}; give one with --target; {did_you_mean(name, inventory.services)}")


def _channel(service: Service, channels: Sequence[str]) -> str:
    wanted = service.owner or "infrastructure"
    return wanted if wanted in channels or not channels else channels[0]


def _check(service: Service) -> str:
    return _probe(service).strip("{}").removeprefix("check: ").partition(",")[0]


def _probe(service: Service) -> str:
    if service.redis is not None:
        return "{check: redis.ping}"
    if service.http is not None:
        return "{check: http.ok, with: {path: ready}}"
    return "{check: service.running}"


def playbook(start: Start, schema: str = "") -> str:
    """The file's text.

    Args:
        schema: path to the JSON Schema, for editors; empty where there is none near.
    """
    head = f"# yaml-language-server: $schema={schema}\n" if schema else ""
    rule = f"# The rule fires while:  {start.expression}\n" if start.expression else ""
    looks, condition = (_REDIS_LOOKS, _REDIS_CONDITION) if start.redis else ("", _CONDITION)
    return (
        head
        + rule
        + _BODY.format(
            start=start, inner=start.probe[1:-1], title=start.target.capitalize(), looks=looks, condition=condition
        )
    )


def test(start: Start, schema: str = "") -> str:
    """The text of the test beside it.

    Args:
        schema: path to the JSON Schema, for editors; empty where there is none near.
    """
    head = f"# yaml-language-server: $schema={schema}\n" if schema else ""
    fail, ok = "{answer: fail}", "ok"
    if start.redis:
        fail, ok = "{answer: fail, facts: {state: down}}", "[{answer: ok, facts: {state: serving}}]"
    return head + _TEST.format(start=start, fail=fail, ok=ok) + (_REDIS_TEST.format(start=start) if start.redis else "")


_TEST = """\
# What has to happen when which alert fires; play it with: remediator test
apiVersion: remediator/v1
kind: PlaybookTest
playbook: {start.name}

tests:
  - name: in shadow nothing is done
    alerts: [{{labels: {{alertname: {start.alert}}}}}]
    checks: {{{start.check}: [{fail}]}}
    expect: {{matches: [{start.name}], plan: [restart], steps: {{}}}}

  - name: a restart heals it, and that is proved
    mode: auto
    alerts: [{{labels: {{alertname: {start.alert}}}}}]
    checks:
      {start.check}: [{fail}, {{answer: ok, after: service.restart}}]
    expect: {{steps: {{restart: ok}}, outcome: succeeded}}

  - name: a restart that does not help goes to people
    mode: auto
    alerts: [{{labels: {{alertname: {start.alert}}}}}]
    checks: {{{start.check}: [{fail}]}}
    expect: {{steps: {{restart: ok}}, outcome: escalated}}

  - name: what serves is left alone
    mode: auto
    alerts: [{{labels: {{alertname: {start.alert}}}}}]
    checks: {{{start.check}: {ok}}}
    expect: {{steps: {{}}, skipped: [restart]}}
"""

_REDIS_TEST = """
  - name: a Redis that loads its data set is left to load
    mode: auto
    alerts: [{{labels: {{alertname: {start.alert}}}}}]
    checks: {{redis.ping: [{{answer: fail, facts: {{state: loading}}}}]}}
    expect: {{steps: {{}}, skipped: [restart]}}

  - name: a Redis that cannot save is not restarted
    mode: auto
    alerts: [{{labels: {{alertname: {start.alert}}}}}]
    checks: {{redis.ping: [{{answer: fail, facts: {{state: 'cannot persist, so refuses writes'}}}}]}}
    expect: {{steps: {{}}, skipped: [restart]}}

  - name: a Redis that hangs on a full disk is not restarted
    mode: auto
    alerts: [{{labels: {{alertname: {start.alert}}}}}]
    checks: {{redis.ping: [{{answer: fail, facts: {{state: silent}}}}], disk.usage: fail}}
    expect: {{steps: {{}}, skipped: [restart]}}

  - name: a Redis that hangs after a failed save is not restarted
    mode: auto
    alerts: [{{labels: {{alertname: {start.alert}}}}}]
    checks: {{redis.ping: [{{answer: fail, facts: {{state: silent}}}}]}}
    actions: {{service.logs: [{{outcome: ok, output: {{signs: {{cannot_save: Background saving error}}}}}}]}}
    expect: {{steps: {{}}, skipped: [restart]}}
"""

_CONDITION = """\
    when: "!evidence.probe.ok"      # a service that serves is not restarted"""

_REDIS_LOOKS = """
  - {id: disk, check: disk.usage}"""

_REDIS_CONDITION = """\
    # Only if nothing listens (down) or it hangs (silent). In every other state (loading, wrong password, too many
    # clients, ...) a restart does not help. A Redis that cannot save loses data when it is restarted.
    when: >-
      evidence.probe.facts.state in ["down", "silent"] && evidence.disk.status != "fail" &&
      !(has(evidence.logs.facts.signs) && ("cannot_save" in evidence.logs.facts.signs ||
      "corrupt_data" in evidence.logs.facts.signs ||
      ("disk_full" in evidence.logs.facts.signs && evidence.disk.status != "ok")))"""

_BODY = """\
apiVersion: remediator/v1
kind: Playbook
name: {start.name}                # the same as the file's name
summary: Restart {start.target} when {start.alert} fires, and prove that it serves again.

# Which alerts are meant. More conditions, all of which must hold:  matchers: ['severity="critical"']
match:
  alertname: {start.alert}

# observe: record only; shadow: say what it would do; approve: ask a person first; auto: act within the guards.
# Begin with shadow, and go up when its record is good:  remediator playbook set-mode {start.name}
mode: shadow

# A service of the inventory; nothing else is ever touched.
target: {start.target}

# Looked at before anything is done; conditions and people see it as evidence.<id>. A failure here never blocks.
diagnose:
  - {{id: status, action: service.status}}
  - {{id: probe, {inner}}}
  - {{id: logs, action: service.logs, with: {{lines: 100}}}}{looks}

# Tried in order until verify holds. Which actions there are: docs/actions.md. Conditions are CEL.
steps:
  - id: restart
    name: Restart {start.target}
    action: service.restart
{condition}
    timeout: 60s
    on_failure: escalate            # or next, abort, {{goto: another-step}}

# What proves success: all of it at once, within the time. That the alert is gone proves nothing.
verify:
  settle: 5s
  within: 2m
  checks:
    - {start.probe}
    # what your users see is better still:
    # - {{check: promql, with: {{query: 'up{{job="{start.target}"}} == 1'}}}}

# All guards are on without a word here; this only tightens two of them. What there is: docs/guards.md
guards:
  cooldown: 10m
  rate_limit: [3/1h]

# Who is told when it did not help; channels are in the settings file. The evidence goes along.
escalate:
  to: [{start.channel}]
  message: {title} is still not well after a restart; its status and logs are attached.
"""
