"""The settings file: where to listen, what to ask, where things are. Secrets come from files, never from here."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from remediator.audit import Redactor
from remediator.clients.allowed_requests import AllowedRequest
from remediator.clients.endpoints import BasicAuth, Endpoint, checked_url
from remediator.clients.endpoints import read_secret as _read_secret
from remediator.clients.host.allowed_commands import AllowedCommand
from remediator.core.approval import Role
from remediator.core.types import Duration, FilePath, PositiveDuration, Strict
from remediator.errors import ConfigurationError


class Proxy(Strict):
    """A reverse proxy that signs people in and says who they are in a header."""

    addresses: tuple[str, ...] = Field(min_length=1, description="Where it may connect from: addresses or networks.")
    header: str = Field(default="X-Forwarded-User", description="The header with the person's id.")
    groups_header: str = Field(default="", description="The header with groups, separated by commas; empty: none.")

    @field_validator("addresses")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            ipaddress.ip_network(item)
        return value

    def trusts(self, address: str) -> bool:
        """Whether a connection from there is the proxy's."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found  # a socket for both families says IPv4 in IPv6's way
        return any(found in ipaddress.ip_network(item) for item in self.addresses)


class Oidc(Strict):
    """OpenID Connect: authorization code with PKCE."""

    issuer: str = Field(description="As the provider spells it; /.well-known/openid-configuration is below it.")
    client_id: str
    client_secret_file: FilePath | None = Field(default=None, description="File; absent for a public client.")
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    id_claim: str = Field(default="email", description="The claim that is the person's id here.")
    groups_claim: str = Field(default="groups", description="The claim with the person's groups.")
    label: str = Field(default="single sign-on", description="What the button says.")

    @field_validator("issuer")
    @classmethod
    def _url(cls, value: str) -> str:
        return checked_url(value)


class Slack(Strict):
    """Buttons in Slack."""

    signing_secret_file: FilePath = Field(description="The app's signing secret.")


class Access(Strict):
    """Who may come in."""

    people: FilePath | None = Field(default=None, description="The people file: roles, groups, hashed tokens.")
    anonymous_role: Literal["auto", "viewer", "none"] = Field(
        default="auto", description="What somebody unknown may: viewer looks, none has to sign in; auto: by listen."
    )
    group_roles: dict[str, Role] = Field(default={}, description="Roles that come with a provider's groups.")
    proxy: Proxy | None = None
    oidc: Oidc | None = None
    slack: Slack | None = None
    session: PositiveDuration = Field(default=timedelta(hours=12), description="How long signing in lasts.")


class Approvals(Strict):
    """Where people are asked."""

    channels: tuple[str, ...] = Field(
        default=(),
        description="Channels for requests, the first first; the next one when a request cannot be delivered.",
    )
    allow_link_only: bool = Field(
        default=False, description="Let a link alone approve plans of low risk; on record as 'link holder'."
    )
    keys_file: FilePath | None = Field(default=None, description="Keys that sign links; default <state>/links.key.")
    snooze_duration: Duration = Field(default=timedelta(minutes=30), description="How long a snoozed request sleeps.")


class Webhook(Strict):
    """How Alertmanager has to identify itself."""

    token_file: FilePath | None = Field(default=None, description="File with the bearer token that Alertmanager sends.")
    basic: BasicAuth | None = Field(default=None, description="Or a name and password.")
    max_body: int = Field(default=8 * 1024 * 1024, ge=1024, description="Longest body in bytes; longer ones get 413.")


class Watchdog(Strict):
    """The alert that always fires, so that silence means something."""

    alertname: str = "Watchdog"
    max_silence: Duration = Field(default=timedelta(minutes=5), description="Older than this: our view is stale.")
    notify: tuple[str, ...] = Field(
        default=("watchdog",), description="Channels that are told when it is lost and back; not through Alertmanager."
    )


