"""The ``remediator serve`` command."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, get_args

import click
import structlog
import uvicorn
from sqlalchemy import Connection

from remediator import __version__
from remediator.cli import _output
from remediator.cli._options import config_option
from remediator.cli._settings import check_kinds
from remediator.config import Config, read_secret
from remediator.errors import StoreError
from remediator.extensions.guard_settings import guards_off
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import load_config
from remediator.runtime import systemd
from remediator.runtime.access import WEBHOOK_TOKEN
from remediator.runtime.event_loop import ServiceLoop
from remediator.runtime.log_output import LogOutput, log_to
from remediator.service import Role, Service, run_service
from remediator.storage.repositories import inbox, outbox, runs
from remediator.web.application import Application, webhook_paths
from remediator.web.connections import ConnectionLimits, raise_descriptor_limit
from remediator.web.listener import Certificate, open_sockets, server_config

log: Any = structlog.get_logger("remediator")

_STOP_TASK = "log the stop"
_STOP_TIMEOUT = 2.0  # seconds to collect the runs and messages in flight
_FIRST_NOTIFICATIONS = 1.0  # seconds after the start in which only notifications are processed


@click.command("serve")
@config_option
@click.option(
    "--role",
    type=click.Choice(get_args(Role)),
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
    if config.sources:  # an expression that cannot be used is reported with its place in the file
        check_kinds(config_path, Registry.for_settings(config))
    output = log_to(sys.stderr.fileno(), config.log)
    try:
        with asyncio.Runner(loop_factory=ServiceLoop) as runner:
            runner.run(_serve(config, role, config_path, output))
    finally:
        output.drain()


class _Server(uvicorn.Server):
    """A uvicorn server without signal handlers. It logs its addresses as soon as its port is open.

    uvicorn raises a signal again after it has handled it. That would end the process before the current steps are
    finished and the store is closed.
    """

    announce: Callable[[], None] = staticmethod(lambda: None)
    """Called once, when the port is open."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port, then log the configuration."""
        await super().startup(sockets)
        if self.started:
            self.announce()

    async def main_loop(self) -> None:
        """Wait for the stop, and refresh the ``Date`` header every second. uvicorn looks ten times a second."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 1)

    def stop(self) -> None:
        """Accept no new requests, finish the current requests, and return."""
        self.should_exit = True
        self._stopping.set()


async def _serve(config: Config, role: Role, settings_file: Path, output: LogOutput) -> None:
    certificate = None if config.tls is None else Certificate(config.tls)
    descriptors = raise_descriptor_limit()
    token_file = config.state / WEBHOOK_TOKEN
    first_start = not token_file.exists()
    async with run_service(config, role=role, settings_file=settings_file) as service:
        service.health.counters["log"] = lambda: (output.lost, output.error)
        gc.collect()
        gc.freeze()  # exempt the objects of the start: tracing them again would block all answers for 100 ms
        limits = ConnectionLimits.for_descriptors(
            descriptors,
            [path.encode() for name in service.worker.ingest.sources for path in webhook_paths(name)],
            trusted=lambda address: (proxy := service.access.settings.proxy) is not None and proxy.trusts(address),
            on_refused=lambda reason: service.metrics.refused_connections.labels(reason).inc(),
        )
        application = Application(service)
        server = _Server(server_config(application, limits, certificate))
        sockets = [opened for address in config.addresses for opened in open_sockets(address)]

        listening = ", ".join(map(str, config.addresses))

        tasks: set[asyncio.Task[None]] = set()

        def announce() -> None:
            _show_token(token_file, first_start)
            log.info("serving", **served(service))
            systemd.notify("READY=1", f"STATUS=serving {listening}")
            tasks.add(asyncio.create_task(_load_pages(application), name="pages"))

        server.announce = announce
        if (interval := systemd.watchdog_interval()) is not None:
            able = lambda: not service.health.intake_problem()  # noqa: E731 - a name for what the next line means
            tasks.add(asyncio.create_task(systemd.run_watchdog_loop(able, interval), name="watchdog of systemd"))

        def stop() -> None:
            systemd.notify("STOPPING=1")
            tasks.add(asyncio.create_task(_log_stop(service), name=_STOP_TASK))
            service.closing.set()
            server.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.reload.request)
        if certificate is not None:
            tasks.add(asyncio.create_task(certificate.run_refresh_loop(), name="certificate"))
        try:
            await server.serve(list(sockets))
        finally:
            for task in tasks:
                if task.get_name() != _STOP_TASK:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for address in config.addresses:
                if address.path is not None:
                    address.path.unlink(missing_ok=True)
    log.info("stopped")


async def _load_pages(application: Application) -> None:
    """Load the pages and the API, after the notifications that Alertmanager repeats at once when the port is open."""
    await asyncio.sleep(_FIRST_NOTIFICATIONS)
    try:
        await application.console()
    except Exception:  # a damaged installation: alerts are still received, and each page tries again
        log.exception("the pages and the API cannot be loaded")


def _show_token(file: Path, first_start: bool) -> None:
    """Show the webhook token that the first start has created, only on a terminal: other users can read a log."""
    if first_start and file.exists() and sys.stderr.isatty():
        _output.echo(f"webhook token for Alertmanager, shown once: {read_secret(file)}", err=True)


async def _log_stop(service: Service) -> None:
    """Log the work in flight when the service gets the signal to stop.

    Other replicas, or the next start, continue it.
    """
    try:
        async with asyncio.timeout(_STOP_TIMEOUT):
            found = await service.context.store.read(lambda connection: in_flight(connection, service))
    except (StoreError, TimeoutError) as error:
        found = {"unknown": str(error) or "the store does not answer"}
    log.info("stopping", **found)


def in_flight(connection: Connection, service: Service) -> dict[str, Any]:
    """Return the unfinished work: runs of this replica, other open runs, and waiting notifications and messages."""
    mine = set(service.worker.in_flight)
    open_runs = runs.list_page(connection, 1000, only=runs.OPEN_ONLY)
    return {
        "in_flight": [
            f"{run.playbook} on {run.target}: {run.status} ({run.id})" for run in open_runs if run.id in mine
        ],
        "other_open_runs": sum(run.id not in mine for run in open_runs),
        "waiting_notifications": inbox.count_pending(connection),
        "unsent_messages": outbox.count_waiting(connection),
    }


def served(service: Service) -> dict[str, Any]:
    """Return the configuration for the log: addresses, store, and the number of playbooks in each mode."""
    config, context = service.config, service.context
    address = next((each for each in config.addresses if each.port), None)  # None: no TCP address is known
    own_url = None if address is None else f"{'https' if config.https else 'http'}://{address}"
    modes = Counter(playbook.mode_in(config.environment) for playbook in context.playbooks.active)
    return {
        "version": __version__,
        "listen": [str(address) for address in config.addresses],
        "console": config.public_url or own_url,
        "role": service.role,
        "environment": config.environment,
        "store": context.store.description or context.store.name,
        "playbooks": dict(sorted(modes.items())),
        "services": len(context.playbooks.inventory.services),
        "alertmanagers": [endpoint.url for endpoint in config.alertmanagers],
        "sources": sorted(config.sources),
        "prometheus": None if config.prometheus is None else config.prometheus.url,
        "channels": sorted(config.channels),
        "people": len(service.access.people.people),
        "guards_off": [item.guard for item in guards_off(config)],
    }
