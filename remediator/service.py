"""The composition root: settings in, a running service out. One straight function; everything opened is closed in
reverse order, whether the start failed half-way or the service ends."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import sqlalchemy
import sqlalchemy.exc
import structlog
from pydantic import ValidationError
from sqlalchemy import Connection

from remediator import __version__
from remediator.audit import Draft, Kind, Redactor
from remediator.clients.alertmanager.client import Alertmanager
from remediator.clients.prometheus.client import Prometheus
from remediator.config import Config, UrlFile, read_secret, redactor_for
from remediator.core.clock import Clock, SystemClock
from remediator.core.identity import People
from remediator.core.ids import Ids
from remediator.core.run import ENGINE_VERSION, Run
from remediator.core.tokens import Keyring, load_keyring
from remediator.errors import ConfigurationError, StoreUnavailable
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import Guard
from remediator.extensions.notifiers.log import LogNotifier
from remediator.extensions.registry import Registry
from remediator.pipeline.approve import void_outdated_requests
from remediator.pipeline.context import PipelineContext, PlaybookSet, Timeouts
from remediator.pipeline.ingest import IntakeSettings
from remediator.pipeline.match import Index
from remediator.pipeline.receive import Credentials
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import LoadedConfig, load, load_config
from remediator.playbooks.model import DisabledGuard
from remediator.reporting.alert_series import last_hour_png
from remediator.reporting.messages import MessageRenderer
from remediator.runtime.checkpointing import run_checkpoint_loop
from remediator.runtime.maintenance import (
    REPLICA_TIMEOUT,
    MaintenanceSettings,
    require_compatible_replicas,
    run_maintenance_loop,
)
from remediator.runtime.metrics import Metrics
from remediator.runtime.monitors import FloodSettings, MonitorSettings, run_monitors_loop
from remediator.runtime.outbox import Outbox, run_outbox_loop
from remediator.runtime.pruning import run_pruning_loop
from remediator.runtime.reconcile import ReconcileSettings, run_reconcile_loop
from remediator.runtime.reload import ReloadSettings, reload_settings, run_reload_loop, signature
from remediator.runtime.retention import run_retention_loop
from remediator.runtime.scheduled_undo import run_scheduled_undo_loop
from remediator.runtime.settings import checkpoint_settings, pruning_settings, retention_settings
from remediator.runtime.worker import Worker, run_supervised
from remediator.storage import Store, StoreClock, Tx
from remediator.storage.migrate import require_current
from remediator.storage.repositories import blocked_runs, playbooks, replicas, runs
from remediator.storage.url import parse_postgresql_url

log: Any = structlog.get_logger("remediator")


Role = Literal["all", "receive", "work"]


@dataclass(frozen=True, slots=True)
class Service:
    """A wired service: what the web edge and the tests need of it."""

    config: Config
    context: PipelineContext
    loops: Worker
    metrics: Metrics
    credentials: Credentials
    keyring: Keyring
    people: People
    world: ClientSet
    registry: Registry
    reloading: ReloadSettings
    role: Role = "all"
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the service is about to stop: streams to browsers end."""


def open_store(config: Config, clock: Clock, redactor: Redactor) -> Store:
    """The store that the settings name.

    Raises:
        StoreError: it cannot be used; the message says what to do.
    """
    if config.store == "sqlite":
        from remediator.storage.sqlite import SqliteStore  # noqa: PLC0415 - only what is used is loaded

        return SqliteStore(database_file(config), clock, redactor)
    from remediator.storage.postgres import PostgresStore  # noqa: PLC0415

    return PostgresStore(store_url(config), clock, redactor)


def database_file(config: Config) -> Path:
    """The SQLite file, in a folder that is made if need be.

    Raises:
        StoreUnavailable: the folder cannot be made.
    """
    try:
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)  # what is seen on record is not for all
    except OSError as error:
        text = f"{config.state}: cannot be made a folder: {error.strerror}; correct its rights or 'state'"
        raise StoreUnavailable(text) from None
    return config.state / "remediator.db"


def store_url(config: Config) -> sqlalchemy.URL:
    """The PostgreSQL URL, from the settings or from the file that they name.

    Raises:
        ConfigurationError: it is none.
    """
    text = read_secret(config.store.url_file) if isinstance(config.store, UrlFile) else config.store
    return parse_postgresql_url(text)


