"""Other hosts: their keys can be used, they answer, and their allow-lists cover the inventory."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterator
from typing import Any

from remediator.authoring import host_setup
from remediator.authoring.doctor.base import DoctorCheck, Examination, Result, failed, ok, skipped, warning
from remediator.clients.ssh.bundle import wrapper_version
from remediator.clients.ssh.client import RemoteHost
from remediator.clients.ssh.settings import Host
from remediator.errors import RemediatorError
from remediator.playbooks.inventory import Inventory
from remediator.runtime.live_inventory import with_targets_of


class Hosts(DoctorCheck):
    """Reads the files of each host, requests its allow-list, and compares both with the inventory."""

    name = "hosts"

    async def run(self, about: Examination) -> AsyncIterator[Result]:
        inventory = await asyncio.to_thread(with_targets_of, about.config, about.loaded.inventory)
        hosts = host_setup.hosts_of(inventory)
        if not hosts:
            yield skipped("hosts", "the inventory names no other host")
        for results in await asyncio.gather(*(_examine(about, inventory, host) for host in hosts.values())):
            for result in results:
                yield result


async def _examine(about: Examination, inventory: Inventory, host: Host) -> list[Result]:
    if problems := list(_unusable(host)):
        return problems
    service = next(host_setup.services_on(inventory, host)).name
    try:
        allowed = await RemoteHost(host).read("describe")
    except RemediatorError as error:
        return [failed(str(host), str(error), "see the how-to 'Act on other hosts by SSH'")]
    found = []
    if allowed.get("version") != wrapper_version():
        text = "remediator-remote on the host has another version, or was changed"
        found.append(warning(str(host), text, "install the output of: remediator host wrapper"))
    needed = host_setup.allow_list(inventory, about.config.commands, host)
    if missing := list(_missing(needed, allowed)):
        fix = f"install the output of: remediator host allow-list {service}"
        found.append(failed(str(host), f"its allow-list does not allow {'; '.join(missing)}", fix))
    return found or [
        ok(str(host), f"answers with Python {allowed.get('python')}, and allows all calls that the inventory needs")
    ]


def _unusable(host: Host) -> Iterator[Result]:
    """Yield the problems of the files that ssh needs."""
    for path in (host.identity_file, host.certificate_file, host.known_hosts):
        if path is None:
            continue
        if not path.is_file() or not os.access(path, os.R_OK):
            yield failed(str(path), f"is needed for {host}, and cannot be read", "create it, or correct the inventory")
        elif path == host.identity_file and stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield failed(
                str(path), "other users can read this private key, so ssh refuses it", f"run: chmod 600 {path}"
            )


def _missing(needed: dict[str, Any], allowed: dict[str, Any]) -> Iterator[str]:
    for unit, verbs in needed["units"].items():
        if lacking := sorted(set(verbs) - set(allowed["units"].get(unit, ()))):
            yield f"{', '.join(lacking)} of {unit}"
    for name, command in needed["commands"].items():
        there = allowed["commands"].get(name)
        if there is None or any(there.get(key, default) != command[key] for key, default in _DEFAULTS.items()):
            yield f"the command {name} as the settings have it"
    for folders in needed["folders"]:
        if folders not in allowed["folders"]:
            yield f"the folders of {folders['data'] or folders['backups']}"


_DEFAULTS: dict[str, Any] = {"argv": None, "parameters": {}, "read_only": False}
"""The keys of a command that both sides must have, with their defaults on the host."""
