"""Events that the remediator writes on objects, which ``kubectl describe`` shows beside the Events of Kubernetes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from remediator.core.clock import rfc3339

CONTROLLER = "remediator"
_LONGEST = 1024
"""Bytes of a message that the API server accepts."""


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """An event of an object."""

    key: str
    """Identifies the event: written again, it is the same one."""
    at: datetime
    reason: str
    """One word in CamelCase, for example ``ActionStarted``."""
    message: str
    is_warning: bool
    action: str
    instance: str
    """The replica."""


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """An object of the cluster."""

    api_version: str
    kind: str
    name: str
    uid: str
    namespace: str = ""
    """Empty for objects outside of namespaces, such as nodes; their events are in ``default``."""


def event_document(about: ObjectReference, event: ObjectEvent) -> dict[str, Any]:
    """Return the Event (v1) to create."""
    namespace = about.namespace or "default"
    instant = rfc3339(event.at)[:19] + "Z"
    key = hashlib.sha256(f"{event.key} {about.uid}".encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{about.name[:200]}.{key}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "name": about.name,
            "uid": about.uid,
            **({"namespace": about.namespace} if about.namespace else {}),
        },
        "reason": event.reason,
        "message": event.message.encode()[:_LONGEST].decode(errors="ignore"),
        "type": "Warning" if event.is_warning else "Normal",
        "action": event.action[:128],
        "source": {"component": CONTROLLER},
        "reportingComponent": CONTROLLER,
        "reportingInstance": event.instance[:128],
        "firstTimestamp": instant,
        "lastTimestamp": instant,
        "count": 1,
    }