@asynccontextmanager
async def run_service(config: Config, clock: Clock | None = None, role: Role = "all") -> AsyncIterator[Service]:
    """A service with its loops, for as long as the context lasts.

    Args:
        role: ``receive`` only acknowledges notifications, ``work`` only does what follows from them.
    """
    if config.store == "sqlite" and role != "all":
        raise ConfigurationError("store: sqlite has one process, so it has all roles; use PostgreSQL for others")
    clock = clock or SystemClock()
    registry = Registry.load(config.plugins)
    async with AsyncExitStack() as stack:
        seen = signature((*config.playbooks, config.inventory))
        loaded = load(config.playbooks, config.inventory, registry.catalogue())
        redactor = redactor_for(config, loaded.inventory)
        store = open_store(config, clock, redactor)
        stack.push_async_callback(store.close)
        world = _world(config, registry, clock, stack, lambda: context.playbooks.inventory)
        metrics = Metrics()
        context = _context(config, registry, StoreClock(store, clock), store, world, loaded, metrics)
        _require_same_time(store)
        await require_compatible_replicas(context)
        await store.write(lambda tx: _started(tx, context, config, registry, loaded, role))
        loops = Worker(context, Index(loaded.playbooks, config.watchdog.alertname), ingest_settings(config))
        keyring = load_keyring(config.approvals.keys_file or config.state / "links.key")
        door, people = _credentials(config), load_people(config)
        reloading = reload_settings(config, registry, loops, metrics, store, seen)
        service = Service(config, context, loops, metrics, door, keyring, people, world, registry, reloading, role)
        post = _post(config, registry, keyring, people, world, store)
        stack.push_async_callback(post.aclose)
        for name, loop in _loops(service, world, post).items():
            stack.push_async_callback(_stop, asyncio.create_task(run_supervised(name, loop, clock.sleep), name=name))
        yield service


CLOCKS_APART = timedelta(seconds=30)
"""Host and database may differ by so much. Leases and timers follow the database; people read the host's logs."""


def _require_same_time(store: Store) -> None:
    apart = abs(store.clock_offset.total_seconds())
    if apart > CLOCKS_APART.total_seconds():
        raise StoreUnavailable(
            f"this host's clock and the database's are {apart:.0f} s apart; set both by NTP, then start again"
        )


@asynccontextmanager
async def read_only_context(config: Config, store: Store, clock: Clock | None = None) -> AsyncIterator[PipelineContext]:
    """An engine without loops, on a store of the caller's: what commands ask with that change nothing."""
    clock = clock or SystemClock()
    registry = Registry.load(config.plugins)
    async with AsyncExitStack() as stack:
        loaded = load(config.playbooks, config.inventory, registry.catalogue())
        world = _world(config, registry, clock, stack, lambda: loaded.inventory)
        yield _context(config, registry, clock, store, world, loaded, Metrics())


def _world(
    config: Config, registry: Registry, clock: Clock, stack: AsyncExitStack, inventory: Callable[[], Inventory]
) -> ClientSet:
    platforms = registry.make_platforms()
    alertmanagers = tuple(Alertmanager(endpoint) for endpoint in config.alertmanagers)
    prometheus = None if config.prometheus is None else Prometheus(config.prometheus)
    for client in (*platforms.values(), *alertmanagers, *((prometheus,) if prometheus else ())):
        stack.push_async_callback(client.aclose)
    return ClientSet(
        platforms=platforms,
        prometheus=prometheus,
        alertmanagers=alertmanagers,
        clock=clock,
        folder=config.base_dir,
        state=config.state,
        requests=config.requests,
        commands=config.commands,
        inventory=inventory,
    )


def _context(
    config: Config,
    registry: Registry,
    clock: Clock,
    store: Store,
    world: ClientSet,
    loaded: LoadedConfig,
    metrics: Metrics,
) -> PipelineContext:
    timing = config.timing
    return PipelineContext(
        store=store,
        clock=clock,
        ids=Ids(),
        replica=config.replica or f"{socket.gethostname()}-{os.getpid()}",
        playbooks=PlaybookSet(loaded.playbooks, loaded.inventory, config.environment),
        actions=registry.make_actions(world),
        checks=registry.make_checks(world),
        guards=guards_on(config, registry.make_guards(world)),
        guard_defaults=guard_defaults(config, registry.guards),
        platforms=world.platforms,
        timeouts=Timeouts(
            lease=timing.lease,
            guard_recheck_interval=timing.guard_recheck_interval,
            run_timeout=timing.run_timeout,
            recurrence_window=timing.recurrence_window,
        ),
        on_event=_reporter(metrics),
    )


