"""Everything that the stack's programs read, written under the state folder from the repository's own files.

``prometheus.yml``, ``alertmanager.yml`` and ``alerting/rules.yml`` at the root stay the one source: here only
addresses, files and intervals are changed, and a test says which.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Any

import yaml

from deploy.local.programs import find
from deploy.local.settings import ROOT, Settings

FIRST_RELEASE = "1.0.0"
SHORT = {"group_wait": "1s", "group_interval": "2s", "repeat_interval": "1h"}


def write_all(settings: Settings) -> None:
    """Write every file; secrets only once, so that a second start keeps them."""
    for folder in ("redis", "prometheus", "alertmanager", "nginx/remediator", "remediator", "app", "logs"):
        (settings.state / folder).mkdir(parents=True, exist_ok=True)
    settings.state.chmod(0o700)
    for name in ("redis.password", "webhook.token", "supervisor.password"):
        _secret(settings.state / name)
    _write(settings.state / "redis/redis.conf", redis_conf(settings), secret=True)
    _write(settings.state / "prometheus/rules.yml", dump(rules(read("alerting/rules.yml"))))
    _write(settings.state / "prometheus/prometheus.yml", dump(prometheus(read("prometheus.yml"), settings)))
    _write(settings.state / "alertmanager/alertmanager.yml", dump(alertmanager(read("alertmanager.yml"), settings)))
    _write(settings.state / "nginx/nginx.conf", nginx_conf(settings))
    _write(settings.remediator_yaml, dump(remediator(settings)))
    _write(settings.state / "remediator/inventory.yaml", dump(inventory(settings)))
    release(settings, FIRST_RELEASE)
    _write(settings.supervisord_conf, supervisord_conf(settings), secret=True)


def read(name: str) -> Any:
    """A YAML file of the repository."""
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def dump(data: Any) -> str:
    """YAML, in the order given."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=200)


def _write(path: Path, text: str, *, secret: bool = False) -> None:
    path.touch(mode=0o600 if secret else 0o644)
    path.write_text(text, encoding="utf-8")


def _secret(path: Path) -> str:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(24))
    return path.read_text()


