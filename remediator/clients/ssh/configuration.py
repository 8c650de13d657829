"""The configuration with which ssh connects to a host: one file for each host, in a folder of this service alone."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from remediator.clients.host.disk_changes import opened_or_made, replace_file
from remediator.clients.ssh.settings import Host

TARGET, JUMP = "target", "jump"
"""The names of the two hosts in the file. The command line has no other name, and nothing of an alert."""
_LONGEST_SOCKET = 107 - len(".0123456789abcdef")
"""Bytes of the path of a socket; ssh adds a suffix while it creates the socket."""
_FIXED = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "GlobalKnownHostsFile": "none",
    "UpdateHostKeys": "no",
    "IdentitiesOnly": "yes",
    "IdentityAgent": "none",
    "PreferredAuthentications": "publickey",
    "ConnectionAttempts": "1",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "Tunnel": "no",
    "PermitLocalCommand": "no",
    "RequestTTY": "no",
    "EscapeChar": "none",
    "LogLevel": "ERROR",
}
_chosen: list[Path] = []


def use(folder: Path) -> None:
    """Keep configurations and control sockets in this folder. Default: a temporary folder of this process."""
    _chosen[:] = [folder]


@cache
def _temporary() -> Path:
    return Path(tempfile.mkdtemp(prefix="remediator-ssh-"))


def configuration_file(host: Host) -> Path:
    """Write the configuration for a host, unless it is there already, and return its path.

    Raises:
        Refused: the folder cannot be written, or belongs to another user.
    """
    folder = _chosen[0] if _chosen else _temporary()
    text = "\n".join(_lines(host, folder)) + "\n"
    path = folder / f"{_name_of(host)}.conf"
    with opened_or_made(folder) as handle:
        replace_file(handle, path.name, text.encode(), mode=0o600)
    return path


def _name_of(host: Host) -> str:
    return hashlib.sha256(host.model_dump_json().encode()).hexdigest()[:16]


def control_path(host: Host, folder: Path) -> Path | None:
    """Return the socket by which calls share one connection; None if its path would be too long for the kernel."""
    path = folder / _name_of(host)
    return path if len(str(path).encode()) <= _LONGEST_SOCKET else None


def _lines(host: Host, folder: Path) -> Iterator[str]:
    socket = control_path(host, folder)
    yield f"Host {TARGET}"
    yield f"HostName {host.address}"
    yield f"User {host.user}"
    yield f"Port {host.port}"
    if socket is not None:
        yield from ("ControlMaster auto", f"ControlPath {socket}", "ControlPersist 60")
    if host.proxy_jump is not None:
        yield f"ProxyJump {JUMP}"
        yield f"Host {JUMP}"
        yield f"HostName {host.proxy_jump.address}"
        yield f"User {host.proxy_jump.user}"
        yield f"Port {host.proxy_jump.port}"
    yield "Host *"
    yield f"IdentityFile {host.identity_file}"
    yield f"UserKnownHostsFile {host.known_hosts}"
    if host.certificate_file is not None:
        yield f"CertificateFile {host.certificate_file}"
    yield f"ConnectTimeout {max(round(host.connect_timeout.total_seconds()), 1)}"
    yield from (f"{name} {value}" for name, value in _FIXED.items())
