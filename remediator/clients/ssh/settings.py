"""How the remediator connects to another host: written by a person, and never taken from an alert."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import Field, model_validator

from remediator.core.types import FieldError, FilePath, PositiveDuration, Strict

HostAddress = Annotated[str, Field(pattern=r"^[A-Za-z0-9:][A-Za-z0-9.:_-]{0,252}$")]
"""A host name or IP address. It cannot begin with ``-``, so that no program takes it for an option."""
UserName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_.-]{0,31}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._@+,:=-]+")
"""Characters that the configuration of ssh accepts unquoted: no space, quote, ``%``, ``$`` or ``~``."""


class JumpHost(Strict):
    """A host through which the connection goes. The same key, certificate and known hosts are used for it."""

    address: HostAddress = Field(description="Host name or IP address.")
    user: UserName = Field(default="remediator", description="User name on it.")
    port: Port = Field(default=22, description="Port of its SSH server.")


class SshSettings(Strict):
    """How to connect by SSH. Keys and known hosts are files; passwords and agents are not used."""

    user: UserName = Field(default="remediator", description="User name on the host.")
    port: Port = Field(default=22, description="Port of the SSH server.")
    identity_file: FilePath | None = Field(
        default=None, description="Private key. Only the user of the service may read it."
    )
    certificate_file: FilePath | None = Field(
        default=None, description="Certificate of the key, signed by the authority that the hosts trust."
    )
    known_hosts: FilePath | None = Field(
        default=None, description="Keys of the hosts, or of the authority that signs them. Other hosts are refused."
    )
    proxy_jump: JumpHost | None = Field(default=None, description="Host through which the connection goes.")
    connect_timeout: PositiveDuration = Field(default=timedelta(seconds=5), description="Timeout of a connection.")
    max_calls: int = Field(
        default=4,
        ge=1,
        le=10,
        description="Maximum number of calls to one host at once. By default, OpenSSH accepts at most 10 at once.",
    )

    @model_validator(mode="after")
    def _plain_paths(self) -> SshSettings:
        for name in ("identity_file", "certificate_file", "known_hosts"):
            path = getattr(self, name)
            if path is not None and not _PLAIN_PATH.fullmatch(str(path)):
                message = f"'{path}' has a character that the configuration of ssh would interpret"
                raise FieldError(message, (name,), hint="use letters, digits and / . _ @ + , : = - only")
        return self


class Host(SshSettings):
    """Another host, on which a service runs. It needs remediator-remote; see ``remediator host wrapper``."""

    address: HostAddress = Field(description="Host name or IP address, as in known_hosts.")

    def completed(self, shared: SshSettings) -> Host:
        """Return the host with the settings that it does not have itself."""
        missing = shared.model_fields_set - self.model_fields_set
        return self.model_copy(update={name: getattr(shared, name) for name in missing}) if missing else self

    @property
    def missing(self) -> tuple[str, ...]:
        """Return the missing settings that every connection needs."""
        return tuple(name for name in ("identity_file", "known_hosts") if getattr(self, name) is None)

    def __str__(self) -> str:
        return self.address if self.port == 22 else f"{self.address}:{self.port}"
