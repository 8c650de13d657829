"""A stand-in for Grafana Alerting: a real HTTP server with its API and the signed webhooks of a contact point.

The bodies follow the documentation of Grafana 12 (webhook notifier) and the API of Alertmanager, which Grafana serves
below ``/api/alertmanager/grafana``. Grafana itself is in no package registry that tests can use.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TOKEN = "glsa-service-account-of-the-test"
SECRET = "a-shared-secret-of-the-test"


class Grafana:
    """The address of the stand-in and its alerts."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.alerts: list[dict[str, Any]] = []
        self.requests: list[str] = []

    def fire(self, silenced_by: tuple[str, ...] = (), **labels: str) -> None:
        """Make an alert fire, with the labels that Grafana adds."""
        self.alerts.append(
            {
                "annotations": {"__values__": "{}"},
                "endsAt": "2099-01-01T00:00:00.000Z",
                "fingerprint": "c6eadffa33fcdf37",
                "receivers": [{"active": None, "integrations": None, "name": "remediator"}],
                "startsAt": "2026-01-01T00:00:00.000Z",
                "status": {
                    "inhibitedBy": [],
                    "mutedBy": [],
                    "silencedBy": list(silenced_by),
                    "state": "suppressed" if silenced_by else "active",
                },
                "updatedAt": "2026-01-01T00:00:00.000Z",
                "generatorURL": f"{self.url}/alerting/grafana/u1/view",
                "labels": {**labels, "__alert_rule_uid__": "u1", "__alert_rule_namespace_uid__": "n1"},
            }
        )


@contextmanager
def grafana() -> Iterator[Grafana]:
    """Serve the API on a port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.requests.append(self.path)
            right = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            known = urlsplit(self.path).path == "/api/alertmanager/grafana/api/v2/alerts"
            body = json.dumps(made.alerts if right and known else {"message": "Unauthorized"}).encode()
            self.send_response(200 if right and known else 401 if known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Grafana(server.server_address[1])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield made
        finally:
            server.shutdown()


def notification(status: str = "firing", **labels: str) -> bytes:
    """Return a body of a contact point with one alert and every documented field."""
    ended = "2026-01-02T00:00:00Z" if status == "resolved" else "0001-01-01T00:00:00Z"
    return json.dumps(
        {
            "receiver": "remediator",
            "status": status,
            "orgId": 1,
            "alerts": [
                {
                    "status": status,
                    "labels": labels,
                    "annotations": {"summary": "Redis is down"},
                    "startsAt": "2026-01-01T09:51:03.157076+02:00",
                    "endsAt": ended,
                    "generatorURL": "https://play.grafana.org/alerting/1afz29v7z/edit",
                    "fingerprint": "c6eadffa33fcdf37",
                    "silenceURL": "https://play.grafana.org/alerting/silence/new?alertmanager=grafana",
                    "dashboardURL": "",
                    "panelURL": "",
                    "imageURL": "",
                    "values": {"B": 44.23943737541908, "C": 1},
                    "valueString": "[ var='B' value=44.2 ]",
                }
            ],
            "groupLabels": {},
            "commonLabels": labels,
            "commonAnnotations": {},
            "externalURL": "https://play.grafana.org/",
            "version": "1",
            "groupKey": "{}:{}",
            "truncatedAlerts": 0,
            "title": "[FIRING:1]",
            "state": "alerting",
            "message": "**Firing**",
        }
    ).encode()


def signed(body: bytes, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    """Return the headers that Grafana sends with a body: the time, and the signature of ``TIME:BODY``."""
    stamp = str(int(time.time() if at is None else at))
    digest = hmac.new(secret.encode(), f"{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    return {"X-Grafana-Alerting-Signature": digest, "X-Grafana-Alerting-Timestamp": stamp}
