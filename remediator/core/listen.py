"""The address on which the service listens, and its certificate."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from remediator.core.types import FilePath, SecretFile, Strict
from remediator.errors import InputError

_UNIX = "unix:"
_SYSTEMD = "systemd"


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address on which the service accepts connections.

    Args:
        host: host name or IP address; empty for all addresses of this host. Not used with ``path``.
        port: TCP port. Not used with ``path``.
        path: path of a Unix socket.
        inherited: whether systemd has opened the sockets (socket activation). Nothing else is used then.
    """

    host: str = ""
    port: int = 0
    path: Path | None = None
    inherited: bool = False

    @property
    def is_loopback(self) -> bool:
        """Whether this is a loopback TCP address. False for a Unix socket and for sockets that systemd opened."""
        return self.path is None and not self.inherited and is_loopback(self.host)

    @property
    def is_local(self) -> bool:
        """Whether only programs on this host reach it: by loopback or by a Unix socket."""
        return self.path is not None or self.is_loopback

    def __str__(self) -> str:
        if self.inherited:
            return _SYSTEMD
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.path is None else f"{_UNIX}{self.path}"


def parse_listen(text: str) -> ListenAddress:
    """Parse ``ADDRESS:PORT``, ``unix:/PATH`` or ``systemd``.

    Raises:
        InputError: the text has another form.
    """
    if text == _SYSTEMD:
        return ListenAddress(inherited=True)
    if text.startswith(_UNIX):
        path = Path(text.removeprefix(_UNIX))
        if path.is_absolute():
            return ListenAddress(path=path)
    host, colon, port = text.rpartition(":")
    if text.startswith(_UNIX) or not (colon and port.isascii() and port.isdigit() and int(port) < 65536):
        raise InputError(
            f"invalid address {text!r}; expected ADDRESS:PORT, unix:/PATH or systemd, for example 127.0.0.1:8095 or "
            "unix:/run/remediator/remediator.sock"
        )
    return ListenAddress(host.strip("[]"), int(port))


def network_of(address: str) -> str:
    """Return the network that counts as one client: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = getattr(found, "ipv4_mapped", None)
    return found.exploded[:19] if found.version == 6 and mapped is None else str(mapped or found)


def is_loopback(host: str) -> bool:
    """Return whether a host name or IP address is loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class ServerTls(Strict):
    """The certificate of the service. Both files are read again when they change."""

    certificate_file: FilePath = Field(
        description="PEM file with the certificate of the service, and after it the intermediate certificates."
    )
    key_file: SecretFile = Field(description="PEM file with the private key of the certificate, without a password.")
