"""The files of a host for actions by SSH: the allow-list and the line of the authorized keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from remediator.clients.host.allowed_commands import AllowedCommand
from remediator.clients.ssh.settings import Host
from remediator.clients.ssh.wrapper import UNIT_VERBS
from remediator.core.local_files import read_text
from remediator.errors import ConfigurationError
from remediator.extensions import bindings
from remediator.playbooks.inventory import Inventory, Service
from remediator.playbooks.platform_bindings import SystemdBinding

WRAPPER_PATH = "/usr/local/bin/remediator-remote"
ALLOW_LIST_PATH = "/etc/remediator-remote.json"
STATE_PATH = "/var/lib/remediator-remote"


def hosts_of(inventory: Inventory) -> dict[str, Host]:
    """Return each host of the inventory once, by its address and port."""
    return {str(service.host): service.host for service in inventory.services.values() if service.host is not None}


def host_of(inventory: Inventory, name: str) -> Host:
    """Return the host of a service.

    Raises:
        ConfigurationError: there is no such service, or it runs on this host.
    """
    found = inventory.service(name).host
    if found is None:
        raise ConfigurationError(f"the service {name!r} has no host in the inventory; it runs on this host")
    return found


def allow_list(inventory: Inventory, commands: Mapping[str, AllowedCommand], host: Host) -> dict[str, Any]:
    """Return the allow-list of a host: what its services and the commands with ``on_host`` need, and nothing else."""
    services = list(services_on(inventory, host))
    units = {each.platform.unit for each in services if isinstance(each.platform, SystemdBinding)}
    with_volume = (each for each in services if each.disk is not None or each.backups is not None)
    allowed: dict[str, Any] = {
        "state": STATE_PATH,
        "units": {unit: list(UNIT_VERBS) for unit in sorted(units)},
        "commands": {
            name: {"argv": list(each.argv), "parameters": dict(each.parameters), "read_only": each.read_only}
            for name, each in sorted(commands.items())
            if each.on_host
        },
        "folders": [asdict(bindings.volume(each).folders) for each in with_volume],
    }
    if host.user != "root":
        allowed["sudo"] = ["/usr/bin/sudo", "-n"]
    return allowed


def services_on(inventory: Inventory, host: Host) -> Iterator[Service]:
    """Yield the services on a host."""
    yield from (each for each in inventory.services.values() if each.host is not None and str(each.host) == str(host))


def authorized_key(host: Host) -> str:
    """Return the line for the authorized keys of the user on the host.

    Raises:
        ConfigurationError: the public key cannot be read.
    """
    if host.identity_file is None:
        raise ConfigurationError(f"the host {host} has no identity_file in the inventory; add it")
    public = host.identity_file.with_name(f"{host.identity_file.name}.pub")
    try:
        key = read_text(public).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the public key '{public}': {error}") from None
    return f'restrict,command="/usr/bin/python3 -IS {WRAPPER_PATH} {ALLOW_LIST_PATH}" {key}'