def guards_off(config: Config) -> tuple[DisabledGuard, ...]:
    """The guards that are off in this whole installation, each with its written reason.

    Raises:
        ConfigurationError: one has no reason.
    """
    try:
        return tuple(DisabledGuard.model_validate(item) for item in config.guards.get("off", ()))
    except ValidationError as error:
        raise ConfigurationError(f"guards.off{_first(error)}") from None


def guards_on(config: Config, guards: Sequence[Guard]) -> tuple[Guard, ...]:
    """Return the guards without those that ``guards.off`` of the settings turns off.

    Args:
        guards: all guards of the installation.

    Raises:
        ConfigurationError: ``guards.off`` names an unknown guard, or gives no reason.
    """
    off, known = {item.guard for item in guards_off(config)}, [guard.name for guard in guards]
    for name in off.difference(known):
        raise ConfigurationError(f"guards.off: unknown guard {name!r}; known: {', '.join(known)}")
    return tuple(guard for guard in guards if guard.name not in off)


def watchdog_within(config: Config) -> timedelta | None:
    """How long the Watchdog may be silent; None where its guard is off, and nobody watches it."""
    return None if any(item.guard == "watchdog" for item in guards_off(config)) else config.watchdog.max_silence


def guard_defaults(config: Config, guards: Sequence[type[Guard]]) -> dict[str, Any]:
    """What the settings say for guards.

    Raises:
        ConfigurationError: settings for a guard that there is not, or that do not fit it.
    """
    common = {name: value for name, value in config.guards.items() if name != "off"}
    watchdog = common.get("watchdog", {})
    if isinstance(watchdog, dict):
        common["watchdog"] = {"max_silence": config.watchdog.max_silence, **watchdog}
    models = {guard.name: guard.Settings for guard in guards}
    for name, value in common.items():
        if name not in models:
            raise ConfigurationError(f"guards: unknown guard {name!r}; known: {', '.join(models)}")
        try:
            models[name].model_validate(value)
        except ValidationError as error:
            raise ConfigurationError(f"guards.{name}{_first(error)}") from None
    return common


def _first(error: ValidationError) -> str:
    """The first mistake, with its place, and who knows its line."""
    first = error.errors()[0]
    place = "".join(f".{step}" for step in first["loc"])
    return f"{place}: {first['msg']} (remediator lint names its line in the settings file)"


def _reporter(metrics: Metrics) -> Callable[[str, Run, Mapping[str, Any]], None]:
    def report(kind: str, run: Run, data: Mapping[str, Any]) -> None:
        if kind == "action":
            metrics.actions.labels(run.playbook, run.target).inc()
            if run.first_action_at is not None:
                metrics.first_action.observe((run.first_action_at - run.created_at).total_seconds())
            log.info(f"{run.playbook} on {run.target}: {data['call']}", run=run.id, step=data["step"])
            return
        metrics.transitions.labels(run.playbook, run.status.value, run.blocked_by or run.reason or "").inc()
        text = run.detail.summary or run.reason
        because = {"because": text} if text else {}
        log.info(f"{run.playbook} on {run.target}: {run.status.value}", run=run.id, was=data["from"], **because)

    return report


def ingest_settings(config: Config) -> IntakeSettings:
    """How alerts become episodes in this installation."""
    return IntakeSettings(
        ignore_labels=frozenset(config.identity_ignore_labels),
        quiet=config.timing.resolve_grace,
        watchdog=config.watchdog.alertname,
        channels=config.watchdog.notify,
    )


def _credentials(config: Config) -> Credentials:
    webhook = config.webhook
    bearer = None if webhook.token_file is None else read_secret(webhook.token_file).encode()
    basic = None
    if webhook.basic is not None:
        basic = (webhook.basic.username.encode(), read_secret(webhook.basic.password_file).encode())
    return Credentials(bearer, basic)


