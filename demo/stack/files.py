"""All files of the stack's programs, written below the state folder.

``prometheus.yml``, ``alertmanager.yml`` and ``alerting/rules.yml`` are made from the files of the repository by
:mod:`demo.stack.fast_timings`.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from demo.stack import fast_timings
from demo.stack.programs import find
from demo.stack.settings import ROOT, Settings
from demo.stack.supervisor_sections import supervisord_conf

FOLDERS = ("redis", "prometheus", "alertmanager", "nginx", "remediator", "app", "logs")
SECRETS = ("redis.password", "webhook.token")
FIRST_RELEASE = "1.0.0"
_IN_FLIGHT = 'sum(app_requests_in_progress{job="fastapi-app"}) or 0 * max(up{job="fastapi-app"} == 0)'
"""Requests that the app serves now. An app that answers no scrape completes no request, so none can be lost."""


def write_all(settings: Settings, without_alerts: Collection[str] = ()) -> None:
    """Write every file. Secrets and releases are written only once, so that a second start keeps them.

    Args:
        settings: the stack.
        without_alerts: names of alerts to leave out of the rules.
    """
    state = settings.state
    state.mkdir(parents=True, exist_ok=True)
    state.chmod(0o700)
    for folder in (*FOLDERS, "nginx/remediator", "redis/backups", "remediator/playbooks"):
        (state / folder).mkdir(exist_ok=True)
    for name in SECRETS:
        if not (state / name).exists():
            _write(state / name, secrets.token_urlsafe(24), mode=0o600)
    _write(settings.ports_file, json.dumps(asdict(settings.ports)))
    _write(state / "redis/redis.conf", redis_conf(settings), mode=0o600)
    _write(state / "prometheus/rules.yml", dump(fast_timings.rules(read("alerting/rules.yml"), without_alerts)))
    _write(state / "prometheus/prometheus.yml", dump(prometheus(settings)))
    _write(state / "alertmanager/alertmanager.yml", dump(alertmanager(settings)))
    _write(state / "nginx/nginx.conf", nginx_conf(settings))
    for path in sorted((ROOT / "playbooks").glob("*.yaml")):
        _write(state / "remediator/playbooks" / path.name, fast_timings.playbook(path.read_text(encoding="utf-8")))
    _write(settings.remediator_yaml, dump(remediator(settings)))
    _write(state / "remediator/inventory.yaml", dump(inventory(settings)))
    _write(settings.supervisord_conf, supervisord_conf(settings), mode=0o600)
    release(settings, FIRST_RELEASE)


def read(name: str) -> Any:
    """Return a parsed YAML file of the repository."""
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def dump(data: Any) -> str:
    """Return YAML text with keys in the given order."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=200)


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    path.touch(mode=mode)
    path.chmod(mode)
    path.write_text(text, encoding="utf-8")


def prometheus(settings: Settings) -> Any:
    """Return prometheus.yml with the addresses of this stack."""
    ports = settings.ports
    chosen = {
        "app:8000": ports.app,
        "redis_exporter:9121": ports.redis_exporter,
        "node_exporter:9100": ports.node_exporter,
        "prometheus:9090": ports.prometheus,
        "alertmanager:9093": ports.alertmanager,
        "remediator:8095": ports.remediator,
    }
    addresses = {name: f"127.0.0.1:{port}" for name, port in chosen.items()}
    made = fast_timings.prometheus(read("prometheus.yml"), addresses, "rules.yml")
    node = next(job for job in made["scrape_configs"] if job["job_name"] == "node")
    node["metric_relabel_configs"] = _own_disk_only(settings)
    return made


def _own_disk_only(settings: Settings) -> list[dict[str, Any]]:
    """Return relabelling that drops other disks of Redis, because the node exporter sees the whole host."""
    ours = re.sub(r"([.+])", r"\\\1", str(settings.state / "redis"))
    return [
        {"source_labels": ["mountpoint"], "regex": ".*redis.*", "target_label": "__tmp_whose", "replacement": "other"},
        {"source_labels": ["mountpoint"], "regex": ours, "target_label": "__tmp_whose", "replacement": "ours"},
        {"source_labels": ["__tmp_whose"], "regex": "other", "action": "drop"},
        {"regex": "__tmp_whose", "action": "labeldrop"},
    ]


def alertmanager(settings: Settings) -> Any:
    """Return alertmanager.yml with the address and token of this stack."""
    url = f"http://127.0.0.1:{settings.ports.remediator}/api/v1/alerts"
    return fast_timings.alertmanager(read("alertmanager.yml"), url, str(settings.state / "webhook.token"))


def redis_conf(settings: Settings) -> str:
    """Return redis.conf with password, append-only file and snapshots, on loopback."""
    return f"""\
port {settings.ports.redis}
bind 127.0.0.1
protected-mode yes
requirepass {settings.secret("redis.password")}
dir "{settings.state / "redis"}"
appendonly yes
appendfsync everysec
save 300 10 60 1000
logfile ""
"""