class Log(Strict):
    """How the service logs."""

    format: Literal["human", "json"] = "human"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Channel(Strict):
    """One way to reach people; ``kind`` names the notifier, the rest are its settings."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str

    @model_validator(mode="before")
    @classmethod
    def _beside_the_file(cls, value: Any, info: ValidationInfo) -> Any:
        base = (info.context or {}).get("base")
        if base is None or not isinstance(value, dict):
            return value
        return {
            name: str(Path(base, item)) if cls._is_path(name) and isinstance(item, str) else item
            for name, item in value.items()
        }

    @classmethod
    def _is_path(cls, name: str) -> bool:
        return name.endswith("_file")


class CheckpointLocation(Channel):
    """A place that keeps signed checkpoints; ``kind`` names the notary, the rest are its settings."""

    @classmethod
    def _is_path(cls, name: str) -> bool:
        return name in ("path", "repository") or super()._is_path(name)


def _a_month_at_least(length: timedelta) -> timedelta:
    if length < timedelta(days=31):
        raise ValueError("guards and reports look back for a month: 31d or more")
    return length


class Timing(Strict):
    """How long things may take."""

    resolve_grace: Duration = Field(default=timedelta(minutes=5), description="Resolved for so long, an alert is over.")
    lease: Duration = Field(default=timedelta(seconds=60), description="A replica's claim on a run.")
    guard_recheck_interval: Duration = Field(
        default=timedelta(seconds=15), description="How often a blocked run is judged again."
    )
    run_timeout: Duration = Field(default=timedelta(hours=1), description="Longest time from leave to act to the end.")
    recurrence_window: Duration = Field(
        default=timedelta(minutes=15), description="An alert that fires so long after a success was not healed."
    )
    inbox_retention: Duration = Field(default=timedelta(days=30), description="How long notifications are kept.")
    run_retention: Annotated[Duration, AfterValidator(_a_month_at_least)] = Field(
        default=timedelta(days=365),
        description="How long runs that are over are kept, with their evidence and messages, and episodes; at least "
        "31d, because guards and reports look back. The audit log has its own, see audit.archive.",
    )
    reconcile: Duration = Field(default=timedelta(minutes=1), description="How often Alertmanager is compared with.")


class UrlFile(Strict):
    """A database URL in a file, since it holds a password."""

    url_file: FilePath


class Archive(Strict):
    """Where old audit entries go, and when."""

    folder: FilePath | None = Field(
        default=None,
        description="Default with SQLite <state>/archive; better another volume. With PostgreSQL nothing moves unless "
        "a folder is named that all replicas share.",
    )
    min_age: Duration = Field(default=timedelta(days=90), description="Entries younger than this stay in the database.")
    segment_entries: int = Field(default=10_000, ge=100, description="Entries in one file.")


class Audit(Strict):
    """How the audit log is signed for, and where the signed checkpoints are kept."""

    origin: str = Field(default="", description="The log's name in checkpoints; default remediator/<environment>.")
    key_file: FilePath | None = Field(default=None, description="Signing key; default <state>/audit.key, made once.")
    checkpoint_entries: int = Field(default=1000, ge=10, description="Sign when the log has grown by so many entries,")
    checkpoint_interval: Duration = Field(default=timedelta(minutes=10), description="or by any, after so long.")
    checkpoints: tuple[CheckpointLocation, ...] = Field(
        default=(), description="Places that keep them: kind file, git, syslog, chat or s3, and that kind's settings."
    )
    archive: Archive = Field(default=Archive(), description="Where old entries go, and when.")


def _public(url: str) -> str:
    """An address for people's browsers, or nothing."""
    if url and not url.startswith(("http://", "https://")):
        raise ValueError("must be http://host… or https://host…, as people type it")
    return checked_url(url) if url else ""


