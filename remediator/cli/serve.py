"""``remediator serve``: the service."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import structlog
import uvicorn

from remediator.cli._options import config_option
from remediator.config import Config, Log
from remediator.errors import ConfigurationError
from remediator.playbooks.loader import load_config
from remediator.service import Role, Service, run_service
from remediator.web.routes import application


@click.command("serve")
@config_option
@click.option(
    "--role",
    type=click.Choice(["all", "receive", "work"]),
    default="all",
    show_default=True,
    help="Acknowledge notifications only, or only do what follows from them (PostgreSQL).",
)
def command(config_path: Path, role: Role) -> None:
    """Run the service until it is told to stop (SIGTERM, Ctrl-C).

    Playbooks and inventory are read again when they change, and on SIGHUP; if they cannot be used, the last good
    ones stay in force. The settings file is read at the start only.

    \b
    Example:
      remediator serve --config /etc/remediator/remediator.yaml
    """
    config = load_config(config_path, Config)
    set_up_logging(config.log)
    asyncio.run(_serve(config, role))


class _Server(uvicorn.Server):
    """uvicorn's server without its own handling of signals: that ends with raising them again, which would end the
    process before steps under way are finished and the store is closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """Take no new requests, finish those under way, and return."""
        self.should_exit = True


def _stop(server: _Server, service: Service) -> None:
    service.closing.set()
    server.stop()


async def _serve(config: Config, role: Role) -> None:
    host, _, port = config.listen.rpartition(":")
    if not port.isdigit():
        raise ConfigurationError(f"listen: {config.listen!r} is not address:port")
    async with run_service(config, role=role) as service:
        gc.collect()
        gc.freeze()  # what start-up made stays: looking through it again takes 100 ms, in which nothing is answered
        server = _Server(
            uvicorn.Config(
                application(service),
                host=host.strip("[]"),
                port=int(port),
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                proxy_headers=False,  # who connects is who we believe, or not; see access.proxy
                backlog=2048,
            )
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, _stop, server, service)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.reloading.ask)
        await server.serve()
    if not server.started:
        raise ConfigurationError(f"listen: {config.listen} cannot be bound; is something else on that port?")


def set_up_logging(settings: Log) -> None:
    """One line an event, on standard error; ``human`` for eyes, ``json`` for machines."""
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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=max(level, logging.WARNING), format="%(asctime)s [%(levelname)s] %(name)s: %(message)s")
