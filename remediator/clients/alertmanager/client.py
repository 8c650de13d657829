"""Alertmanager API v2 client: alerts and their suppression, silences, and the state of the cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Literal, TypeVar

import msgspec

from remediator.clients.endpoints import Endpoint
from remediator.clients.http import HttpClient, Part
from remediator.core.clock import rfc3339
from remediator.core.matchers import CLASSIC_NAME, equals
from remediator.core.sizes import MEBIBYTE
from remediator.errors import BadAnswer, Unreachable

T = TypeVar("T")


class Suppression(Part, frozen=True, kw_only=True, rename="camel"):
    """Whether an alert notifies, and what suppresses it.

    ``unprocessed``: not evaluated yet. ``active``: it notifies. ``suppressed``: silences (IDs), inhibiting alerts
    (fingerprints) or mute time intervals (names) suppress it. Before Alertmanager 0.28, ``muted_by`` is always empty.
    """

    state: Literal["unprocessed", "active", "suppressed"]
    silenced_by: tuple[str, ...] = ()
    inhibited_by: tuple[str, ...] = ()
    muted_by: tuple[str, ...] = ()

    @property
    def suppressed(self) -> bool:
        """Whether anything suppresses the alert."""
        return self.state == "suppressed" or bool(self.silenced_by or self.inhibited_by or self.muted_by)


class Receiver(Part, frozen=True, kw_only=True, rename="camel"):
    """A receiver. Its name is as in the configuration, without the regex escapes of webhooks."""

    name: str


class FiringAlert(Part, frozen=True, kw_only=True, rename="camel"):
    """An alert that has not ended."""

    fingerprint: str
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: datetime
    ends_at: datetime
    updated_at: datetime
    status: Suppression
    receivers: tuple[Receiver, ...] = ()
    generator_url: str = msgspec.field(default="", name="generatorURL")
    """The page of the rule that fires, as Prometheus writes it with its external URL."""


class AlertGroup(Part, frozen=True, kw_only=True, rename="camel"):
    """Alerts that are notified together."""

    labels: dict[str, str]
    receiver: Receiver
    alerts: tuple[FiringAlert, ...]


class Matcher(Part, frozen=True, kw_only=True, rename="camel"):
    """One matcher of a silence. If ``is_equal`` is false, it is negated."""

    name: str
    value: str
    is_regex: bool = False
    is_equal: bool = True


class SilenceStatus(Part, frozen=True, kw_only=True, rename="camel"):
    """State of a silence."""

    state: Literal["pending", "active", "expired"]


class Silence(Part, frozen=True, kw_only=True, rename="camel"):
    """A silence in Alertmanager."""

    id: str
    status: SilenceStatus
    matchers: tuple[Matcher, ...]
    starts_at: datetime
    ends_at: datetime
    created_by: str
    comment: str = ""


class NewSilence(Part, frozen=True, kw_only=True, rename="camel"):
    """A silence to create. At least one matcher must not match the empty string, or Alertmanager rejects it."""

    matchers: tuple[Matcher, ...]
    starts_at: datetime
    ends_at: datetime
    created_by: str
    comment: str


class Peer(Part, frozen=True, kw_only=True, rename="camel"):
    """Another member of the cluster."""

    name: str
    address: str


class Cluster(Part, frozen=True, kw_only=True, rename="camel"):
    """Status of the cluster: ``ready``, ``settling`` (started, still receiving silences) or ``disabled``."""

    status: str
    peers: tuple[Peer, ...] = ()


class _Version(Part, frozen=True, kw_only=True, rename="camel"):
    version: str


class _Config(Part, frozen=True, kw_only=True, rename="camel"):
    original: str = ""


class _Status(Part, frozen=True, kw_only=True, rename="camel"):
    cluster: Cluster
    version_info: _Version
    uptime: datetime | None = None
    config: _Config = _Config()


class AlertmanagerStatus(Part, frozen=True, kw_only=True, rename="camel"):
    """Version, start time, cluster and configuration of an Alertmanager process."""

    version: str
    started: datetime | None
    """Start time; None if the server does not report it, like the Alertmanager inside Grafana."""
    cluster: Cluster
    configuration: str = ""
    """Its configuration file as YAML; Alertmanager replaces secrets in it."""


class _Posted(msgspec.Struct, frozen=True):
    silenceID: str


class Alertmanager:
    """A client of one Alertmanager. In a cluster, use one client per peer. Raises what `HttpClient.call` raises."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.url = endpoint.url
        self._http = HttpClient(endpoint, max_bytes=64 * MEBIBYTE)

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def alerts(
        self,
        filters: Iterable[str] = (),
        *,
        silenced: bool = True,
        inhibited: bool = True,
        active: bool = True,
        unprocessed: bool = True,
        receiver: str | None = None,
    ) -> tuple[FiringAlert, ...]:
        """Return the alerts that have not ended.

        Args:
            filters: matchers as text; all must match; see `matcher`.
            silenced: whether to include silenced alerts; the next three arguments work the same way.
            receiver: an anchored regular expression for the names of receivers.
        """
        flags = {"silenced": silenced, "inhibited": inhibited, "active": active, "unprocessed": unprocessed}
        query = [(name, str(value).lower()) for name, value in flags.items()]
        query += [("filter", each) for each in filters]
        if receiver is not None:
            query.append(("receiver", receiver))
        answer = await self._http.get("/api/v2/alerts", query)
        return answer.json(tuple[FiringAlert, ...])

    async def groups(self) -> tuple[AlertGroup, ...]:
        """Return the notification groups of all alerts that have not ended, including suppressed ones."""
        return (await self._http.get("/api/v2/alerts/groups")).json(tuple[AlertGroup, ...])

    async def silences(self, filters: Iterable[str] = ()) -> tuple[Silence, ...]:
        """Return all silences, including expired ones until Alertmanager deletes them."""
        query = [("filter", each) for each in filters]
        return (await self._http.get("/api/v2/silences", query)).json(tuple[Silence, ...])

    async def post_silence(self, silence: NewSilence) -> str:
        """Create a silence and return its ID. This is not idempotent: each call creates another silence."""
        times = {"startsAt": rfc3339(silence.starts_at), "endsAt": rfc3339(silence.ends_at)}
        answer = await self._http.call("POST", "/api/v2/silences", json={**msgspec.to_builtins(silence), **times})
        return answer.json(_Posted).silenceID

    async def expire_silence(self, silence_id: str) -> None:
        """End a silence now. Alertmanager rejects (404, old versions 500) an unknown or expired one."""
        if not silence_id.replace("-", "").isalnum():  # it becomes a part of the path
            raise BadAnswer(f"{silence_id!r} is not a valid ID of a silence")
        await self._http.call("DELETE", f"/api/v2/silence/{silence_id}")

    async def receivers(self) -> tuple[str, ...]:
        """Return the names of the receivers."""
        answer = await self._http.get("/api/v2/receivers")
        return tuple(each.name for each in answer.json(tuple[Receiver, ...]))

    async def status(self) -> AlertmanagerStatus:
        """Return version, start time, cluster and configuration."""
        found = (await self._http.get("/api/v2/status")).json(_Status)
        return AlertmanagerStatus(
            version=found.version_info.version,
            started=found.uptime,
            cluster=found.cluster,
            configuration=found.config.original,
        )

    async def ready(self) -> None:
        """Check that Alertmanager is ready. Raise an error if it is not."""
        await self._http.get("/-/ready")


