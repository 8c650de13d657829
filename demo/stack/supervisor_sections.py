"""The configuration of supervisord, with one section for each program of the stack."""

from __future__ import annotations

import os
import shlex
import sys

from demo.stack.programs import find
from demo.stack.settings import ROOT, Settings

_COMMON = {
    "autorestart": "true",
    "startsecs": "1",
    "startretries": "5",
    "stopasgroup": "true",
    "killasgroup": "true",
    "redirect_stderr": "true",
    "stdout_logfile_maxbytes": "5MB",
    "stdout_logfile_backups": "1",
}


def supervisord_conf(settings: Settings) -> str:
    """Return the sections of all programs. supervisord does not restart Redis, because the remediator does.

    The socket asks for no password. The kernel allows only this user to connect. Debian's node exporter, which reports
    crash loops to Prometheus, cannot send a password over a Unix socket.
    """
    head = {
        "supervisord": {
            "logfile": f"{settings.state}/logs/supervisord.log",
            "pidfile": f"{settings.state}/supervisord.pid",
            "childlogdir": f"{settings.state}/logs",
            "umask": "077",
            **({"user": "root"} if os.geteuid() == 0 else {}),
        },
        "unix_http_server": {"file": str(settings.supervisor_socket), "chmod": "0700"},
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
        "supervisorctl": {"serverurl": settings.supervisor_url},
    }
    for name, lines in (_redis(settings) | _app(settings) | _monitoring(settings) | _remediator(settings)).items():
        log = {"stdout_logfile": f"{settings.state}/logs/{name}.log", "directory": str(settings.state)}
        head[f"program:{name}"] = {**_COMMON, **log, **lines}
    return "\n".join(_section(name, lines) for name, lines in head.items())


def _section(name: str, lines: dict[str, str]) -> str:
    return f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in lines.items())


def _redis(settings: Settings) -> dict[str, dict[str, str]]:
    ports, state = settings.ports, settings.state
    exporter = _command(
        find("prometheus-redis-exporter"),
        f"-web.listen-address=127.0.0.1:{ports.redis_exporter}",
        f"-redis.addr=redis://127.0.0.1:{ports.redis}",
        "-connection-timeout=800ms",  # shorter than the scrape timeout, so that a hung Redis gives redis_up 0
    )
    return {
        "redis": {
            "command": _command(find("redis-server"), f"{state}/redis/redis.conf"),
            "autorestart": "false",
            "stopwaitsecs": "3",
            "priority": "10",
        },
        "redis-exporter": {
            "command": exporter,
            "environment": _environment(REDIS_PASSWORD=settings.secret("redis.password")),
        },
    }


def _app(settings: Settings) -> dict[str, dict[str, str]]:
    ports, state = settings.ports, settings.state
    environment = _environment(
        SHOP_APP_ENV="development",
        SHOP_APP_PORT=str(ports.app),
        SHOP_APP_STATE_DIR=f"{state}/app",
        SHOP_FAULTS_ENABLED="true",
        SHOP_MAX_IN_FLIGHT="32",  # low, so that the demonstration reaches the limit
        SHOP_REDIS_HOST="127.0.0.1",
        SHOP_REDIS_PASSWORD=settings.secret("redis.password"),
        SHOP_REDIS_PORT=str(ports.redis),
        SHOP_RELEASE_DIR=f"{state}/app/current",
        SHOP_WEB_CONCURRENCY="2",
    )
    nginx = (find("nginx"), "-p", f"{state}/nginx", "-c", f"{state}/nginx/nginx.conf", "-e", "stderr")
    return {
        "app": {
            "command": _command(sys.executable, "-m", "app"),
            "directory": str(ROOT),
            "environment": environment,
            "startsecs": "2",
            "startretries": "3",
            "stopwaitsecs": "12",
        },
        "nginx": {"command": _command(*nginx)},
        "traffic": {
            "command": _command(sys.executable, "-m", "demo.stack.traffic", f"http://127.0.0.1:{ports.nginx}"),
            "directory": str(ROOT),
        },
        "spike": {
            "command": _command(
                sys.executable,
                "-m",
                "demo.stack.load_spike",
                *(f"http://127.0.0.1:{port}" for port in (ports.nginx, ports.app)),
            ),
            "directory": str(ROOT),
            "autostart": "false",
            "autorestart": "false",
            "startsecs": "0",
        },
    }


def _monitoring(settings: Settings) -> dict[str, dict[str, str]]:
    ports, state = settings.ports, settings.state
    node = _command(
        find("prometheus-node-exporter"),
        f"--web.listen-address=127.0.0.1:{ports.node_exporter}",
        "--collector.disable-defaults",
        *(f"--collector.{name}" for name in ("cpu", "filesystem", "meminfo", "loadavg", "supervisord")),
        f"--collector.supervisord.url={settings.supervisor_url}",
        "--collector.filesystem.mount-points-exclude=^/(dev|proc|sys)($|/)",  # the state folder can be anywhere
    )
    prometheus = _command(
        find("prometheus"),
        f"--config.file={state}/prometheus/prometheus.yml",
        f"--storage.tsdb.path={state}/prometheus/data",
        "--storage.tsdb.retention.time=1d",
        f"--web.listen-address=127.0.0.1:{ports.prometheus}",
        "--log.level=warn",
        "--rules.alert.resend-delay=2s",  # an alert sent before Alertmanager listens is repeated after this time
    )
    alertmanager = _command(
        find("prometheus-alertmanager"),
        f"--config.file={state}/alertmanager/alertmanager.yml",
        f"--storage.path={state}/alertmanager/data",
        f"--web.listen-address=127.0.0.1:{ports.alertmanager}",
        "--cluster.listen-address=",
        "--log.level=warn",
    )
    return {
        "node-exporter": {"command": node},
        "prometheus": {"command": prometheus},
        "alertmanager": {"command": alertmanager},
    }


def _remediator(settings: Settings) -> dict[str, dict[str, str]]:
    argv = (sys.executable, "-m", "remediator", "serve", "--config", str(settings.remediator_yaml))
    return {"remediator": {"command": _command(*argv), "directory": str(ROOT), "stopwaitsecs": "30"}}


def _command(program: str | None, *arguments: str) -> str:
    assert program is not None, "programs.ensure() has run"
    return shlex.join((program, *arguments))


def _environment(**variables: str) -> str:
    return ",".join(f'{name}="{value}"' for name, value in variables.items())
