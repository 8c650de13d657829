"""Post each change of a run's status to a webhook, as a CloudEvent 1.0 in structured mode."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from remediator.audit import Kind
from remediator.audit.entry import Entry
from remediator.clients.endpoints import read_secret
from remediator.clients.webhook import Hook, HookRefused, split
from remediator.core import trace_context
from remediator.core.export_settings import CloudEvents
from remediator.runtime.run_export import PermanentlyRefused

_SECONDS = 10.0
_RETRY = frozenset({408, 425, 429})
"""Statuses below 500 that do not mean that the receiver will refuse the event again."""


def cloud_event(entry: Entry, origin: str) -> dict[str, Any] | None:
    """Return the event of an entry of the audit log; None if the entry is no change of status.

    Args:
        entry: the entry. Its number is the ID of the event, so an event that is sent twice can be recognized.
        origin: name of the audit log, for the source of the event.
    """
    if entry.kind == Kind.RUN_MATCHED.value:
        status = "matched"
    elif entry.kind == Kind.RUN_TRANSITION.value:
        status = str(entry.data["to"])
    else:
        return None
    run = str(entry.run)
    return {
        "specversion": "1.0",
        "id": str(entry.seq),
        "source": f"/{origin}",
        "type": f"remediator.run.{status}",
        "subject": run,
        "time": entry.written,
        "datacontenttype": "application/json",
        "traceparent": trace_context.traceparent(run),
        "data": {
            "run": run,
            "playbook": entry.playbook,
            "status": status,
            "reason": entry.reason,
            "actor": entry.actor,
            **entry.data,
        },
    }


class CloudEventsExporter:
    """Posts the events.

    Args:
        settings: the webhook.
        origin: name of the audit log.
    """

    name = "cloud events"

    def __init__(self, settings: CloudEvents, origin: str) -> None:
        self._settings, self._origin = settings, origin

    async def send(self, entry: Entry) -> None:
        """Post the event of an entry, if it has one. The files of the settings are read each time.

        Raises:
            PermanentlyRefused: the receiver refuses the event.
            ClientError: the receiver cannot be reached or does not answer.
            OSError, ValueError: a file cannot be read.
        """
        event = cloud_event(entry, self._origin)
        if event is None:
            return
        address = self._settings.url or read_secret(self._settings.url_file)  # type: ignore[arg-type] # one is set
        base, path = split(address, "cloud_events")
        headers = {"Content-Type": "application/cloudevents+json; charset=UTF-8"}
        if self._settings.token_file is not None:
            headers["Authorization"] = f"Bearer {read_secret(self._settings.token_file)}"
        async with aclosing(Hook("the receiver of events", base, _SECONDS)) as hook:
            try:
                await hook.call("POST", path, event, headers)
            except HookRefused as error:
                if error.status < 500 and error.status not in _RETRY:
                    raise PermanentlyRefused(str(error)) from None
                raise
