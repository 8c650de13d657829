"""A recipe of the cookbook for hosts behind real sshd, which discovery finds in the file of targets of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from demo.fleet.broken_link import Link
from demo.fleet.simulated_hosts import SimulatedHosts
from tests.support.servers import require, until
from tests.support.servers.recipe import Recipe

FAR = "web-4"
"""The host behind a link that can be cut."""
STRANGER = "db-1"
"""A host that SSH can reach, but that is not in the allow-list of the discovery."""
_HERE = {"web-1": "127.77.0.1", "web-2": "127.77.0.2", "web-3": "127.77.0.3", STRANGER: "127.77.0.4", FAR: "127.78.0.1"}
_THROUGH_LINK = "127.78.0.2"
_NETWORK = "127.76.0.0/14"


class SshFleet(Recipe):
    """Five hosts, each with an sshd of its own, and the servers of a recipe.

    Args:
        folder: the folder for all files.
        name: name of the recipe.
        units: the systemd units of each host.
        replaced: replacements in the files of the recipe, in addition to addresses.
        prefix: the command that starts sshd.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        units: Sequence[str],
        replaced: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        files = {"/etc/prometheus/targets/web-*.json": str(folder / "targets.json"), "10.20.0.0/16": _NETWORK}
        super().__init__(folder, name, {**_HERE, FAR: _THROUGH_LINK}, {**files, **(replaced or {})})
        self.simulated = {
            host: SimulatedHosts(folder / host, [host], units, addresses=[address], prefix=prefix)
            for host, address in _HERE.items()
        }
        self._first, *others = self.simulated.values()
        for each in others:  # the hosts differ only in their addresses, so one discovery entry describes all
            each.port, each.key, each.host_key = self._first.port, self._first.key, self._first.host_key
        self.link = Link((_THROUGH_LINK, self._first.port), (_HERE[FAR], self._first.port))

    def place(self, host: str) -> Path:
        """Return the folder of a host."""
        return self.simulated[host].place(host)

    def fail(self, host: str, unit: str, **state: str) -> None:
        """Make a unit of a host fail."""
        self.simulated[host].fail(host, unit, **state)

    def restarts(self) -> dict[str, list[str]]:
        """Return the begun and ended restarts of each host that has any, from its own record."""
        return {host: calls for host, each in self.simulated.items() if (calls := each.calls(host))}

    def changes(self) -> dict[str, int]:
        """Return the number of begun changes of each host that has any, from its markers."""
        return {host: len(found) for host, each in self.simulated.items() if (found := each.markers(host))}

    def state(self, host: str, unit: str) -> str:
        """Return the state of a unit on a host."""
        text = (self.place(host) / unit).read_text()
        return dict(line.split("=", 1) for line in text.splitlines())["ActiveState"]

    def inventory(self) -> dict[str, Any]:
        """Return the inventory of the recipe, with the keys of these hosts."""
        made = super().inventory()
        known = self.folder / "known_hosts"
        public = " ".join(self._first.host_key.with_suffix(".pub").read_text().split()[:2])
        known.write_text("".join(f"[{address}]:{self._first.port} {public}\n" for address in self.hosts.values()))
        made["defaults"]["ssh"] = {**self._first.ssh, "known_hosts": str(known), "connect_timeout": "40s"}
        return made

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run everything, and wait until the hosts are discovered and scraped."""
        require("sshd")
        with ExitStack() as stack:
            for each in self.simulated.values():
                stack.enter_context(each)
            stack.enter_context(self.link)
            stack.enter_context(super().running())
            until(lambda: f"-{FAR}" in self.remediator.text("/inventory"), "the discovery")
            yield

    def escalated(self) -> str:
        """Wait until the only run is escalated, and return everything known about it as text."""
        until(lambda: bool(self.remediator.runs()), "the alert has arrived")
        [run] = self.remediator.runs()
        path = f"/api/v1/runs/{run['id']}"
        until(lambda: self.remediator.get(path)["status"] == "escalated", f"the run is escalated: {run}")
        return self.remediator.text(path)
