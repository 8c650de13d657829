"""The ``remediator serve`` command."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

import click
import structlog
import uvicorn

from remediator import __version__
from remediator.cli._options import config_option
from remediator.config import Config, Log
from remediator.playbooks.loader import load_config
from remediator.runtime.log_output import LogOutput
from remediator.service import Role, Service, guards_off, run_service
from remediator.web.connections import ConnectionLimits, raise_descriptor_limit
from remediator.web.listener import Certificate, open_sockets, server_config
from remediator.web.routes import WEBHOOK_PATHS, application

log: Any = structlog.get_logger("remediator")


@click.command("serve")
@config_option
@click.option(
    "--role",
    type=click.Choice(["all", "receive", "work"]),
    default="all",
    help="Part of the work: receive notifications, work on runs, or all (default: all); parts need PostgreSQL.",
)
def command(config_path: Path, role: Role) -> None:
    """Run the service.

    SIGTERM or Ctrl-C stops it after the current steps. Changed playbooks and a changed inventory are reloaded
    automatically, and on SIGHUP; if they have errors, the last valid version stays active. So are the people file and
    the sections 'access' and 'webhook' of the settings file; the rest of it is read only at the start.

    \b
    Example:
      remediator serve --config /etc/remediator/remediator.yaml
    """
    config = load_config(config_path, Config)
    output = set_up_logging(config.log)
    asyncio.run(_serve(config, role, config_path, output))


class _Server(uvicorn.Server):
    """A uvicorn server without signal handlers, which logs what it serves as soon as its port is open.

    uvicorn raises a signal again after it has handled it. That would end the process before the current steps are
    finished and the store is closed.
    """

    announce: Callable[[], None] = staticmethod(lambda: None)
    """Called once, when the port is open."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port, then say what is served there."""
        await super().startup(sockets)
        if self.started:
            self.announce()

    def stop(self) -> None:
        """Accept no new requests, finish the current ones, and return."""
        self.should_exit = True


async def _serve(config: Config, role: Role, settings_file: Path, output: LogOutput) -> None:
    certificate = None if config.tls is None else Certificate(config.tls)
    descriptors = raise_descriptor_limit()
    async with run_service(config, role=role, settings_file=settings_file) as service:
        service.metrics.log_lines_lost.set_function(lambda: output.lost)
        gc.collect()
        gc.freeze()  # objects of the start stay: tracing them again would block all answers for 100 ms
        limits = ConnectionLimits.for_descriptors(
            descriptors,
            [path.encode() for path in WEBHOOK_PATHS],
            trusted=lambda address: (proxy := service.access.settings.proxy) is not None and proxy.trusts(address),
            on_refused=lambda reason: service.metrics.refused_connections.labels(reason).inc(),
        )
        server = _Server(server_config(application(service), limits, certificate))
        sockets = open_sockets(config.address)
        server.announce = lambda: log.info("serving", **served(service))

        def stop() -> None:
            service.closing.set()
            server.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.reload.request)
        refresh = None if certificate is None else asyncio.create_task(certificate.run_refresh_loop())
        try:
            await server.serve(list(sockets))
        finally:
            if refresh is not None:
                refresh.cancel()
            if config.address.path is not None:
                config.address.path.unlink(missing_ok=True)


def served(service: Service) -> dict[str, Any]:
    """Return what the service serves, for the log: where, with what, and how many playbooks in which mode."""
    config, context = service.config, service.context
    modes = Counter(playbook.mode_in(config.environment) for playbook in context.playbooks.active)
    return {
        "version": __version__,
        "listen": config.listen,
        "url": config.public_url or None,
        "role": service.role,
        "environment": config.environment,
        "store": context.store.description or context.store.name,
        "playbooks": dict(sorted(modes.items())),
        "services": len(context.playbooks.inventory.services),
        "alertmanagers": [endpoint.url for endpoint in config.alertmanagers],
        "prometheus": None if config.prometheus is None else config.prometheus.url,
        "channels": sorted(config.channels),
        "people": len(service.access.people.people),
        "guards_off": [item.guard for item in guards_off(config)],
    }


def set_up_logging(settings: Log) -> LogOutput:
    """Write one line per event to standard error, as text (``human``) or as JSON. Return the output."""
    output = LogOutput(sys.stderr.fileno())
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    render: Any = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%S.%fZ", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, output)),
    )
    logging.basicConfig(
        level=max(level, logging.WARNING),
        format="%(asctime)s [%(levelname)s] %(name)s: %(message)s",
        stream=cast(TextIO, output),
    )
    return output