async def marked(alertmanagers: Iterable[Alertmanager], mark: str) -> list[str]:
    """Return the active silences with this comment, from the first Alertmanager that answers.

    Raises:
        Unreachable: no Alertmanager answers.
    """
    silences = await first_reachable(alertmanagers, lambda alertmanager: alertmanager.silences())
    ours = (item for item in silences if item.comment == mark and item.status.state != "expired")
    return sorted(item.id for item in ours)  # sorted, so that two plans of the same silences are equal


async def first_reachable(alertmanagers: Iterable[Alertmanager], call: Callable[[Alertmanager], Awaitable[T]]) -> T:
    """Return the answer of the first Alertmanager that is reachable. The members of a cluster replicate silences.

    Raises:
        Unreachable: no Alertmanager is reachable or configured.
    """
    last = Unreachable("no Alertmanager is configured; add one to 'alertmanagers' in the settings")
    for alertmanager in alertmanagers:
        try:
            return await call(alertmanager)
        except Unreachable as error:
            last = error
    raise last


def matchers_for(labels: Mapping[str, str]) -> list[str]:
    """Return matchers that every alert with these labels matches; the caller compares the labels exactly.

    Label names that need quotes are left out: Alertmanager before 0.27 rejects the whole request because of them.
    """
    return [equals(name, value) for name, value in labels.items() if CLASSIC_NAME.fullmatch(name)]
