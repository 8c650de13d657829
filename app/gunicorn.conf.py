"""gunicorn's configuration. The master reads it at start and at each HUP."""

import os
import shutil
from typing import Any

from prometheus_client import multiprocess

from app.logs import log_config
from app.settings import load_settings

_settings = load_settings()
if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    raise RuntimeError(
        "start the app with `python -m app`, which creates the shared directory for the workers' metrics"
    )

wsgi_app = "app.main:create_app()"
worker_class = "app.worker.Worker"
bind = f"{_settings.app_host}:{_settings.app_port}"
workers = _settings.web_concurrency
pidfile = str(_settings.pid_file)
graceful_timeout = _settings.app_graceful_timeout
timeout = 30
keepalive = 75
proc_name = "app"
control_socket_disable = True  # the app is controlled only by signals to the process in the PID file
logconfig_dict = log_config(_settings.log_level, _settings.log_format)


def child_exit(_server: Any, worker: Any) -> None:
    """Keep the counters of a dead worker and remove its gauges (live workers, memory, Redis)."""
    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(_server: Any) -> None:
    shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