def nginx_conf(settings: Settings) -> str:
    """Return nginx.conf for the app, with rate limits per address and an include for rules of the remediator.

    ``nginx/remediator/*.conf`` is included in the location of every request except those for health. A rule may be
    ``limit_req zone=tight burst=20 nodelay;`` or, for maintenance, ``return 503;``. After HUP, nginx reads it.
    """
    nginx, app = settings.state / "nginx", settings.ports.app
    temporary = "".join(
        f'  {kind}_temp_path "{nginx}/{kind.partition("_")[0]}";\n'
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
daemon off;
worker_processes 1;
pid "{nginx}/nginx.pid";
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
  access_log off;
{temporary}\
  client_max_body_size 1m;
  client_body_buffer_size 1m;
  proxy_max_temp_file_size 0;
  limit_req_zone $binary_remote_addr zone=perip:1m rate=200r/s;
  limit_req_zone $binary_remote_addr zone=tight:1m rate=20r/s;
  limit_req_status 429;
  upstream app {{ server 127.0.0.1:{app} max_fails=0; keepalive 8; }}
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_connect_timeout 2s;
  proxy_read_timeout 15s;
  server {{
    listen 127.0.0.1:{settings.ports.nginx};
    location / {{
      limit_req zone=perip burst=400 nodelay;
      include "{nginx}/remediator/*.conf";
      proxy_pass http://app;
    }}
    location = /livez {{ proxy_pass http://app; }}
    location = /readyz {{ proxy_pass http://app; }}
  }}
}}
"""


def remediator(settings: Settings) -> dict[str, Any]:
    """Return the remediator's settings with the shipped playbooks, the addresses of this stack, and short times."""
    ports = settings.ports
    return {
        "apiVersion": "remediator/v1",
        "kind": "Config",
        "listen": f"127.0.0.1:{ports.remediator}",
        "public_url": f"http://127.0.0.1:{ports.remediator}",
        "environment": "demo",
        "state": ".",
        "playbooks": ["playbooks"],
        "inventory": "inventory.yaml",
        "webhook": {"token_file": "../webhook.token"},
        "alertmanagers": [{"url": f"http://127.0.0.1:{ports.alertmanager}"}],
        "prometheus": {"url": f"http://127.0.0.1:{ports.prometheus}"},
        "watchdog": {"alertname": "Watchdog", "max_silence": "1m"},
        "timing": {"resolve_grace": "3s", "guard_recheck_interval": "2s"},
        "guards": {
            "cooldown": "1s",
            "rate_limit": {"target": ["20/1h"], "playbook": ["50/1h"], "global": ["100/1h"]},
            "circuit_breaker": {"ineffective": "20/6h"},  # the demonstration shows the same fault several times
            "dependency": {"settle": "20s"},  # the app recovers from the fault of Redis before its own faults follow
        },
    }


def inventory(settings: Settings) -> dict[str, Any]:
    """Return the services of this stack that actions may change."""
    ports = settings.ports
    services: Mapping[str, Any] = {
        "redis": {
            "platform": _program(settings, "redis"),
            "redis": {"host": "127.0.0.1", "port": ports.redis, "password_file": "../redis.password"},
            "redis_exporter": {"job": "redis-exporter"},
            "disk": {"path": "../redis", "full_percent": 85},
            # on another disk than that of Redis, so that a moved file frees space at once
            "backups": {"path": "../redis/backups", "keep": 2, "quarantine": "../quarantine", "grace": "1h"},
        },
        "app": {
            "platform": _program(settings, "app"),
            "depends_on": ["redis"],
            "http": {
                "url": f"http://127.0.0.1:{ports.app}",
                "ready": "/readyz",
                "live": "/livez",
                "in_flight": _IN_FLIGHT,
            },
            "releases": {"releases": "../app/releases", "current": "../app/current"},
            "app_server": {"pid_file": "../app/app.pid", "min_workers": 1, "max_workers": 6},
            "nginx": {
                "include": "../nginx/remediator/rules.conf",
                "pid_file": "../nginx/nginx.pid",
                "config": "../nginx/nginx.conf",
                "binary": find("nginx") or "nginx",
                "zone": "tight",
            },
        },
    }
    return {"apiVersion": "remediator/v1", "kind": "Inventory", "services": dict(services)}


def _program(settings: Settings, name: str) -> dict[str, str]:
    return {"kind": "supervisor", "url": settings.supervisor_url, "program": name}


def release(settings: Settings, version: str, manifest: str = "") -> None:
    """Make a release folder of the app, current if there is none. See app/README.md for the manifest."""
    folder = settings.state / "app/releases" / version
    if not folder.exists():
        folder.mkdir(parents=True)
        (folder / "RELEASE").write_text(f"{version}\n")
        (folder / "release.toml").write_text(manifest)
    if not (settings.state / "app/current").is_symlink():
        switch(settings, version)


def switch(settings: Settings, version: str) -> None:
    """Make this release the next one that the app starts, as a deployment does. The link changes atomically."""
    draft = settings.state / "app/.next"
    draft.symlink_to(Path("releases", version))
    draft.replace(settings.state / "app/current")
