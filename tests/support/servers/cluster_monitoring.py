"""Prometheus and Alertmanager in a cluster, with the names that the Prometheus operator gives them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

NAMESPACE = "monitoring"
_RECEIVER = "http://remediator.remediator.svc:8095/api/v1/alerts"


def monitoring(root: Path, webhook_token: str) -> list[dict[str, Any]]:
    """Return the objects, with the shipped rules and routes.

    Args:
        root: folder of the project.
        webhook_token: the token that Alertmanager sends to the remediator.
    """
    printed = subprocess.run([root / "deploy/kubernetes/rules.sh"], capture_output=True, text=True, check=True).stdout
    scraped = {"redis-exporter": ("redis", "redis-exporter.shop.svc:9121"), "fastapi-app": ("app", "app.shop.svc:8000")}
    prometheus = {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": ["/etc/monitoring/rules.yml"],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [f"alertmanager-operated.{NAMESPACE}.svc:9093"]}]}]
        },
        "scrape_configs": [
            {
                "job_name": job,
                "static_configs": [{"targets": [target], "labels": {"service": name, "namespace": "shop"}}],
            }
            for job, (name, target) in scraped.items()
        ],
    }
    alertmanager = yaml.safe_load((root / "alertmanager.yml").read_text())
    hook = alertmanager["receivers"][0]["webhook_configs"][0]
    hook |= {"url": _RECEIVER, "http_config": {"authorization": {"credentials": webhook_token}}}
    files = {
        "rules.yml": yaml.safe_dump(yaml.safe_load(printed)["spec"]),
        "prometheus.yml": yaml.safe_dump(prometheus),
        "alertmanager.yml": yaml.safe_dump(alertmanager),
    }
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "monitoring", "namespace": NAMESPACE},
            "data": files,
        },
        *_server(
            "prometheus-operated",
            "prom/prometheus:v3.15.0",
            9090,
            ["--config.file=/etc/monitoring/prometheus.yml", "--storage.tsdb.path=/data"],
        ),
        *_server(
            "alertmanager-operated",
            "prom/alertmanager:v0.34.1",
            9093,
            ["--config.file=/etc/monitoring/alertmanager.yml", "--storage.path=/data", "--cluster.listen-address="],
        ),
    ]


def _server(name: str, image: str, port: int, arguments: list[str]) -> list[dict[str, Any]]:
    labels = {"app": name}
    container = {
        "name": "main",
        "image": image,
        "args": arguments,
        "ports": [{"containerPort": port}],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": port}, "timeoutSeconds": 5},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/monitoring"}, {"name": "data", "mountPath": "/data"}],
    }
    pod = {
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "monitoring"}}, {"name": "data", "emptyDir": {}}],
    }
    metadata = {"name": name, "namespace": NAMESPACE}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"port": port}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        },
    ]


def as_text(objects: list[dict[str, Any]]) -> str:
    """Return the objects as ``kubectl apply`` reads them."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
