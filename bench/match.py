"""Measure what matching one alert costs with 10 and with 10,000 playbooks: ``python -m bench.match --json``.

Budget: at most 50 µs per alert with 10,000 playbooks, and at most 1.5 times the cost with 10.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Mapping, Sequence

from remediator.pipeline.match import Index
from remediator.playbooks.model import Playbook

FEW, MANY = 10, 10_000
BUDGET_MICROSECONDS, BUDGET_RATIO = 50.0, 1.5
SHAPES: Mapping[str, str] = {
    "alertname": "each playbook has its own alertname, and asks for severity and environment too",
    "service": "all playbooks share one alertname, and differ in the service that they ask for",
    "pattern": "each playbook asks for a regular expression with its own beginning",
}
Labels = Mapping[str, str]


def playbook(shape: str, number: int) -> Playbook:
    """Return one of many playbooks of a shape."""
    matchers = ['severity=~"critical|warning"', 'environment!~"test.*"']
    match = {
        "alertname": {"alertname": f"Fault{number}", "matchers": matchers},
        "service": {"alertname": "InstanceDown", "matchers": [f'service="service-{number}"', *matchers]},
        "pattern": {"matchers": [f'alertname=~"Fault{number}-.+"', *matchers]},
    }[shape]
    head = {"apiVersion": "remediator/v1", "kind": "Playbook", "name": f"fault-{number}", "target": "redis"}
    return Playbook.model_validate({**head, "match": match})


def alert(shape: str, number: int) -> Labels:
    """Return the labels of an alert that exactly one playbook of the shape matches."""
    name = {"alertname": f"Fault{number}", "service": "InstanceDown", "pattern": f"Fault{number}-disk"}[shape]
    return {
        "alertname": name,
        "service": f"service-{number}",
        "severity": "critical",
        "environment": "production",
        "instance": "10.0.0.17:9100",
        "job": "node",
    }


def cost(index: Index, alerts: Sequence[Labels]) -> float:
    """Return the microseconds for one alert."""
    start = time.perf_counter()
    for labels in alerts:
        if len(index.match(labels)) != 1:
            sys.exit(f"{labels} should match exactly one playbook")
    return (time.perf_counter() - start) / len(alerts) * 1e6


def measure(shape: str, rounds: int, many: int = MANY) -> dict[str, float | bool]:
    """Return costs and ratio for one shape, from the best round of each size.

    Both sizes match the same alerts in turns, so that only the number of playbooks differs and not other load of the
    machine.
    """
    playbooks = [playbook(shape, number) for number in range(many)]
    alerts = [alert(shape, number) for _ in range(20) for number in range(FEW)]
    few, all_ = Index(playbooks[:FEW]), Index(playbooks)
    gc.disable()
    costs = [(cost(few, alerts), cost(all_, alerts)) for _ in range(rounds)]
    gc.enable()
    small, large = min(pair[0] for pair in costs), min(pair[1] for pair in costs)
    ratio = large / small
    within = large <= BUDGET_MICROSECONDS and ratio <= BUDGET_RATIO
    return {"us_few": round(small, 2), "us_many": round(large, 2), "ratio": round(ratio, 3), "within": within}


def main() -> int:
    """Measure and print. The exit status states whether the budget is kept."""
    parser = argparse.ArgumentParser(prog="python -m bench.match", description=__doc__)
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--rounds", type=int, default=100, help="rounds, of which the best counts")
    asked = parser.parse_args()
    found = {shape: measure(shape, asked.rounds) for shape in SHAPES}
    within = all(item["within"] for item in found.values())
    budget = {"us": BUDGET_MICROSECONDS, "ratio": BUDGET_RATIO}
    if asked.json:
        print(json.dumps({"bench": "match", "budget": budget, "shapes": found, "within": within}))
    else:
        for shape, item in found.items():
            print(f"{shape:10} {item['us_few']:8} µs with {FEW}, {item['us_many']:8} µs with {MANY}: {item['ratio']} x")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
