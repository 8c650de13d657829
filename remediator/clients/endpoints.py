"""How a server is reached, as it is written in the settings file and in the inventory. No network in here."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from remediator.core.matchers import compile_pattern
from remediator.core.types import Duration, FieldError, FilePath, PositiveDuration, Strict
from remediator.errors import ParseError

_WORKFLOW = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\.ya?ml$"
_REF = r"^[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}$"
_LONGEST_INPUT = 1000


class BasicAuth(Strict):
    """User name, and the file that holds the password (its last newline is not part of it)."""

    username: str
    password_file: FilePath


class TlsSettings(Strict):
    """TLS towards a server: who is believed, and who we say we are.

    ``server_name`` is the name to ask for and to verify, where the certificate is not for the host in the url.
    Files are read when the client is made; a renewed certificate needs a reload.
    """

    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False

    @model_validator(mode="after")
    def _key_with_certificate(self) -> TlsSettings:
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file needs cert_file")
        return self


class HttpAuth(Strict):
    """What is sent along to prove who asks: at most one of basic and token_file, and any headers.

    ``header_files`` are headers whose values are secrets, each read from its file at every request, like the token,
    so that a rotated one is used at once.
    """

    basic: BasicAuth | None = None
    token_file: FilePath | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    header_files: dict[str, FilePath] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_authorization(self) -> HttpAuth:
        if self.basic is not None and self.token_file is not None:
            raise ValueError("use basic or token_file, not both")
        named = [name.lower() for name in (*self.headers, *self.header_files)]
        if "authorization" in named:
            raise ValueError("put credentials into basic or token_file, not into an Authorization header")
        if len(set(named)) != len(named):
            raise ValueError("a header is named twice")
        return self


class Endpoint(HttpAuth):
    """One HTTP server: where it is (with its route prefix), how to authenticate, how long to wait.

    ``url`` is ``http://…``, ``https://…`` or ``unix:///path/of/socket``. ``timeout`` bounds a whole call, from
    connecting to the last byte of the answer.
    """

    url: str
    tls: TlsSettings = TlsSettings()
    timeout: Duration = timedelta(seconds=5)

    @field_validator("url")
    @classmethod
    def _url(cls, url: str) -> str:
        return checked_url(url)

    @field_validator("timeout")
    @classmethod
    def _positive(cls, timeout: timedelta) -> timedelta:
        if timeout <= timedelta(0):
            raise ValueError("must be longer than nothing")
        return timeout

    @property
    def socket(self) -> str | None:
        """The path of the unix socket, or None for a network address."""
        return self.url.removeprefix("unix://") if self.url.startswith("unix://") else None

    @property
    def base(self) -> str:
        """What paths are appended to: scheme, host, port and route prefix, without a slash at its end."""
        return "http://localhost" if self.socket else self.url


class SentinelAddress(Strict):
    """Where one Sentinel listens."""

    host: str
    port: int = Field(default=26379, ge=1, le=65535)


class SentinelEndpoint(Strict):
    """A set of Sentinels, the name of the master that they watch, and how to log in to the Sentinels themselves."""

    sentinels: tuple[SentinelAddress, ...] = Field(min_length=1, description="All of them: a majority is believed.")
    master: str = Field(min_length=1, description="The name under which they watch the master.")
    username: str | None = None
    password_file: FilePath | None = None
    tls: TlsSettings | None = None
    timeout: Duration = timedelta(seconds=2)


class RedisEndpoint(Strict):
    """One Redis: host and port, or the path of its unix socket, or the Sentinels that know which one is the master;
    who we are; how long to wait for each command.

    The name in its certificate has to be ``host``; ``server_name`` is not supported here.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=6379, ge=1, le=65535)
    socket: FilePath | None = None
    sentinel: SentinelEndpoint | None = Field(
        default=None, description="Who says which one is the master; then host and port are theirs to say."
    )
    username: str | None = None
    password_file: FilePath | None = None
    tls: TlsSettings | None = None
    db: int = Field(default=0, ge=0)
    timeout: Duration = timedelta(seconds=2)

    @model_validator(mode="after")
    def _possible(self) -> RedisEndpoint:
        if self.username is not None and self.password_file is None:
            raise ValueError("username needs password_file")
        if self.tls is not None and self.tls.server_name is not None:
            raise ValueError("tls.server_name is not supported for Redis; use the name in the certificate as host")
        if self.tls is not None and self.socket is not None:
            raise ValueError("a unix socket has no TLS")
        if self.sentinel is not None and self.model_fields_set & {"host", "port", "socket"}:
            raise ValueError("sentinel says where the master is: leave out host, port and socket")
        return self

    @property
    def name(self) -> str:
        """For messages."""
        if self.sentinel is not None:
            return f"Redis master {self.sentinel.master}"
        return f"Redis at {self.socket or f'{self.host}:{self.port}'}"


