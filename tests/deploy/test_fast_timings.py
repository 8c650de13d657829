"""Rules and settings of the local stack equal those of the repository, except for listed differences."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.stack import fast_timings
from demo.stack.files import dump, read
from remediator.core.clock import parse_duration
from tests.support.servers import require

ADDRESSES = {
    f"{name}:{port}": f"127.0.0.1:{port + 10_000}"
    for name, port in (
        ("app", 8000),
        ("redis_exporter", 9121),
        ("node_exporter", 9100),
        ("prometheus", 9090),
        ("alertmanager", 9093),
        ("remediator", 8095),
    )
}


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Return the paths where two documents differ. Items of lists are ``*``."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one | other:
            yield from differences(one.get(key), other.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for left, right in zip(one, other, strict=True):
            yield from differences(left, right, f"{path}.*")
    elif one != other:
        yield path


def rules_of(document: Any) -> list[dict[str, Any]]:
    return [rule for group in document["groups"] for rule in group["rules"]]


def timeless(rule: dict[str, Any]) -> dict[str, Any]:
    expr = re.sub(r"\[\w+\]", "[]", rule["expr"])
    return {**rule, "expr": expr, "for": "for" in rule}


def test_rules_differ_in_durations_only() -> None:
    """Names, expressions, labels, annotations and order of the rules are the same."""
    source = read("alerting/rules.yml")
    made = fast_timings.rules(source)
    assert [group["name"] for group in made["groups"]] == [group["name"] for group in source["groups"]]
    assert [timeless(rule) for rule in rules_of(made)] == [timeless(rule) for rule in rules_of(source)]
    assert source == read("alerting/rules.yml"), "the source is left as it is"


def test_no_rule_waits_for_longer_than_the_original() -> None:
    """No rule is slower than the original, but one lost scrape never causes an alert."""
    pairs = zip(
        rules_of(read("alerting/rules.yml")), rules_of(fast_timings.rules(read("alerting/rules.yml"))), strict=True
    )
    for source, made in pairs:
        if "for" in source:
            assert fast_timings.LEAST_FOR <= parse_duration(made["for"]) <= parse_duration("10s")
        for was, now in zip(*(re.findall(r"\[(\w+)\]", rule["expr"]) for rule in (source, made)), strict=True):
            assert fast_timings.LEAST_RANGE <= parse_duration(now) < parse_duration(was)


@pytest.mark.parametrize(
    ("source", "made"),
    [("rate(a[1m])", "rate(a[12s])"), ("rate(a[10m])", "rate(a[2m])"), ("a[20s]", "a[10s]"), ("a[5s]", "a[5s]")],
)
def test_ranges_shrink_and_still_contain_some_scrapes(source: str, made: str) -> None:
    """Ranges shrink by one factor, still contain some scrapes, and never grow."""
    rule = {"alert": "A", "expr": source, "for": "1s"}
    [shorter] = fast_timings.rules({"groups": [{"name": "g", "rules": [rule]}]})["groups"][0]["rules"]
    assert (shorter["expr"], shorter["for"]) == (made, "1s")


def test_rules_with_fast_timings_are_valid(tmp_path: Path) -> None:
    """promtool accepts the rules of the local stack."""
    (tmp_path / "rules.yml").write_text(dump(fast_timings.rules(read("alerting/rules.yml"))))
    argv = [require("promtool"), "check", "rules", "--lint-fatal", str(tmp_path / "rules.yml")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_settings_differ_in_addresses_and_intervals_only() -> None:
    """Jobs, labels, paths and all other settings equal prometheus.yml."""
    source = read("prometheus.yml")
    made = fast_timings.prometheus(source, ADDRESSES, "rules.yml")
    assert set(differences(source, made)) == {
        "global.scrape_interval",
        "global.scrape_timeout",
        "global.evaluation_interval",
        "global.external_labels.environment",
        "rule_files.*",
        "alerting.alertmanagers.*.static_configs.*.targets.*",
        "scrape_configs.*.static_configs.*.targets.*",
    }
    assert source == read("prometheus.yml"), "the source is left as it is"


def test_alertmanager_settings_differ_in_addresses_files_and_intervals_only() -> None:
    """Grouping, routes, inhibition and all other settings equal alertmanager.yml."""
    source = read("alertmanager.yml")
    made = fast_timings.alertmanager(source, "http://127.0.0.1:1/api/v1/alerts", "/a/token")
    assert set(differences(source, made)) == {
        "route.group_wait",
        "route.group_interval",
        "route.repeat_interval",
        "route.routes.*.group_interval",
        "route.routes.*.repeat_interval",
        "receivers.*.webhook_configs.*.url",
        "receivers.*.webhook_configs.*.http_config.authorization.credentials_file",
    }
    assert source == read("alertmanager.yml"), "the source is left as it is"