class Config(Strict):
    """The settings of one remediator process."""

    apiVersion: Literal["remediator/v1"]
    kind: Literal["Config"]
    listen: str = Field(default="127.0.0.1:8095", description="Address and port.")
    public_url: Annotated[str, AfterValidator(_public)] = Field(
        default="", description="How people reach it; goes into links. Without it messages have none."
    )
    environment: str = Field(default="default", description="Selects the rung of each playbook's ladder.")
    state: FilePath = Field(description="Folder for everything that the service writes.")
    store: Literal["sqlite"] | UrlFile | str = Field(
        default="sqlite", description="sqlite, a postgresql:// URL, or {url_file: …} when it holds a password."
    )
    playbooks: tuple[FilePath, ...] = Field(description="Files or folders.")
    inventory: FilePath
    webhook: Webhook = Webhook()
    alertmanagers: tuple[Endpoint, ...] = ()
    alertmanager_receiver: str | None = Field(
        default=None, description="Alertmanager's receiver that posts here; default: those that were seen to."
    )
    prometheus: Endpoint | None = None
    watchdog: Watchdog = Watchdog()
    identity_ignore_labels: tuple[str, ...] = Field(
        default=("replica", "prometheus_replica"), description="Labels that do not make two alerts different."
    )
    channels: dict[str, Channel] = Field(default={}, description="Ways to reach people, by the name playbooks use.")
    approvals: Approvals = Approvals()
    access: Access = Access()
    guards: dict[str, Any] = Field(
        default={}, description="Settings of guards where a playbook says nothing; off: guards that are off everywhere."
    )
    requests: dict[str, AllowedRequest] = Field(
        default={}, description="Requests that http.request may make, by name; without any it does nothing."
    )
    commands: dict[str, AllowedCommand] = Field(
        default={}, description="Commands that command.run may run, by name; without any it does nothing."
    )
    plugins: tuple[str, ...] = Field(
        default=(),
        description="Installed packages whose entry points are used, by name. A plugin is code; no others are loaded.",
    )
    base_dir: FilePath = Field(
        default=Path(), validate_default=True, description="What relative paths in guards start from; default: here."
    )
    timing: Timing = Timing()
    audit: Audit = Audit()
    log: Log = Log()
    replica: str = Field(default="", description="This replica's name; default: host name and process id.")

    @model_validator(mode="after")
    def _open_door(self) -> Config:
        host = self.listen.rpartition(":")[0].strip("[]")
        if self.webhook.token_file is None and self.webhook.basic is None and not _loopback(host):
            raise ValueError("webhook: set token_file or basic; only a loopback address may listen without")
        return self

    @model_validator(mode="after")
    def _known_channels(self) -> Config:
        unknown = [name for name in self.approvals.channels if name not in self.channels]
        if unknown:
            raise ValueError(f"approvals.channels: {', '.join(unknown)}: there is no such channel under channels")
        return self

    @property
    def anonymous_read_allowed(self) -> bool:
        """Whether callers without sign-in may read runs and plans. Default: only if the service listens on loopback."""
        if self.access.anonymous_role == "auto":
            return _loopback(self.listen.rpartition(":")[0].strip("[]"))
        return self.access.anonymous_role == "viewer"


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_secret(path: Path) -> str:
    """A secret from its file, without the newline at the end.

    Raises:
        ConfigurationError: it cannot be read, or is empty.
    """
    try:
        return _read_secret(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: the secret cannot be read: {error}") from None


_FILES = ("password_file", "token_file", "url_file", "key_file", "secret_file", "webhook_url_file")


def redactor_for(*models: BaseModel) -> Redactor:
    """A redactor that knows every secret whose file the settings or the inventory name."""
    return Redactor(sorted({secret for model in models for secret in secrets_of(model)}))


def secrets_of(value: Any) -> Iterator[str]:
    """The contents of all secret files that are named anywhere in a model."""
    if isinstance(value, BaseModel):
        items = {**{name: getattr(value, name) for name in type(value).model_fields}, **(value.model_extra or {})}
        yield from _of_mapping(items)
    elif isinstance(value, Mapping):
        yield from _of_mapping(value)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secrets_of(item)


def _of_mapping(items: Mapping[Any, Any]) -> Iterable[str]:
    for name, item in items.items():
        if name in _FILES and isinstance(item, Path | str):
            yield from _read_text(Path(item))
        elif name == "header_files" and isinstance(item, Mapping):
            for path in item.values():
                yield from _read_text(Path(path))
        else:
            yield from secrets_of(item)


def _read_text(path: Path) -> Iterator[str]:
    with suppress(OSError, UnicodeDecodeError):  # whoever needs it says what is wrong with it
        yield path.read_text(encoding="utf-8").strip()
