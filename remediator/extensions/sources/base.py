"""The source contract. A source sends alerts, and may have an API that reports which alerts still fire.

Each source has a name, its own endpoint (``/api/v1/alerts/NAME``) and its own credentials. It maps its notifications to
one model (:mod:`remediator.core.alert`). An alert belongs to its source: the same labels from two sources are two
alerts. Only the source that sent an alert can report its end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from remediator.clients.alertmanager.client import AlertmanagerStatus, FiringAlert
from remediator.core.alert import ALERTMANAGER, Alert, Notification, identity, parse_notification, stored_notification


class Peer(Protocol):
    """A server that knows which alerts of a source fire."""

    url: str

    async def alerts(self, filters: Iterable[str] = ()) -> Sequence[FiringAlert]:
        """Return its alerts that have not ended.

        Args:
            filters: matchers as text; all must match; a server may return more alerts.

        Raises:
            ClientError: it does not answer.
        """
        ...

    async def status(self) -> AlertmanagerStatus:
        """Return its status. Raises what :meth:`alerts` raises."""
        ...

    async def aclose(self) -> None:
        """Close its connections."""
        ...


class Source:
    """Base class of a source. By default, it reads the format of Alertmanager, which is the format of the model.

    Args:
        name: its name in the settings.
        settings: an instance of ``Settings``.
    """

    kind: ClassVar[str]
    Settings: ClassVar[type[BaseModel]]
    peers: Sequence[Peer] = ()
    """The servers that know which alerts fire; the service queries all of them. Empty: it is unknown whether an alert
    still fires, so a person is asked before an action."""
    receiver: str | None = None
    """The reconcile loop adds only alerts for this receiver. None: the receivers of earlier notifications."""

    def __init__(self, name: str, settings: Any) -> None:
        self.name = name
        self.settings = settings

    def check(self, body: bytes) -> None:
        """Check a body before it is stored. A refused body is never processed, and the sender gets a 4xx.

        Raises:
            PayloadError: no retry can make it valid.
        """
        parse_notification(body)

    def read(self, body: bytes) -> Notification:
        """Return the notification in a stored body, which :meth:`check` has accepted.

        Raises:
            PayloadError: it cannot be mapped. The body becomes a dead letter with this text.
        """
        return stored_notification(body)

    def identity(self, alert: Alert, ignore: Collection[str] = ()) -> str:
        """Return the identity of an alert. ``ignore`` has the labels that do not distinguish alerts."""
        return identity(self.name, alert.labels, ignore)


DEFAULT = Source(ALERTMANAGER, None)
"""The source of the endpoint ``/api/v1/alerts``, without peers."""
