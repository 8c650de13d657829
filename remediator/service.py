"""The composition root: settings in, a running service out. One straight function; everything opened is closed in
reverse order, whether the start failed half-way or the service ends."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy
import sqlalchemy.exc
import structlog
from sqlalchemy import Connection

from remediator import __version__, registry
from remediator.audit import Draft, Kind
from remediator.clients.alertmanager import Alertmanager
from remediator.clients.prometheus import Prometheus
from remediator.clock import Clock, SystemClock
from remediator.config import Config, UrlFile, read_secret
from remediator.engine import Book, Engine, Pace
from remediator.errors import StoreUnavailable
from remediator.ids import Ids
from remediator.intake import IntakeSettings
from remediator.loader import Loaded, load
from remediator.match import Index
from remediator.metrics import Metrics
from remediator.notifiers import Notifier
from remediator.receive import Credentials
from remediator.records import playbooks, runs
from remediator.run import Run
from remediator.sender import send_forever
from remediator.stores import Store, Tx
from remediator.stores.migrate import require_current
from remediator.worker import Loops, supervise
from remediator.world import World

log: Any = structlog.get_logger("remediator")


@dataclass(frozen=True, slots=True)
class Service:
    """A wired service: what the web edge and the tests need of it."""

    config: Config
    engine: Engine
    loops: Loops
    metrics: Metrics
    credentials: Credentials


def open_store(config: Config, clock: Clock) -> Store:
    """The store that the settings name.

    Raises:
        StoreError: it cannot be used; the message says what to do.
    """
    if config.store == "sqlite":
        from remediator.stores.sqlite import SqliteStore  # noqa: PLC0415 - only what is used is loaded

        config.state.mkdir(parents=True, exist_ok=True)
        return SqliteStore(config.state / "remediator.db", clock)
    from remediator.stores.postgres import PostgresStore  # noqa: PLC0415

    return PostgresStore(store_url(config))


def store_url(config: Config) -> str:
    """The PostgreSQL URL, from the settings or from the file that they name."""
    if isinstance(config.store, UrlFile):
        return read_secret(config.store.url_file)
    return config.store


@asynccontextmanager
async def running(config: Config, clock: Clock | None = None) -> AsyncIterator[Service]:
    """A service with its loops, for as long as the context lasts."""
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        loaded = load(config.playbooks, config.inventory, registry.catalogue())
        store = open_store(config, clock)
        stack.push_async_callback(store.close)
        world = _world(config, clock, stack)
        metrics = Metrics()
        engine = _engine(config, clock, store, world, loaded, metrics)
        await store.write(lambda tx: _started(tx, engine, config, loaded))
        loops = Loops(engine, Index(loaded.playbooks, config.watchdog.alertname), _intake(config))
        service = Service(config, engine, loops, metrics, _credentials(config))
        for name, loop in _loops(service).items():
            stack.push_async_callback(_stop, asyncio.create_task(supervise(name, loop, clock.sleep), name=name))
        yield service


def _world(config: Config, clock: Clock, stack: AsyncExitStack) -> World:
    platforms = registry.make_platforms()
    alertmanagers = tuple(Alertmanager(endpoint) for endpoint in config.alertmanagers)
    prometheus = None if config.prometheus is None else Prometheus(config.prometheus)
    for client in (*platforms.values(), *alertmanagers, *((prometheus,) if prometheus else ())):
        stack.push_async_callback(client.aclose)
    return World(platforms, prometheus, alertmanagers, clock)


def _engine(config: Config, clock: Clock, store: Store, world: World, loaded: Loaded, metrics: Metrics) -> Engine:
    timing = config.timing
    return Engine(
        store=store,
        clock=clock,
        ids=Ids(),
        replica=config.replica or f"{socket.gethostname()}-{os.getpid()}",
        book=Book(loaded.playbooks, loaded.inventory, config.environment),
        actions=registry.make_actions(world),
        checks=registry.make_checks(world),
        guards=registry.make_guards(world),
        guard_defaults=config.guards,
        pace=Pace(lease=timing.lease, recheck=timing.recheck, deadline=timing.deadline),
        on_event=_reporter(metrics),
    )


def _reporter(metrics: Metrics) -> Callable[[str, Run, Mapping[str, Any]], None]:
    def report(kind: str, run: Run, data: Mapping[str, Any]) -> None:
        if kind == "action":
            metrics.actions.labels(run.playbook, run.target).inc()
            if run.first_action_at is not None:
                metrics.first_action.observe((run.first_action_at - run.created_at).total_seconds())
            log.info(f"{run.playbook} on {run.target}: {data['call']}", run=run.id, step=data["step"])
            return
        reason = run.reason or ""
        metrics.transitions.labels(run.playbook, run.status.value, reason.partition(":")[0]).inc()
        text = run.detail.get("text") or ", ".join(run.detail.get("proof", ())) or reason
        because = {"because": text} if text else {}
        log.info(f"{run.playbook} on {run.target}: {run.status.value}", run=run.id, was=data["from"], **because)

    return report


def _intake(config: Config) -> IntakeSettings:
    return IntakeSettings(
        ignore_labels=frozenset(config.identity_ignore_labels),
        quiet=config.timing.quiet,
        watchdog=config.watchdog.alertname,
    )


def _credentials(config: Config) -> Credentials:
    webhook = config.webhook
    bearer = None if webhook.token_file is None else read_secret(webhook.token_file).encode()
    basic = None
    if webhook.basic is not None:
        basic = (webhook.basic.username.encode(), read_secret(webhook.basic.password_file).encode())
    return Credentials(bearer, basic)


def _started(tx: Tx, engine: Engine, config: Config, loaded: Loaded) -> None:
    playbooks.keep(tx, loaded.playbooks)
    if engine.store.name == "sqlite":
        runs.forget_leases(tx)  # the file's lock is ours, so whoever held them is gone
    tx.audit(
        Draft(
            kind=Kind.SERVICE_STARTED,
            actor=engine.actor,
            data={"version": __version__, "store": engine.store.name, "environment": config.environment},
        )
    )
    versions = {playbook.name: playbook.content_hash for playbook in loaded.playbooks}
    tx.audit(Draft(kind=Kind.CONFIG_LOADED, actor=engine.actor, data={"playbooks": versions}))


def _loops(service: Service) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
    loops, engine = service.loops, service.engine
    channels = registry.make_channels(service.config.channels)
    fallback: Notifier = registry.make_fallback()
    return {
        "take in": loops.take_in_forever,
        "advance runs": loops.advance_forever,
        "close episodes": loops.close_forever,
        "send messages": lambda: send_forever(engine, channels, fallback, loops.poll),
    }


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@contextmanager
def read_only(config: Config) -> Iterator[Connection]:
    """A connection for commands that only look; works beside a running service, and without one.

    Raises:
        StoreUnavailable: there is no such database, or it cannot be read.
    """
    if config.store == "sqlite":
        path = config.state / "remediator.db"
        if not path.is_file():
            raise StoreUnavailable(f"{path}: there is no database yet; has the service ever run?")
        url = sqlalchemy.make_url(f"sqlite:///file:{path}?mode=ro&uri=true")
    else:
        url = sqlalchemy.make_url(store_url(config)).set(drivername="postgresql+psycopg")
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect() as connection:
            require_current(connection)
            yield connection
    except sqlalchemy.exc.DBAPIError as error:
        raise StoreUnavailable(f"the database cannot be read: {error.orig}") from None
    finally:
        engine.dispose()
