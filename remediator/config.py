"""The settings file. It names the files that contain secrets; it never contains a secret itself."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from remediator.audit import Redactor
from remediator.audit.secret_files import read_secrets, secret_files
from remediator.clients import egress
from remediator.clients.allowed_requests import AllowedRequest
from remediator.clients.declared_effects import check_undos
from remediator.clients.egress import OutgoingProxy
from remediator.clients.endpoints import BasicAuth, Endpoint
from remediator.clients.endpoints import read_secret as _read_secret
from remediator.clients.host.allowed_commands import AllowedCommand
from remediator.clients.kubernetes import exec_login
from remediator.clients.kubernetes.exec_login import LoginProgram
from remediator.core.access_settings import Access
from remediator.core.alert import ALERTMANAGER, REPLICA_LABELS
from remediator.core.export_settings import CloudEvents, Tracing
from remediator.core.link_settings import Links
from remediator.core.listen import ListenAddress, ServerTls, is_loopback, parse_listen
from remediator.core.notification_policy import Approvals, QuietHours
from remediator.core.sizes import MEBIBYTE
from remediator.core.types import Duration, FieldError, FilePath, PositiveDuration, SecretFile, Strict
from remediator.core.urls import UrlOrFile, checked_url, http_url
from remediator.errors import ConfigurationError, InputError
from remediator.playbooks.field_types import Name
from remediator.playbooks.inventory import Inventory

M = TypeVar("M", bound=BaseModel)
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,100}$")]


class Webhook(Strict):
    """Authentication of Alertmanager, and limits of the webhook."""

    token_file: SecretFile | None = Field(
        default=None,
        description="File with the bearer token of Alertmanager. Without any credentials, the service creates "
        "<state>/webhook.token at its first start.",
    )
    tokens: dict[str, SecretFile] = Field(
        default={},
        description="Files with further bearer tokens, by name. All are valid at the same time, so that a token can be "
        "replaced without losing an alert.",
    )
    basic: BasicAuth | None = Field(default=None, description="User name and password, instead of token_file.")
    max_body: int = Field(
        default=8 * MEBIBYTE,
        ge=1024,
        description="Maximum size of a request body in bytes. Larger requests get 413.",
    )


class Hmac(Strict):
    """A signature of each body: HMAC-SHA256 in hexadecimal digits, as Grafana sends it."""

    secret_files: Annotated[tuple[SecretFile, ...], Field(min_length=1)] = Field(
        description="Files with the shared secret. All are valid at the same time, so that it can be replaced."
    )
    header: HeaderName = Field(description="Header with the signature, for example X-Grafana-Alerting-Signature.")
    timestamp_header: HeaderName | None = Field(
        default=None,
        description="Header with the Unix time in seconds, if the sender signs TIME:BODY. Without it, an old request "
        "can be sent again.",
    )
    max_age: PositiveDuration = Field(
        default=timedelta(minutes=5), description="Maximum difference between this time and the time of this service."
    )


class Watchdog(Strict):
    """The alert that always fires. If it does not arrive, alerts do not arrive."""

    alertname: str = Field(default="Watchdog", description="Name of the alert.")
    source: Name = Field(
        default=ALERTMANAGER, description="Source that sends the Watchdog: alertmanager, or one of 'sources'."
    )
    max_silence: Duration = Field(
        default=timedelta(minutes=5), description="After this time without the alert, the guard watchdog blocks."
    )
    notify: tuple[str, ...] = Field(
        default=("watchdog",),
        description="Channels to notify when the Watchdog is lost or back. Do not use a channel that needs "
        "Alertmanager.",
    )


class Heartbeat(UrlOrFile):
    """A dead man's switch: an external monitor that calls a person when the heartbeat stops arriving."""

    url: str = Field(default="", description="URL to which the heartbeat is posted.")
    url_file: SecretFile | None = Field(default=None, description="File with the URL, if the URL is a secret.")
    interval: PositiveDuration = Field(
        default=timedelta(minutes=1), description="Time between two heartbeats. The monitor should wait for three."
    )

    @field_validator("url")
    @classmethod
    def _over_http(cls, value: str) -> str:
        return http_url(value) if value else ""