def rules(source: Any) -> Any:
    """The same rules with waits for a demonstration: every ``for`` at most 2 s, every range at most 15 s."""
    for group in source["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = "2s"
            for longer in ("[1m]", "[2m]", "[10m]"):
                rule["expr"] = rule["expr"].replace(longer, "[15s]")
            if rule["alert"] == "AppCrashLoopBackOff":
                rule["expr"] = rule["expr"].replace("[5m]", "[1m]")
    return source


def prometheus(source: Any, settings: Settings) -> Any:
    """prometheus.yml with loopback addresses and short intervals."""
    ports = settings.ports
    addresses = {
        "app:8000": ports.app,
        "redis_exporter:9121": ports.redis_exporter,
        "node_exporter:9100": ports.node_exporter,
        "prometheus:9090": ports.prometheus,
        "alertmanager:9093": ports.alertmanager,
        "remediator:8095": ports.remediator,
    }
    source["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"}
    source["rule_files"] = ["rules.yml"]
    for block in (*source["alerting"]["alertmanagers"], *source["scrape_configs"]):
        for static in block["static_configs"]:
            static["targets"] = [f"127.0.0.1:{addresses[target]}" for target in static["targets"]]
    return source


def alertmanager(source: Any, settings: Settings) -> Any:
    """alertmanager.yml with loopback addresses, this stack's token and short intervals."""
    source["route"].update(SHORT)
    source["route"]["routes"][0].update(group_interval="5s", repeat_interval="5s")
    for webhook in source["receivers"][0]["webhook_configs"]:
        webhook["url"] = f"http://127.0.0.1:{settings.ports.remediator}/api/v1/alerts"
        webhook["http_config"]["authorization"]["credentials_file"] = str(settings.state / "webhook.token")
    return source


def redis_conf(settings: Settings) -> str:
    """Password, append-only file and snapshots, on loopback."""
    return f"""\
port {settings.ports.redis}
bind 127.0.0.1
protected-mode yes
requirepass {_secret(settings.state / "redis.password")}
dir {settings.state / "redis"}
appendonly yes
appendfsync everysec
save 300 10
save 60 1000
logfile ""
"""


def nginx_conf(settings: Settings) -> str:
    """In front of the app: a rate limit zone, and a folder of rules that the remediator may put there."""
    nginx = settings.state / "nginx"
    return f"""\
daemon off;
worker_processes 1;
pid {nginx}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {nginx}/body;
  proxy_temp_path {nginx}/proxy;
  fastcgi_temp_path {nginx}/fastcgi;
  uwsgi_temp_path {nginx}/uwsgi;
  scgi_temp_path {nginx}/scgi;
  limit_req_zone $binary_remote_addr zone=perip:1m rate=200r/s;
  limit_req_status 429;
  upstream app {{ server 127.0.0.1:{settings.ports.app} max_fails=0; keepalive 8; }}
  server {{
    listen 127.0.0.1:{settings.ports.nginx};
    include {nginx}/remediator/*.conf;
    location / {{
      limit_req zone=perip burst=400 nodelay;
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_connect_timeout 2s;
      proxy_read_timeout 15s;
    }}
  }}
}}
"""


def remediator(settings: Settings) -> dict[str, Any]:
    """The remediator's settings: the shipped playbooks, this stack's addresses, a demonstration's patience."""
    ports = settings.ports
    return {
        "apiVersion": "remediator/v1",
        "kind": "Config",
        "listen": f"127.0.0.1:{ports.remediator}",
        "public_url": f"http://127.0.0.1:{ports.remediator}",
        "environment": "demo",
        "state": ".",
        "playbooks": [str(ROOT / "playbooks")],
        "inventory": "inventory.yaml",
        "webhook": {"token_file": "../webhook.token"},
        "alertmanagers": [{"url": f"http://127.0.0.1:{ports.alertmanager}"}],
        "prometheus": {"url": f"http://127.0.0.1:{ports.prometheus}"},
        "watchdog": {"alertname": "Watchdog", "within": "1m"},
        "timing": {"quiet": "3s", "recheck": "2s", "reconcile": "5s"},
        "guards": {
            "cooldown": "1s",
            "budget": {"target": ["20/1h"], "playbook": ["50/1h"], "everything": ["100/1h"]},
            "breaker": {"ineffective": "20/6h"},  # the same fault is shown several times
        },
    }


def inventory(settings: Settings) -> dict[str, Any]:
    """The services of this stack that actions may touch."""

    def program(name: str) -> dict[str, Any]:
        return {
            "kind": "supervisor",
            "url": f"unix://{settings.supervisor_socket}",
            "program": name,
            "username": "remediator",
            "password_file": "../supervisor.password",
        }

    return {
        "apiVersion": "remediator/v1",
        "kind": "Inventory",
        "services": {
            "redis": {
                "platform": program("redis"),
                "redis": {"host": "127.0.0.1", "port": settings.ports.redis, "password_file": "../redis.password"},
            },
            "app": {
                "platform": program("app"),
                "depends_on": ["redis"],
                "http": {"url": f"http://127.0.0.1:{settings.ports.app}", "ready": "/readyz", "live": "/livez"},
            },
        },
    }


def release(settings: Settings, version: str) -> None:
    """A release folder of the app, current if none is."""
    folder = settings.state / "app/releases" / version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "RELEASE").write_text(f"{version}\n")
    current = settings.state / "app/current"
    if not current.is_symlink():
        current.symlink_to(folder)


def supervisord_conf(settings: Settings) -> str:
    """All programs. Redis is not restarted by supervisord: that is what the remediator is here to do."""
    password = _secret(settings.state / "supervisor.password")
    head = f"""\
[supervisord]
logfile={settings.state}/logs/supervisord.log
pidfile={settings.state}/supervisord.pid
childlogdir={settings.state}/logs
{"user=root" if _root() else ""}
[unix_http_server]
file={settings.supervisor_socket}
chmod=0700
username=remediator
password={password}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{settings.supervisor_socket}
username=remediator
password={password}
"""
    return head + "\n".join(_section(settings, name, **program) for name, program in _programs(settings).items())


