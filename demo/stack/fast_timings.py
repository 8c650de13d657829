"""Alert rules and settings of the repository with shorter times. Only durations and addresses differ.

``alerting/rules.yml``, ``prometheus.yml`` and ``alertmanager.yml`` are the source. The result is for a stack on one
machine. Tests define the allowed differences.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from remediator.core.clock import format_duration, parse_duration

FOR, RANGE = 60, 5
"""Divisors of the ``for`` of alerts and of the ranges of their rates."""
LEAST_FOR, LEAST_RANGE = timedelta(seconds=2), timedelta(seconds=10)
"""Minimum durations, so that a rate still has samples with a scrape each second."""

_RANGE = re.compile(r"\[(\d\w*)\]")


def rules(source: Any, without: Collection[str] = ()) -> Any:
    """Return a rule file with shorter ``for`` and ranges, and without these alerts, otherwise unchanged."""
    return {"groups": [_group(group, without) for group in source["groups"]]}


def _group(group: Mapping[str, Any], without: Collection[str]) -> dict[str, Any]:
    return {**group, "rules": [_rule(rule) for rule in group["rules"] if rule.get("alert") not in without]}


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    made = {**rule, "expr": _RANGE.sub(lambda found: f"[{_shorter(found[1], RANGE, LEAST_RANGE)}]", rule["expr"])}
    if "for" in rule:
        made["for"] = _shorter(rule["for"], FOR, LEAST_FOR)
    return made


def _shorter(duration: str, factor: int, least: timedelta) -> str:
    whole = parse_duration(duration)
    return format_duration(min(whole, max(least, whole / factor)))


# A temporary measure lasts longer than the spike of the demo, as 15 minutes are longer than most spikes.
_PLAYBOOK_TIMES = {
    "window: 1m": "window: 10s",
    "[1m]": "[10s]",
    "offset 15m": "offset 20s",
    "after: 15m": "after: 50s",
    "stable: 1m": "stable: 8s",
}


def playbook(text: str) -> str:
    """Return a playbook with shorter query ranges and temporary measures, otherwise unchanged."""
    for long, short in _PLAYBOOK_TIMES.items():
        text = text.replace(long, short)
    return text


def prometheus(source: Any, addresses: Mapping[str, str], rule_file: str) -> Any:
    """Return prometheus.yml with a scrape each second, and ``addresses`` (source → replacement) replaced."""
    made = {**source, "rule_files": [rule_file]}
    made["global"] = {
        **source["global"],
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
        "external_labels": {**source["global"]["external_labels"], "environment": "demo"},
    }
    peers = source["alerting"]["alertmanagers"]
    made["alerting"] = {"alertmanagers": [_moved(peer, addresses) for peer in peers]}
    made["scrape_configs"] = [_moved(job, addresses) for job in source["scrape_configs"]]
    return made


def _moved(block: Mapping[str, Any], addresses: Mapping[str, str]) -> dict[str, Any]:
    static = [
        {**config, "targets": [addresses[target] for target in config["targets"]]} for config in block["static_configs"]
    ]
    return {**block, "static_configs": static}


def alertmanager(source: Any, url: str, token_file: str) -> Any:
    """Return alertmanager.yml that sends at once to the webhook at ``url``, with the token in ``token_file``."""
    watchdog, *others = source["route"]["routes"]
    route = {**source["route"], "group_wait": "1s", "group_interval": "2s", "repeat_interval": "1h"}
    route["routes"] = [{**watchdog, "group_interval": "5s", "repeat_interval": "3s"}, *others]
    return {**source, "route": route, "receivers": [_told(each, url, token_file) for each in source["receivers"]]}


def _told(receiver: Mapping[str, Any], url: str, token_file: str) -> dict[str, Any]:
    hooks = []
    for hook in receiver["webhook_configs"]:
        authorization = {**hook["http_config"]["authorization"], "credentials_file": token_file}
        hooks.append({**hook, "url": url, "http_config": {**hook["http_config"], "authorization": authorization}})
    return {**receiver, "webhook_configs": hooks}
