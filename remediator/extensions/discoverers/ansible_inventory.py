"""``ansible_inventory``: hosts of an Ansible inventory, from the output of ``ansible-inventory --list``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from remediator.core import untrusted_json
from remediator.core.graph import reach
from remediator.core.local_files import open_regular
from remediator.errors import InputError
from remediator.extensions.discoverers.base import ADDRESS, HOST, PORT, Discoverer, Labels
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.discovery import AnsibleInventory
from remediator.playbooks.references import as_text


class _Group(msgspec.Struct):
    hosts: list[str] = []
    children: list[str] = []


class _Meta(msgspec.Struct):
    hostvars: dict[str, dict[str, Any]] = {}


class AnsibleInventoryDiscoverer(Discoverer):
    """Reads the JSON; it runs no program."""

    kind = "ansible_inventory"

    async def find(self, discovery: AnsibleInventory) -> Sequence[Labels]:
        return await asyncio.to_thread(_hosts, discovery)


def _hosts(discovery: AnsibleInventory) -> list[Labels]:
    with open_regular(discovery.file) as opened:
        content = opened.read()
    try:
        parts = untrusted_json.decode(content, dict[str, msgspec.Raw])
        meta = untrusted_json.decode(parts.pop("_meta", msgspec.Raw(b"{}")), _Meta)
        groups = {name: untrusted_json.decode(raw, _Group) for name, raw in parts.items()}
    except msgspec.DecodeError as error:
        raise InputError(f"{discovery.file}: expected the output of ansible-inventory --list: {error}") from None
    below = {name: group.children for name, group in groups.items()}
    names: dict[str, None] = {}
    for group in discovery.groups:
        if group not in groups:
            raise InputError(f"{discovery.file}: unknown group {group!r}; {did_you_mean(group, groups)}")
        for each in (group, *reach(below, group)):
            names |= dict.fromkeys(groups[each].hosts if each in groups else ())
    return [_labels(name, meta.hostvars.get(name, {})) for name in names]


def _labels(name: str, variables: Mapping[str, Any]) -> Labels:
    """Return the name of a host, where Ansible connects to, and its variables that are a single value."""
    own = {f"var.{key}": as_text(value) for key, value in variables.items() if isinstance(value, str | int | float)}
    host = str(variables.get("ansible_host", name))
    port = variables.get("ansible_port")
    address = {HOST: host, ADDRESS: host} if port is None else {HOST: host, PORT: str(port), ADDRESS: f"{host}:{port}"}
    return {**own, **address, "name": name}