def _root() -> bool:
    return os.geteuid() == 0


def _section(settings: Settings, name: str, command: str, **lines: str) -> str:
    chosen = {
        "autorestart": "true",
        "startsecs": "1",
        "startretries": "5",
        "stopasgroup": "true",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": f"{settings.state}/logs/{name}.log",
        "stdout_logfile_maxbytes": "5MB",
        "stdout_logfile_backups": "1",
    } | lines
    return f"[program:{name}]\ncommand={command}\n" + "".join(f"{key}={value}\n" for key, value in chosen.items())


def _programs(settings: Settings) -> dict[str, dict[str, str]]:
    ports, state = settings.ports, settings.state
    redis_password = _secret(state / "redis.password")
    supervisor = f"unix://{settings.supervisor_socket}"
    return {
        "redis": {
            "command": f"{find('redis-server')} {state}/redis/redis.conf",
            "autorestart": "false",
            "stopwaitsecs": "3",
            "priority": "10",
        },
        "redis-exporter": {
            "command": f"{find('prometheus-redis-exporter')} -web.listen-address 127.0.0.1:{ports.redis_exporter}"
            f" -redis.addr redis://127.0.0.1:{ports.redis} -connection-timeout 800ms",
            "environment": f'REDIS_PASSWORD="{redis_password}"',
        },
        "node-exporter": {
            "command": f"{find('prometheus-node-exporter')} --web.listen-address=127.0.0.1:{ports.node_exporter}"
            f" --collector.disable-defaults --collector.cpu --collector.filesystem --collector.meminfo"
            f" --collector.loadavg --collector.supervisord --collector.supervisord.url={supervisor}",
        },
        "app": {
            "command": f"{sys.executable} -m app",
            "directory": str(ROOT),
            "environment": _environment(
                APP_ENV="development",
                APP_PORT=str(ports.app),
                APP_STATE_DIR=f"{state}/app",
                RELEASE_DIR=f"{state}/app/current",
                REDIS_HOST="127.0.0.1",
                REDIS_PORT=str(ports.redis),
                REDIS_PASSWORD=redis_password,
                FAULTS_ENABLED="true",
            ),
            "startsecs": "2",
            "startretries": "3",
            "stopwaitsecs": "12",
        },
        "nginx": {"command": f"{find('nginx')} -p {state}/nginx -c {state}/nginx/nginx.conf -e stderr"},
        "prometheus": {
            "command": f"{find('prometheus')} --config.file={state}/prometheus/prometheus.yml"
            f" --storage.tsdb.path={state}/prometheus/data --storage.tsdb.retention.time=1d"
            f" --web.listen-address=127.0.0.1:{ports.prometheus} --web.enable-lifecycle --log.level=warn"
            # an alert sent before Alertmanager listened is sent again after this, not after a minute
            " --rules.alert.resend-delay=2s",
        },
        "alertmanager": {
            "command": f"{find('prometheus-alertmanager')} --config.file={state}/alertmanager/alertmanager.yml"
            f" --storage.path={state}/alertmanager/data --web.listen-address=127.0.0.1:{ports.alertmanager}"
            " --cluster.listen-address= --log.level=warn",
        },
        "remediator": {
            "command": f"{sys.executable} -m remediator serve --config {settings.remediator_yaml}",
            "directory": str(ROOT),
            "stopwaitsecs": "30",
        },
        "traffic": {
            "command": f"{sys.executable} -m deploy.local.traffic http://127.0.0.1:{ports.nginx}",
            "directory": str(ROOT),
        },
    }


def _environment(**variables: str) -> str:
    return ",".join(f'{name}="{value}"' for name, value in variables.items())