class WorkflowInput(Strict):
    """One input of a workflow, and what may be given for it."""

    type: Literal["string", "number", "boolean"] = Field(default="string", description="As the workflow declares it.")
    pattern: str | None = Field(default=None, description="RE2 that the whole of a string has to match.")
    enum: tuple[str, ...] | None = Field(default=None, min_length=1, description="Or the strings that it may be.")
    required: bool = Field(default=True, description="Whether it has to be given.")

    @model_validator(mode="after")
    def _bounded(self) -> WorkflowInput:
        if self.type == "string" and (self.pattern is None) == (self.enum is None):
            raise FieldError("a string needs one of pattern and enum", hint="nothing would mean any text at all")
        if self.type != "string" and (self.pattern is not None or self.enum is not None):
            raise FieldError(f"pattern and enum do not go with type {self.type}")
        if self.pattern is not None:
            try:
                compile_pattern(self.pattern)
            except ParseError as error:
                raise FieldError(error.message, ("pattern",), column=error.column, hint=error.hint) from None
        return self

    def fits(self, value: object) -> bool:
        """Whether this may be given."""
        if self.type == "boolean":
            return isinstance(value, bool)
        if self.type == "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        if not isinstance(value, str) or len(value) > _LONGEST_INPUT:
            return False
        return value in self.enum if self.enum else bool(compile_pattern(self.pattern or "").fullmatch(value))


class Dispatch(Strict):
    """A workflow with a workflow_dispatch trigger that playbooks may start."""

    workflow: str = Field(pattern=_WORKFLOW, description="Its file's name, such as rollback.yml.")
    ref: str = Field(default="main", pattern=_REF, description="Branch or tag that it is taken from.")
    inputs: dict[str, WorkflowInput] = Field(default={}, description="What may be given to it.")


class GitHub(Strict):
    """A repository on GitHub, and which of its workflows playbooks may run again or start. No others can be named."""

    repository: str = Field(pattern=r"^[A-Za-z0-9-]{1,39}/[A-Za-z0-9._-]{1,100}$", description="owner/name.")
    token_file: FilePath = Field(description="File with a token that may read and write actions of it, and no more.")
    url: str = Field(default="https://api.github.com", description="Of the API; Enterprise has it under /api/v3.")
    private: bool = Field(default=False, description="Allow addresses of this host and of private networks.")
    tls: TlsSettings = Field(default=TlsSettings(), description="Who is believed, and who we are.")
    timeout: PositiveDuration = Field(default=timedelta(seconds=10), description="For one call.")
    branch: str = Field(default="main", pattern=_REF, description="Whose runs may be run again.")
    rerun: tuple[Annotated[str, Field(pattern=_WORKFLOW)], ...] = Field(
        default=(), description="Files of the workflows whose failed jobs may be run again."
    )
    dispatch: dict[str, Dispatch] = Field(default={}, description="Workflows that may be started, by a name of yours.")

    @field_validator("url")
    @classmethod
    def _web(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return checked_url(url)


def checked_url(url: str) -> str:
    """The url without a slash at its end.

    Raises:
        ValueError: not http, https or unix; no host; credentials, a query or a fragment in it.
    """
    parts = urlsplit(url)
    if parts.scheme == "unix":
        if parts.netloc or not parts.path.startswith("/") or parts.query or parts.fragment:
            raise ValueError("a socket is written unix:///path/of/socket")
        return url
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be http://host…, https://host… or unix:///path/of/socket")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials do not belong into a url; use basic with a password_file")
    if parts.query or parts.fragment:
        raise ValueError("must end with the route prefix, without ? or #")
    _ = parts.port  # raises ValueError for a port that is none
    return url.rstrip("/")


def read_secret(path: Path) -> str:
    """What a secret file holds, without the newline that editors put at its end.

    Raises:
        OSError: it cannot be read.
        ValueError: it is empty, or not one line of text.
    """
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text") from None
    if not secret or "\n" in secret or "\r" in secret:
        raise ValueError(f"{path} does not hold exactly one line")
    return secret