class Log(Strict):
    """Logs of the service."""

    format: Literal["auto", "human", "json"] = Field(
        default="auto", description="human: text lines; json: one object a line; auto: human on a terminal, else json."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Lowest level to log.")


class Channel(Strict):
    """A notification channel. ``kind`` names the notifier; the other keys are its settings."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str = Field(description="Name of the notifier, for example slack.")
    _base: Path | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any) -> None:
        """Keep the folder of the settings file: relative paths in the other keys start there."""
        self._base = (context or {}).get("base")

    def as_model(self, model: type[M]) -> M:
        """Return the other keys as the model that the notifier or the witness declares.

        Raises:
            ValidationError: they do not fit it.
        """
        return model.model_validate(self.model_extra or {}, context={"base": self._base})


class MessageChannel(Channel):
    """A notification channel for messages to people."""

    quiet_hours: QuietHours | None = Field(
        default=None, description="Hours in which messages about less severe alerts wait until the end."
    )


class SourceSettings(Channel):
    """A further source of alerts. ``kind`` names the kind of source; the other keys are its settings."""

    kind: str = Field(description="Kind of source: alertmanager, grafana or json.")
    token_file: SecretFile | None = Field(
        default=None, description="File with the bearer token that the sender presents."
    )
    tokens: dict[str, SecretFile] = Field(
        default={},
        description="Files with further bearer tokens, by name. All are valid at the same time, so that a token can be "
        "replaced without losing an alert.",
    )
    basic: BasicAuth | None = Field(
        default=None, description="User name and password that the sender presents, instead of a token."
    )
    hmac: Hmac | None = Field(
        default=None, description="Signature that each request must have, besides a token or a password if one is set."
    )
    max_body: int = Field(
        default=MEBIBYTE, ge=1024, description="Maximum size of a request body in bytes. Larger requests get 413."
    )

    @model_validator(mode="after")
    def _authenticated(self) -> SourceSettings:
        if not token_files(self) and self.basic is None and self.hmac is None:
            raise ValueError("authentication is required: set token_file, tokens, basic or hmac")
        return self


def token_files(section: Webhook | SourceSettings) -> dict[str, Path]:
    """Return all files with bearer tokens, by name. The file of ``token_file`` has the name ``token_file``."""
    return {**({} if section.token_file is None else {"token_file": section.token_file}), **section.tokens}


class CheckpointLocation(Channel):
    """A witness that stores signed checkpoints. ``kind`` names the witness; the other keys are its settings."""

    kind: str = Field(description="Kind of witness: file, git, syslog, chat or s3.")


def _at_least_a_month(length: timedelta) -> timedelta:
    if length < timedelta(days=31):
        raise ValueError("must be at least 31d, because guards and reports look back for a month")
    return length


class Timing(Strict):
    """Intervals and limits."""

    resolve_grace: Duration = Field(
        default=timedelta(minutes=5),
        description="How long an alert must stay resolved before its next firing starts a new episode.",
    )
    lease: Duration = Field(default=timedelta(seconds=60), description="How long a replica's claim on a run is valid.")
    guard_recheck_interval: Duration = Field(
        default=timedelta(seconds=15), description="How often the guards of a blocked run are evaluated again."
    )
    probe_timeout: PositiveDuration = Field(
        default=timedelta(seconds=10),
        description="Maximum time for one check, one diagnosis, one planning call and one guard.",
    )
    observe_within: Duration = Field(
        default=timedelta(minutes=2),
        description="How long to observe an unreachable target for the effect of an interrupted call, before people "
        "are asked. No call is repeated during this time.",
    )
    run_timeout: Duration = Field(
        default=timedelta(hours=1), description="Maximum time from the permission to act to the end of the run."
    )
    recurrence_window: Duration = Field(
        default=timedelta(minutes=15),
        description="An alert that still fires this long after a successful run was not healed.",
    )
    incident_window: Duration = Field(
        default=timedelta(minutes=15),
        description="Runs that begin at most this far apart are one incident, with one message that changes. Their "
        "targets must be the same or depend on each other.",
    )
    inbox_retention: Duration = Field(
        default=timedelta(days=30), description="How long received notifications are stored."
    )
    run_retention: Annotated[Duration, AfterValidator(_at_least_a_month)] = Field(
        default=timedelta(days=365),
        description="How long finished runs, their data and their episodes are stored. At least 31d, because guards "
        "and reports look back. The audit log has its own setting: audit.archive.",
    )
    reconcile: Duration = Field(
        default=timedelta(minutes=1),
        description="How often the open episodes are compared with the alerts in Alertmanager.",
    )


class UrlFile(Strict):
    """A database URL in a file, because it contains a password."""

    url_file: SecretFile = Field(description="File with the postgresql:// URL.")


class Archive(Strict):
    """Archive files for old entries of the audit log."""

    folder: FilePath | None = Field(
        default=None,
        description="Folder of the archive files. Default with SQLite: <state>/archive; another volume is better. With "
        "PostgreSQL, nothing is archived without a folder; all replicas share it.",
    )
    min_age: Duration = Field(default=timedelta(days=90), description="Younger entries stay. PostgreSQL: 1d or more.")
    segment_entries: int = Field(default=10_000, ge=100, description="Number of entries in one archive file.")


class Audit(Strict):
    """Signed checkpoints of the audit log, and its archive."""

    origin: str = Field(default="", description="Name of the log in checkpoints. Default: remediator/<environment>.")
    key_file: SecretFile | None = Field(
        default=None,
        description="File with the signing key. Default with SQLite: <state>/audit.key, which is created. Required "
        "with PostgreSQL, because all replicas need the same key.",
    )
    checkpoint_entries: int = Field(default=1000, ge=10, description="Write a checkpoint after this many new entries.")
    checkpoint_interval: Duration = Field(
        default=timedelta(minutes=10), description="Write a checkpoint this long after a new entry, at the latest."
    )
    checkpoints: tuple[CheckpointLocation, ...] = Field(default=(), description="Witnesses that store the checkpoints.")
    archive: Archive = Field(default=Archive(), description="Archive files for old entries.")


def _public(url: str) -> str:
    """Check the base URL of links; an empty text means that no URL is set."""
    return checked_url(http_url(url, "https://remediator.example.com")) if url else ""


def _listen(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if not value:
        raise ValueError("must name at least one address, for example 127.0.0.1:8095")
    try:
        for text in (value,) if isinstance(value, str) else value:
            parse_listen(text)
    except InputError as error:
        raise ValueError(str(error)) from None
    return value


class Config(Strict):
    """Settings of the remediator service."""

    apiVersion: Literal["remediator/v1"] = Field(description="Version of the format.")
    kind: Literal["Config"] = Field(description="Kind of the file.")
    listen: Annotated[str | tuple[str, ...], AfterValidator(_listen)] = Field(
        default="127.0.0.1:8095",
        description="Address and port on which the service listens. Or unix:/PATH for a Unix socket, or systemd for "
        "the sockets that systemd opened. A list for several.",
    )
    tls: ServerTls | None = Field(
        default=None, description="Certificate for HTTPS. Without a certificate, the service uses HTTP."
    )
    public_url: Annotated[str, AfterValidator(_public)] = Field(
        default="", description="Base URL of the links in messages. Without it, messages have no links."
    )
    environment: str = Field(
        default="default", description="Name of this environment. It selects the mode of each playbook."
    )
    state: FilePath = Field(description="Folder for all files that the service writes.")
    store: Literal["sqlite"] | UrlFile | str = Field(
        default="sqlite", description="sqlite, a postgresql:// URL, or {url_file: …} if the URL contains a password."
    )
    playbooks: tuple[FilePath, ...] = Field(description="Playbook files, or folders with playbook files.")
    inventory: FilePath = Field(description="Inventory file.")
    webhook: Webhook = Field(default=Webhook(), description="Webhook for Alertmanager.")
    alertmanagers: tuple[Endpoint, ...] = Field(
        default=(), description="Every peer of Alertmanager. Each peer is queried before an action."
    )
    alertmanager_receiver: str | None = Field(
        default=None,
        description="Receiver in Alertmanager that sends to this service. Default: the receivers seen so far.",
    )
    sources: dict[Name, SourceSettings] = Field(
        default={},
        description="Further sources of alerts by name, each with the endpoint /api/v1/alerts/NAME. webhook and "
        "alertmanagers describe the source alertmanager.",
    )
    outgoing_proxy: OutgoingProxy | None = Field(
        default=None,
        description="Proxy for HTTP requests to other servers. Variables such as HTTPS_PROXY are not read.",
    )
    prometheus: Endpoint | None = Field(default=None, description="Prometheus for checks, guards and charts.")
    links: Links = Field(default=Links(), description="Links to other tools.")
    watchdog: Watchdog = Field(default=Watchdog(), description="The alert that always fires.")
    identity_ignore_labels: tuple[str, ...] = Field(
        default=REPLICA_LABELS, description="Labels that do not distinguish alerts from each other."
    )
    known_labels: tuple[str, ...] = Field(
        default=(),
        description="Labels that alerts get after their rule, by external_labels or alert relabelling. Lint and doctor "
        "do not report them as unknown.",
    )
    channels: dict[str, MessageChannel] = Field(
        default={}, description="Notification channels by name. Playbooks use the names."
    )
    approvals: Approvals = Field(default=Approvals(), description="Approval requests.")
    access: Access = Field(default=Access(), description="Identity and roles.")
    guards: dict[str, Any] = Field(
        default={},
        description="Guard settings for all playbooks; a playbook can override them. off: guards to turn off.",
    )
    requests: dict[str, AllowedRequest] = Field(
        default={}, description="HTTP requests that the action http.request may send, by name."
    )
    commands: dict[str, AllowedCommand] = Field(
        default={}, description="Commands that the action command.run may run, by name."
    )
    kubernetes_logins: tuple[LoginProgram, ...] = Field(
        default=(),
        description="Programs that kubeconfig files may run to log in (users[].user.exec). No other program is run.",
    )
    plugins: tuple[str, ...] = Field(
        default=(),
        description="Installed plugin packages to load, by name. A plugin runs with the rights of the service.",
    )
    base_dir: FilePath = Field(
        default=Path(),
        validate_default=True,
        description="Base folder of relative paths in guards. Default: the folder of the settings file.",
    )
    timing: Timing = Field(default=Timing(), description="Intervals and limits.")
    audit: Audit = Field(default=Audit(), description="Signed checkpoints and archive of the audit log.")
    log: Log = Field(default=Log(), description="Logs of the service.")
    heartbeat: Heartbeat | None = Field(
        default=None, description="External monitor that notices when this service stops working."
    )
    tracing: Tracing | None = Field(default=None, description="Collector that gets a trace of each ended run.")
    cloud_events: CloudEvents | None = Field(
        default=None, description="Webhook that gets each change of a run's status as a CloudEvent."
    )
    kubernetes_events: bool = Field(
        default=False,
        description="Whether to write Kubernetes Events on the objects that runs act on. The account needs the right "
        "to create events.",
    )
    replica: str = Field(default="", description="Name of this replica. Default: host name and process ID.")

    @model_validator(mode="after")
    def _require_authentication(self) -> Config:
        if (
            not token_files(self.webhook)
            and self.webhook.basic is None
            and not all(each.is_local for each in self.addresses)
        ):
            raise ValueError(
                f"webhook: authentication is required because {self.listen!r} is not a loopback address; "
                "set webhook.token_file, webhook.tokens or webhook.basic"
            )
        return self

    @model_validator(mode="after")
    def _known_sources(self) -> Config:
        if ALERTMANAGER in self.sources:
            raise FieldError(
                "has the settings webhook, alertmanagers and alertmanager_receiver; give this source another name",
                ("sources", ALERTMANAGER),
                at_key=True,
            )
        if self.watchdog.source != ALERTMANAGER and self.watchdog.source not in self.sources:
            raise FieldError(
                f"unknown source {self.watchdog.source!r}; add it under sources, or write alertmanager",
                ("watchdog", "source"),
            )
        return self

    @model_validator(mode="after")
    def _links_fit(self) -> Config:
        if self.access.oidc is not None and not self.public_url:
            raise ValueError("access.oidc: set public_url too; the identity provider redirects browsers to it")
        if self.store != "sqlite" and self.audit.archive.min_age < timedelta(days=1):
            raise ValueError("audit.archive.min_age: must be at least 1d, because PostgreSQL keeps younger entries")
        if self.tls is not None and self.public_url.startswith("http://"):
            raise ValueError(f"public_url: {self.public_url!r} must begin with https://, because tls is set")
        return self

    @model_validator(mode="after")
    def _known_channels(self) -> Config:
        for setting in ("channels", "page_channels"):
            unknown = ", ".join(repr(name) for name in getattr(self.approvals, setting) if name not in self.channels)
            if unknown:
                raise ValueError(f"approvals.{setting}: unknown channel {unknown}; add it under channels")
        return self

    @model_validator(mode="after")
    def _known_undos(self) -> Config:
        check_undos("requests", self.requests)
        check_undos("commands", self.commands)
        return self

    @property
    def addresses(self) -> tuple[ListenAddress, ...]:
        """The addresses on which the service listens."""
        return tuple(parse_listen(text) for text in ((self.listen,) if isinstance(self.listen, str) else self.listen))

    @property
    def https(self) -> bool:
        """Whether browsers reach the service by HTTPS, so that cookies must be sent over HTTPS only."""
        return self.tls is not None or self.public_url.startswith("https://")

    @property
    def audit_origin(self) -> str:
        """Name of the audit log in checkpoints, and of its key."""
        return self.audit.origin or f"remediator/{self.environment}"

    @property
    def own_secret_files(self) -> tuple[Path, ...]:
        """The secret files that the service creates in its state folder."""
        return tuple(self.state / name for name in ("links.key", "audit.key", "webhook.token"))

    @property
    def anonymous_read_allowed(self) -> bool:
        """Whether callers without sign-in may read runs and plans.

        Default: only if the service listens on loopback and its public URL is on loopback too. With another public URL,
        a proxy on this host connects from loopback for everyone.
        """
        if self.access.anonymous_role == "auto":
            public = urlsplit(self.public_url).hostname
            return all(each.is_loopback for each in self.addresses) and (public is None or is_loopback(public))
        return self.access.anonymous_role == "viewer"


def read_secret(path: Path) -> str:
    """Read a secret from its file, without the newline at the end.

    Raises:
        ConfigurationError: the file cannot be read or is empty.
    """
    try:
        return _read_secret(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read secret file {str(path)!r}: {error}") from None


def configure_clients(config: Config) -> None:
    """Set the outgoing proxy, and the programs that may log in to clusters, for all clients of this process."""
    egress.use(config.outgoing_proxy)
    exec_login.use(config.kubernetes_logins)


def redactor_for(*models: BaseModel) -> Redactor:
    """Return a redactor for all secrets of the settings and the inventory, and for those that the service creates."""
    named = [each for model in models for each in _with_files(model)]
    own = (path for model in models if isinstance(model, Config) for path in model.own_secret_files)
    files = {*own, *(path for model in named for path in secret_files(model))}
    return Redactor(sorted({secret for path in files for secret in read_secrets(path)}))


def _with_files(model: BaseModel) -> tuple[BaseModel, ...]:
    """Return the parts of a model that name files.

    For an inventory with many services, return only typical services.
    """
    if not isinstance(model, Inventory):
        return (model,)
    return (*model.typical, model.defaults, *model.discover.values())
