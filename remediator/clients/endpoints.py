"""Connection settings of servers, as in the settings file and the inventory. This module makes no connections."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from remediator.clients.value_rule import ValueRule
from remediator.core.local_files import read_text
from remediator.core.types import Duration, FilePath, PositiveDuration, SecretFile, Strict
from remediator.core.urls import Url, WebUrl

_WORKFLOW = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\.ya?ml$"
_REF = r"^[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}$"


class BasicAuth(Strict):
    """User name and password file. A newline at the end of the file is ignored."""

    username: str = Field(description="User name.")
    password_file: SecretFile = Field(description="File with the password. A newline at its end is ignored.")


class TlsSettings(Strict):
    """TLS settings of a connection: trusted authority and client certificate.

    ``server_name`` is the name to verify if the certificate is not for the host in the URL. Files are read when the
    client is created, so a renewed certificate needs a reload.
    """

    ca_file: FilePath | None = Field(
        default=None, description="File with trusted CA certificates (PEM). Default: the certificates of the system."
    )
    cert_file: FilePath | None = Field(default=None, description="File with the client certificate (PEM).")
    key_file: SecretFile | None = Field(
        default=None, description="File with the key of the client certificate, if cert_file does not contain it."
    )
    server_name: str | None = Field(
        default=None, description="Name to verify if the certificate is not for the host in the URL."
    )
    insecure_skip_verify: bool = Field(
        default=False, description="Accept any certificate. Then nothing proves that the server is the right one."
    )

    @model_validator(mode="after")
    def _key_with_certificate(self) -> TlsSettings:
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file needs cert_file")
        return self


class HttpAuth(Strict):
    """Authentication: at most one of basic and token_file, and any number of headers.

    ``header_files`` are headers with secret values. The client reads these files and the token file at every request,
    so it uses a rotated secret at once.
    """

    basic: BasicAuth | None = Field(default=None, description="User name and password, instead of token_file.")
    token_file: SecretFile | None = Field(default=None, description="File with the bearer token to send.")
    headers: dict[str, str] = Field(default_factory=dict, description="Headers to send, without secret values.")
    header_files: dict[str, SecretFile] = Field(
        default_factory=dict, description="Headers with secret values: name of the header, and file with its value."
    )

    @model_validator(mode="after")
    def _one_authorization(self) -> HttpAuth:
        if self.basic is not None and self.token_file is not None:
            raise ValueError("use basic or token_file, not both")
        named = [name.lower() for name in (*self.headers, *self.header_files)]
        if "authorization" in named:
            raise ValueError("use basic or token_file instead of an Authorization header")
        if len(set(named)) != len(named):
            raise ValueError("a header is set twice")
        return self


class Endpoint(HttpAuth):
    """An HTTP server: URL (with its route prefix), authentication and timeout.

    ``url`` is ``http://…``, ``https://…`` or ``unix:///path/of/socket``. ``timeout`` limits a whole call, from the
    connection to the last byte of the answer.
    """

    url: Url = Field(description="URL with the route prefix: http://…, https://… or unix:///path/of/socket.")
    tls: TlsSettings = Field(default=TlsSettings(), description="TLS settings.")
    timeout: PositiveDuration = Field(
        default=timedelta(seconds=5), description="Timeout of a whole call, to the last byte of the answer."
    )

    @property
    def socket(self) -> str | None:
        """Path of the unix socket, or None for a network address."""
        return self.url.removeprefix("unix://") if self.url.startswith("unix://") else None

    @property
    def base(self) -> str:
        """Base of all paths: scheme, host, port and route prefix, without a slash at the end."""
        return "http://localhost" if self.socket else self.url


class SentinelAddress(Strict):
    """Address of one Sentinel."""

    host: str = Field(description="Host name or address.")
    port: int = Field(default=26379, ge=1, le=65535, description="TCP port.")


class SentinelEndpoint(Strict):
    """The Sentinels of one master, and the credentials of the Sentinels themselves."""

    sentinels: tuple[SentinelAddress, ...] = Field(
        min_length=1, description="All Sentinels; a majority of them must agree on the master."
    )
    master: str = Field(min_length=1, description="Name of the master in the Sentinels' configuration.")
    username: str | None = Field(default=None, description="User of the Sentinels' ACL.")
    password_file: SecretFile | None = Field(default=None, description="File with the password of the Sentinels.")
    tls: TlsSettings | None = Field(default=None, description="TLS settings. Default: no TLS.")
    timeout: Duration = Field(default=timedelta(seconds=2), description="Timeout of one command.")


class ServerEndpoint(Strict):
    """A server with its own protocol: host and port, or a unix socket; password and TLS.

    The server's certificate must be for ``host``; ``server_name`` is not supported.
    """

    host: str = Field(default="127.0.0.1", description="Host name or address; TLS certificates must be for it.")
    socket: FilePath | None = Field(default=None, description="Path of a unix socket, instead of host and port.")
    password_file: SecretFile | None = Field(default=None, description="File with the password.")
    tls: TlsSettings | None = Field(default=None, description="TLS settings. Default: no TLS.")

    @model_validator(mode="after")
    def _tls_possible(self) -> ServerEndpoint:
        if self.tls is not None and self.tls.server_name is not None:
            raise ValueError("tls.server_name is not supported here: set host to the name in the certificate")
        if self.tls is not None and self.socket is not None:
            raise ValueError("tls does not work with a unix socket: remove one of them")
        return self


class RedisEndpoint(ServerEndpoint):
    """A Redis server: host and port, a unix socket, or the Sentinels that know the master; credentials and timeout.

    The timeout limits each command. The certificate must be for ``host``; ``server_name`` is not supported.
    """

    port: int = Field(default=6379, ge=1, le=65535, description="TCP port.")
    sentinel: SentinelEndpoint | None = Field(
        default=None, description="Sentinels that name the master, instead of host and port."
    )
    username: str | None = Field(default=None, description="User of the ACL. Default: the user default.")
    db: int = Field(default=0, ge=0, description="Number of the database.")
    timeout: Duration = Field(default=timedelta(seconds=2), description="Timeout of each command.")

    @model_validator(mode="after")
    def _possible(self) -> RedisEndpoint:
        if self.username is not None and self.password_file is None:
            raise ValueError("username needs password_file")
        if self.sentinel is not None and self.model_fields_set & {"host", "port", "socket"}:
            raise ValueError("sentinel names the master: remove host, port and socket")
        return self

    @property
    def name(self) -> str:
        """Name for messages."""
        if self.sentinel is not None:
            return f"Redis master {self.sentinel.master}"
        return f"Redis at {self.socket or f'{self.host}:{self.port}'}"


class WorkflowInput(ValueRule):
    """An input of a workflow and its allowed values."""

    type: Literal["string", "number", "boolean"] = Field(default="string", description="Type, as in the workflow.")
    required: bool = Field(default=True, description="Whether a value is required.")

    def fits(self, value: object) -> bool:
        """Return whether this value is allowed."""
        if self.type == "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        return super().fits(value)


class Dispatch(Strict):
    """A workflow with a workflow_dispatch trigger that playbooks may start."""

    workflow: str = Field(pattern=_WORKFLOW, description="Name of its file, for example rollback.yml.")
    ref: str = Field(default="main", pattern=_REF, description="Branch or tag to run it from.")
    inputs: dict[str, WorkflowInput] = Field(default={}, description="Inputs that playbooks may set.")


class GitHub(Strict):
    """A GitHub repository, with the workflows that playbooks may re-run or start. All other workflows are excluded."""

    repository: str = Field(
        pattern=r"^[A-Za-z0-9-]{1,39}/[A-Za-z0-9._-]{1,100}$", description="Repository as owner/name."
    )
    token_file: SecretFile = Field(
        description="File with a token that may only read and write the repository's actions."
    )
    url: WebUrl = Field(
        default="https://api.github.com", description="URL of the API; GitHub Enterprise serves it under /api/v3."
    )
    private: bool = Field(default=False, description="Allow addresses of this host and of private networks.")
    tls: TlsSettings = Field(default=TlsSettings(), description="TLS settings.")
    timeout: PositiveDuration = Field(default=timedelta(seconds=10), description="Timeout of one call.")
    branch: str = Field(default="main", pattern=_REF, description="Branch whose runs may be re-run.")
    rerun: tuple[Annotated[str, Field(pattern=_WORKFLOW)], ...] = Field(
        default=(), description="Files of the workflows whose failed jobs may be re-run."
    )
    dispatch: dict[str, Dispatch] = Field(
        default={}, description="Workflows that may be started, each under a name of your choice."
    )


def read_secret(path: Path) -> str:
    """Return the content of a secret file, without the newline at its end.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is empty, or not one line of text.
    """
    try:
        secret = read_text(path).rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    if not secret or "\n" in secret or "\r" in secret:
        raise ValueError(f"{path} must contain exactly one line")
    return secret
