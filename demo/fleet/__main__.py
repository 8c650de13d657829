"""``make demo-fleet``: 200 simulated hosts behind a real sshd, with a failed unit on 40 of them.

During the remedy, one host is cut off. Then many false alarms arrive. The result is a table, which is checked on the
hosts. Environment: KEEP=1 keeps the files, HOSTS=200 and FAILED=40 change the size.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo.fleet import servers
from demo.fleet.broken_link import Link
from demo.fleet.exporter import Exporter
from demo.fleet.simulated_hosts import SimulatedHosts
from demo.stack import programs
from demo.stack.processes import wait
from demo.stack.settings import ROOT, StackError

UNIT = "web.service"
PROGRAMS = {name: programs.PACKAGES[name] for name in ("prometheus", "prometheus-alertmanager")} | {
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
WAVES = (1, 2, 4)
STORM = 60
"""New alerts per minute from which the guard `storm` blocks all actions."""
PATIENCE = 240.0
"""Timeout of each part in seconds."""
OVER = frozenset({"succeeded", "failed", "escalated", "cancelled"})

PLAYBOOK: dict[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Playbook",
    "name": "systemd-service-failed",
    "match": {"alertname": "SystemdServiceFailed"},
    "mode": "auto",
    "parameters": {"service": {"label": "service", "type": "service"}},
    "target": "${service}",
    "diagnose": [{"id": "status", "action": "service.status"}],
    "conclude": [
        {"id": "failed", "when": 'evidence.status.facts.state == "exited"', "cause": "The process of the unit ended."}
    ],
    "steps": [{"id": "restart", "action": "service.restart", "for": "failed"}],
    "verify": {"settle": "500ms", "within": "30s", "checks": [{"check": "service.running"}]},
    "guards": {
        "ramp": {"max_parallel": list(WAVES), "max_failures": 3},
        "rate_limit": {"playbook": ["100/1h"], "global": ["100/1h"]},
        "concurrency": {"playbook": 10, "global": 10},
        "storm": {"alerts": STORM},
    },
    "escalate": {"to": ["log"], "message": "the unit is still failed"},
}


@dataclass
class Fleet:
    """The simulated hosts. One is reached through a link that can be cut."""

    folder: Path
    names: list[str]
    failed: list[str]
    hosts: SimulatedHosts
    remote: SimulatedHosts
    link: Link

    @property
    def cut_off(self) -> str:
        """Return the host behind the link."""
        return self.remote.names[0]

    def of(self, name: str) -> SimulatedHosts:
        """Return the simulation that has this host."""
        return self.remote if name == self.cut_off else self.hosts

    def restarts(self, name: str) -> Counter[str]:
        """Return how often a restart began and ended on a host, from the host's record."""
        return Counter(call.split()[0] for call in self.of(name).calls(name))

    def state(self, name: str) -> str:
        """Return the state of the unit on a host."""
        text = (self.of(name).place(name) / UNIT).read_text()
        return dict(line.split("=", 1) for line in text.splitlines())["ActiveState"]

    def still_failed(self) -> set[str]:
        """Return the hosts whose unit has failed."""
        return {name for name in self.names if self.state(name) == "failed"}