def _started(
    tx: Tx, context: PipelineContext, config: Config, registry: Registry, loaded: LoadedConfig, role: Role
) -> None:
    playbooks.add_versions(tx, loaded.playbooks)
    if context.store.name == "sqlite":
        runs.clear_leases(tx)  # the file's lock is ours, so whoever held them is gone
    replicas.record_heartbeat(tx, context.replica, __version__, ENGINE_VERSION, role)
    replicas.set_rejected_config(tx, context.replica, None)
    replicas.clear_rejected_config(tx, tx.now - REPLICA_TIMEOUT)
    tx.append_audit(
        Draft(
            kind=Kind.SERVICE_STARTED,
            actor=context.actor,
            data={"version": __version__, "store": context.store.name, "environment": config.environment},
        )
    )
    void_outdated_requests(tx, context)
    # settings may have changed since the guards blocked these runs; all guards, because some may be off now
    blocked_runs.schedule_now(tx, [guard.name for guard in registry.guards])
    versions = {playbook.name: playbook.content_hash for playbook in loaded.playbooks}
    off = {item.guard: item.reason for item in guards_off(config)}
    tx.append_audit(
        Draft(kind=Kind.CONFIG_LOADED, actor=context.actor, data={"playbooks": versions, "guards_off": off})
    )


def _loops(service: Service, world: ClientSet, post: Outbox) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
    loops, context, config = service.loops, service.context, service.config
    upkeep = MaintenanceSettings(service.role, keep=config.timing.inbox_retention, channels=config.watchdog.notify)
    always: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "reload": lambda: run_reload_loop(service.reloading),
        "upkeep": lambda: run_maintenance_loop(context, upkeep),
        "watch": lambda: run_monitors_loop(context, _watching(service.config, service.registry), loops.poll / 2),
    }
    if service.role == "receive":
        return always
    checkpointing = checkpoint_settings(config, service.registry)
    working = always | {
        "take in": loops.run_ingest_loop,
        "advance runs": loops.run_advance_loop,
        "close episodes": loops.run_close_loop,
        "send messages": lambda: run_outbox_loop(context, post, loops.poll),
        "compare with Alertmanager": lambda: run_reconcile_loop(context, loops.intake, _reconciling(config, world)),
        "step down": lambda: run_scheduled_undo_loop(context, loops.poll),
        "forget what is over": lambda: run_pruning_loop(context, pruning_settings(config), service.metrics.count_gone),
        "sign checkpoints": lambda: run_checkpoint_loop(context, checkpointing),
    }
    retention = retention_settings(config)
    if retention is not None:
        working["archive"] = lambda: run_retention_loop(context, retention)
    return working


def _reconciling(config: Config, world: ClientSet) -> ReconcileSettings:
    return ReconcileSettings(world.alertmanagers, config.timing.reconcile, receiver=config.alertmanager_receiver)


def load_people(config: Config) -> People:
    """Who is known here; nobody, if the settings name no people file.

    Raises:
        ConfigurationError: the file cannot be used.
    """
    return People() if config.access.people is None else load_config(config.access.people, People)


def _post(
    config: Config, registry: Registry, keyring: Keyring, people: People, world: ClientSet, store: Store
) -> Outbox:
    renderer = MessageRenderer(keyring, config.public_url.rstrip("/"))
    chart = None if world.prometheus is None else partial(last_hour_png, world.prometheus, store)
    return Outbox(
        registry.make_channels(config.channels), LogNotifier({}), config.approvals.channels, renderer, people, chart
    )


def _watching(config: Config, registry: Registry) -> MonitorSettings:
    settings = guard_defaults(config, registry.guards)
    off = {item.guard for item in guards_off(config)}
    storm: Any = registry.catalogue().guards["storm"].model_validate(settings.get("storm", {}))
    return MonitorSettings(
        state=config.state,
        within=watchdog_within(config),
        channels=config.watchdog.notify,
        storm=None if "storm" in off else FloodSettings(storm.alerts, storm.within, storm.cooldown),
    )


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@contextmanager
def read_only_connection(config: Config) -> Iterator[Connection]:
    """A connection for commands that only look; works beside a running service, and without one.

    Raises:
        StoreUnavailable: there is no such database, or it cannot be read.
    """
    if config.store == "sqlite":
        path = config.state / "remediator.db"
        if not path.is_file():
            raise StoreUnavailable(f"{path}: there is no database yet; has the service ever run?")
        url = sqlalchemy.make_url(f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true")
    else:
        url = store_url(config)
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect() as connection:
            require_current(connection)
            yield connection
    except sqlalchemy.exc.DBAPIError as error:
        raise StoreUnavailable(f"the database cannot be read: {error.orig}") from None
    finally:
        engine.dispose()
