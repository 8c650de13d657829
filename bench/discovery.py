"""Measure what 10,000 discovered services cost against 10: ``python -m bench.discovery [--json]``

The bench measures memory of the service, matching, intake, and a look-up. Goal: memory at most 1.2 times, and matching
and intake at most 1.1 times the values with 10.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from bench.measure import configure, server
from remediator.core.clock import SystemClock
from remediator.core.ids import Ids
from remediator.pipeline.context import PipelineContext, PlaybookSet
from remediator.pipeline.ingest import IngestSettings, process_inbox
from remediator.pipeline.match import Index
from remediator.playbooks import parameters
from remediator.playbooks.discovered import TargetSet, merge
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.model import Playbook
from remediator.playbooks.target_identity import Relation, compare
from remediator.storage.sqlite import SqliteStore

FEW, MANY = 10, 10_000
ALERTS = 1_000
INVENTORY: dict[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Inventory",
    "services": {"db": {"platform": {"kind": "systemd", "unit": "db.service"}}},
    "discover": {
        "web": {
            "kind": "file_sd",
            "files": ["targets.json"],
            "name": "web-${n}",
            "allow": {"names": ["web-*"], "labels": {"n": ["*"], "__host__": ["10.0.0.0/8"]}, "targets": 20_000},
            "template": {
                "platform": {"kind": "systemd", "unit": "nginx.service"},
                "http": {"url": "http://${__host__}:80"},
                "alerts_as": {"instance": "${__host__}:9100"},
                "depends_on": ["db"],
            },
        }
    },
}
PLAYBOOK: dict[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Playbook",
    "name": "web-down",
    "match": {"alertname": "WebDown"},
    "mode": "observe",
    "parameters": {"service": {"type": "service", "label": "service"}},
    "target": "${service}",
    "steps": [{"id": "restart", "action": "service.restart"}],
}


def host(number: int) -> str:
    """Return the address of a target."""
    return f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"


def targets(number: int) -> list[dict[str, str]]:
    """Return the labels of this many targets."""
    return [{"n": str(each), "__host__": host(each)} for each in range(number)]


def labels(number: int) -> dict[str, str]:
    """Return the labels of an alert about one of the first targets. Every tenth alert is about an unknown target."""
    target = number % FEW
    name = "stranger" if number % 10 == 9 else f"web-{target}"
    return {"alertname": "WebDown", "service": name, "instance": f"{host(target)}:9100", "n": str(number)}


def match_one(index: Index, inventory: Inventory, alert: Mapping[str, str]) -> None:
    """Match an alert, resolve its target, and compare both."""
    (playbook,) = index.match(alert)
    if alert["service"] not in inventory:
        return
    values = parameters.resolve(playbook, alert, inventory)
    service = inventory.service(parameters.target(playbook, values, inventory))
    if compare(alert, service).relation is not Relation.ABOUT or inventory.services_for(alert) != (service,):
        sys.exit(f"{alert} should be about {service.name}")


def matching(inventory: Inventory) -> Callable[[], float]:
    """Return a function that measures the microseconds for one alert."""
    index, alerts = Index([Playbook.model_validate(PLAYBOOK)]), [labels(number) for number in range(ALERTS)]

    def once() -> float:
        begun = time.process_time()
        for alert in alerts:
            match_one(index, inventory, alert)
        return (time.process_time() - begun) / ALERTS * 1e6

    return once


def intake(inventory: Inventory) -> float:
    """Return the processor time in microseconds for one alert, from the inbox to its run."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        return asyncio.run(_intake(Path(folder), inventory))


async def _intake(folder: Path, inventory: Inventory) -> float:
    clock, playbooks = SystemClock(), [Playbook.model_validate(PLAYBOOK)]
    store = SqliteStore(folder / "remediator.db", clock)
    try:
        context = PipelineContext(store, clock, Ids(), "bench", PlaybookSet(playbooks, inventory, "bench"), {}, {}, ())
        index, settings = Index(playbooks), IngestSettings()
        times = {"startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z"}
        for first in range(0, ALERTS, 50):
            told = [{"status": "firing", "labels": labels(first + more), **times} for more in range(50)]
            body = json.dumps({"version": "4", "receiver": "remediator", "alerts": told}).encode()
            await store.accept("alertmanager", body)
        begun = time.process_time()
        while await process_inbox(context, index, settings) >= 0:
            pass
        return (time.process_time() - begun) / ALERTS * 1e6
    finally:
        await store.close()


def memory(number: int) -> float:
    """Return the resident memory in MB of a service that has discovered this many targets."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        (folder / "playbooks").mkdir()
        (folder / "playbooks/web-down.yaml").write_text(yaml.safe_dump(PLAYBOOK))
        (folder / "inventory.yaml").write_text(yaml.safe_dump(INVENTORY))
        groups = [{"targets": [each["__host__"]], "labels": {"n": each["n"]}} for each in targets(number)]
        (folder / "targets.json").write_text(json.dumps(groups))
        argv, url = configure(folder)
        with server(argv, f"{url}/readyz", folder) as process:
            while "discovered targets in use" not in (folder / "server.log").read_text():
                time.sleep(0.1)
            time.sleep(2)
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(rounds: int, many: int = MANY) -> dict[str, float]:
    """Return the costs with few and with many targets, measured in turns, and the ratios of the best rounds."""
    written = Inventory.model_validate(INVENTORY)
    discovery = written.discover["web"]
    few, all_ = (TargetSet.of(discovery, targets(number)) for number in (FEW, many))
    begun = time.process_time()
    large = merge(written, {"web": all_}).inventory
    merging = time.process_time() - begun
    small = merge(Inventory.model_validate(INVENTORY), {"web": few}).inventory
    match_small, match_large = matching(small), matching(large)
    gc.freeze()
    matched = [(match_small(), match_large()) for _ in range(rounds)]
    taken = [(intake(small), intake(large)) for _ in range(max(2, rounds // 4))]
    best = {
        "matching_us": (min(each[0] for each in matched), min(each[1] for each in matched)),
        "intake_us": (min(each[0] for each in taken), min(each[1] for each in taken)),
    }
    found = {"merge_s": round(merging, 2)}
    for name, (with_few, with_many) in best.items():
        found |= {f"{name}_few": round(with_few, 1), f"{name}_many": round(with_many, 1)}
        found[f"{name.rpartition('_')[0]}_ratio"] = round(with_many / with_few, 3)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    result = measure(asked.rounds)
    rss = [(memory(FEW), memory(MANY)) for _ in range(3)]
    few, many = median([each[0] for each in rss]), median([each[1] for each in rss])
    result |= {"rss_mb_few": round(few, 1), "rss_mb_many": round(many, 1), "rss_ratio": round(many / few, 3)}
    print(
        json.dumps(result, indent=2) if asked.json else "\n".join(f"{key:20} {value}" for key, value in result.items())
    )


if __name__ == "__main__":
    main()