@contextmanager
def fleet(folder: Path, count: int, failing: int) -> Iterator[tuple[Fleet, list[dict[str, Any]], dict[str, Any]]]:
    """Start the hosts. Yield them with their targets for ``file_sd`` and the section ``ssh`` of the inventory."""
    names = [f"web-{number:03d}" for number in range(1, count + 1)]
    cut_off, others = names[failing // 2], [name for name in names if name != names[failing // 2]]
    hosts = SimulatedHosts(folder / "hosts", others, [UNIT])
    remote = SimulatedHosts(folder / "remote", [cut_off], [UNIT], addresses=["127.78.0.1"])
    hosts.start()
    remote.key, remote.host_key = hosts.key, hosts.host_key
    try:
        with remote, Link(("127.78.0.2", hosts.port), ("127.78.0.1", remote.port)) as link:
            public = " ".join(hosts.host_key.with_suffix(".pub").read_text().split()[:2])
            with hosts.known_hosts.open("a") as known:
                known.write(f"[127.78.0.2]:{hosts.port} {public}\n")
            made = Fleet(folder, names, names[:failing], hosts, remote, link)
            addresses = {name: hosts.host(name)["address"] for name in others} | {cut_off: "127.78.0.2"}
            targets = [{"targets": [f"{addresses[name]}:9100"], "labels": {"host": name}} for name in names]
            yield made, targets, hosts.ssh
    finally:
        hosts.stop()


def inventory(targets: Path, ssh: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Return an inventory that discovers its services: 20 lines for any number of hosts."""
    return {
        "apiVersion": "remediator/v1",
        "kind": "Inventory",
        "defaults": {"ssh": {**ssh, "connect_timeout": "40s"}},  # all hosts are on this machine, which may be busy
        "services": {},
        "discover": {
            "web": {
                "kind": "file_sd",
                "files": [str(targets)],
                "name": "${host}",
                "allow": {
                    "names": ["web-*"],
                    "labels": {"host": ["web-*"], "__host__": ["127.77.0.0/16", "127.78.0.0/16"]},
                    "targets": count + 100,
                },
                "template": {
                    "platform": {"kind": "systemd", "unit": UNIT},
                    "host": {"address": "${__host__}"},
                    "alerts_as": {"service": "${host}"},
                },
            }
        },
    }


def settings(port: int, alertmanager: str) -> dict[str, Any]:
    """Return the settings of the remediator."""
    return {
        "apiVersion": "remediator/v1",
        "kind": "Config",
        "listen": f"127.0.0.1:{port}",
        "state": "state",
        "playbooks": ["playbooks"],
        "inventory": "inventory.yaml",
        "webhook": {"token_file": "webhook.token"},
        "alertmanagers": [{"url": alertmanager}],
        # 200 hosts share the processors of one machine, so each call may take longer than elsewhere
        "timing": {
            "resolve_grace": "3s",
            "guard_recheck_interval": "2s",
            "probe_timeout": "40s",
            "observe_within": "5m",
        },
        "guards": {"off": [{"guard": "watchdog", "reason": "no Watchdog alert in this demonstration"}]},
    }


@dataclass
class Story:
    """The demonstration, printed line by line."""

    console: Console
    fleet: Fleet
    exporter: Exporter
    remediator: servers.Server
    alertmanager: servers.Server
    begun: float = field(default_factory=time.monotonic)

    def tell(self) -> list[str]:
        """Run all parts. Return the broken promises."""
        self._wait(lambda: self._discovered() == len(self.fleet.names), "the discovery of all hosts")
        self.say(f"{len(self.fleet.names)} hosts are discovered from one file and one template")
        self._fail_units()
        self._cut_off()
        self._heal()
        self._false_alarms()
        return self._problems()

    def say(self, text: str) -> None:
        """Print a line with the seconds since the start."""
        self.console.print(f"{time.monotonic() - self.begun:6.1f} s  {text}", highlight=False)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        wait(condition, what, PATIENCE)

    def _discovered(self) -> int:
        done = _remediator(
            "inventory", "list", "--config", f"{self.remediator.folder}/remediator.yaml", "--format", "json"
        )
        return len(json.loads(done.stdout)["services"]) if done.returncode == 0 else 0

    def _runs(self) -> list[dict[str, Any]]:
        return list(self.remediator.json("/api/v1/runs?limit=500") or [])

    @property
    def _others(self) -> list[str]:
        return [name for name in self.fleet.failed if name != self.fleet.cut_off]

    def _fail_units(self) -> None:
        # The first wave is one host, and the others wait until it is healed. The host that is cut off must not be it.
        first, *rest = self.fleet.failed
        self.fleet.of(first).fail(first, UNIT)
        self.say(f"[bold]{UNIT} fails on {first}[/bold]")
        self._wait(lambda: self.fleet.restarts(first)["begun"] == 1, f"the restart on {first}")
        (self.fleet.remote.place(self.fleet.cut_off) / "hold").touch()
        for name in rest:
            self.fleet.of(name).fail(name, UNIT)
        self.say(f"its restart has begun; [bold]{UNIT} fails on {len(rest)} others at the same time[/bold]")

    def _cut_off(self) -> None:
        name = self.fleet.cut_off
        self._wait(lambda: self.fleet.restarts(name)["begun"] == 1, f"the restart on {name}")
        self.fleet.link.cut()
        self.say(f"[bold]{name} is cut off in the middle of its restart[/bold]; the others go on")
        (self.fleet.of(name).place(name) / "hold").unlink()
        self._wait(lambda: all(self.fleet.state(each) == "active" for each in self._others), "the other hosts")
        self.say(
            f"the other {len(self._others)} hosts are healed; the result on {name} is unknown, and nothing is repeated"
        )
        self._wait(lambda: self._asked_in_vain(name), f"the question to {name} what it has done")
        self.fleet.link.repair()
        self.say(f"{name} is reachable again")

    def _asked_in_vain(self, name: str) -> bool:
        runs = [run["id"] for run in self._runs() if run["target"] == name]
        return any("cannot be reached" in (self.remediator.get(f"/api/v1/runs/{run}") or "") for run in runs)

    def _heal(self) -> None:
        def over() -> bool:
            runs = self._runs()
            return len(runs) >= len(self.fleet.failed) and all(run["status"] in OVER for run in runs)

        self._wait(over, "the end of all runs")
        self._wait(lambda: self.alertmanager.json("/api/v2/alerts") == [], "the end of all alerts")
        self.say("[green]all runs are over, and all alerts have ended[/green]")

    def _false_alarms(self) -> None:
        healthy = [name for name in self.fleet.names if name not in self.fleet.failed]
        self.exporter.false_alarms = set(healthy[: STORM + 5])
        self.say(f"[bold]the exporter reports {len(self.exporter.false_alarms)} units that run as failed[/bold]")
        before = len(self._runs())
        self._wait(lambda: len(self._runs()) >= before + len(self.exporter.false_alarms), "a run for each alert")
        self._wait(lambda: any(run["status"] == "blocked" for run in self._runs()), "the storm guard")
        self.say("the storm guard holds everything back; nothing was done on any of these hosts")
        self.exporter.false_alarms = set()
        self._wait(lambda: all(run["status"] in OVER for run in self._runs()), "the end of the false alarms")
        self.say("the false alarms have ended, and their runs too")

    def _problems(self) -> list[str]:
        problems = []
        for name in self.fleet.names:
            wanted = Counter({"begun": 1, "done": 1}) if name in self.fleet.failed else Counter()
            if (found := self.fleet.restarts(name)) != wanted:
                problems.append(f"{name}: restarts {dict(found)} instead of {dict(wanted)}")
            if self.fleet.state(name) != "active":
                problems.append(f"{name}: {UNIT} is {self.fleet.state(name)}")
        for name, runs in self._runs_of_each().items():
            wanted_status = "succeeded" if name in self.fleet.failed else "cancelled"
            problems += [
                f"{name}: run {run['id']} is {run['status']} ({run['reason']})"
                for run in runs
                if run["status"] not in (wanted_status, "escalated")
            ]
        if (most := max(self.waves(), default=0)) > max(WAVES):
            problems.append(f"{most} hosts were worked on at once, more than {max(WAVES)}")
        return problems

    def waves(self) -> list[int]:
        """Return the number of hosts in progress after each increase, counted from first action to proof."""
        with contextlib.closing(sqlite3.connect(self.remediator.folder / "state/remediator.db")) as database:
            rows = database.execute("SELECT first_action_at, finished_at FROM runs WHERE first_action_at IS NOT NULL")
            changes = sorted(
                (at, by) for began, ended in rows for at, by in ((began, 1), (ended, -1)) if at is not None
            )
        busy, seen = 0, []
        for _, by in changes:
            busy += by
            if by > 0:
                seen.append(busy)
        return seen

    def _runs_of_each(self) -> dict[str, list[dict[str, Any]]]:
        runs: dict[str, list[dict[str, Any]]] = {}
        for run in self._runs():
            runs.setdefault(run["target"], []).append(run)
        return runs

    def table(self) -> Table:
        """Return the results by group of hosts."""
        runs = self._runs_of_each()
        table = Table(title="Hosts and results", title_justify="left")
        for column in ("hosts", "what happened there", "restarts on each host", "unit now", "runs"):
            table.add_column(column, overflow="fold")
        alarms = [name for name in runs if name not in self.fleet.failed]
        quiet = [name for name in self.fleet.names if name not in runs]
        for names, what in (
            (self._others, f"{UNIT} failed"),
            ([self.fleet.cut_off], f"{UNIT} failed; cut off in the middle of the restart"),
            (alarms, f"false alarm in a flood of {len(alarms)}"),
            (quiet, "nothing"),
        ):
            restarts = Counter(self.fleet.restarts(name)["begun"] for name in names)
            states = Counter(self.fleet.state(name) for name in names)
            ended = Counter(f"{run['status']} ({run['reason']})" for name in names for run in runs.get(name, []))
            table.add_row(str(len(names)), what, _counts(restarts), _counts(states), _counts(ended) or "none")
        return table


def _counts(found: Counter[Any]) -> str:
    return ", ".join(f"{value}" if len(found) == 1 else f"{count} x {value}" for value, count in found.most_common())


def main(environment: Mapping[str, str]) -> int:
    """Return the exit status: 0 all fixed or explained, 1 a promise is broken or it cannot run."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    count, failing = int(environment.get("HOSTS") or 200), int(environment.get("FAILED") or 40)
    folder = Path(tempfile.mkdtemp(prefix="fleet-"))
    try:
        if failing < 2:
            raise StackError("FAILED must be at least 2: one host is cut off, and another one is healed before.")
        programs.ensure(PROGRAMS)
        problems = _demonstrate(console, folder, count, failing)
    except StackError as error:
        problems = [str(error)]
    except KeyboardInterrupt:
        problems = ["interrupted"]
    for problem in problems:
        console.print(escape(problem), style="red", highlight=False, soft_wrap=True)
    if environment.get("KEEP", "") in ("", "0") and not problems:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        console.print(f"files: {folder}", highlight=False, soft_wrap=True)
    return 1 if problems else 0


def _demonstrate(console: Console, folder: Path, count: int, failing: int) -> list[str]:
    ports = dict(zip(("prometheus", "alertmanager", "remediator"), _free_ports(3), strict=True))
    places = {name: folder / name for name in ports}
    for place in places.values():
        place.mkdir()
    token = places["remediator"] / "webhook.token"
    token.write_text(os.urandom(18).hex())
    token.chmod(0o600)
    console.print(f"[bold]starting[/bold] {count} simulated hosts behind sshd, Prometheus, Alertmanager, remediator …")
    with ExitStack() as stack:
        made, targets, ssh = stack.enter_context(fleet(folder, count, failing))
        addresses = {each["labels"]["host"]: each["targets"][0] for each in targets}
        exporter = Exporter(UNIT, addresses, made.still_failed)
        stack.enter_context(exporter.serving())
        alertmanager_url = f"http://127.0.0.1:{ports['alertmanager']}"
        (folder / "targets.json").write_text(json.dumps(targets))
        service = servers.remediator(
            places["remediator"],
            ports["remediator"],
            {
                "remediator.yaml": settings(ports["remediator"], alertmanager_url),
                "inventory.yaml": inventory(folder / "targets.json", ssh, count),
                "playbooks/systemd-service-failed.yaml": PLAYBOOK,
            },
        )
        manager = servers.alertmanager(
            places["alertmanager"], ports["alertmanager"], remediator=service.url, token_file=token
        )
        stack.enter_context(service)
        stack.enter_context(manager)
        watching = servers.prometheus(
            places["prometheus"], ports["prometheus"], exporter=exporter.url, alertmanager=manager.url
        )
        stack.enter_context(watching)
        story = Story(console, made, exporter, service, manager)
        try:
            problems = story.tell()
        finally:
            console.print(story.table())
        waves = " ".join(map(str, story.waves()))
        console.print(f"hosts in progress at each start (ramp {'-'.join(map(str, WAVES))}): {waves}", highlight=False)
        problems += _audit_problems(places["remediator"])
        return problems


def _audit_problems(folder: Path) -> list[str]:
    done = _remediator("audit", "verify", "--db", str(folder / "state/remediator.db"))
    return [] if done.returncode in (0, 4) else [f"the audit log does not verify: {done.stderr.strip()}"]


def _remediator(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "remediator", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


if __name__ == "__main__":
    sys.exit(main(os.environ))
