"""How a server is reached, as it is written in the settings file and in the inventory. No network in here."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from remediator.fields import Duration, FilePath, Strict


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
