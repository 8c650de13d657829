"""The composition root: settings in, a running service out.

Everything that is opened is closed in reverse order, whether the start fails half-way or the service ends.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import structlog

from remediator import __version__
from remediator.audit import Draft, Kind
from remediator.clients.alertmanager.client import Alertmanager
from remediator.clients.prometheus.client import Prometheus
from remediator.clients.ssh import configuration as ssh_configuration
from remediator.config import Config, configure_clients, redactor_for
from remediator.core import trace_context
from remediator.core.alert import ALERTMANAGER
from remediator.core.clock import Clock, SteadyClock
from remediator.core.ids import Ids
from remediator.core.local_files import own_folder
from remediator.core.run import ENGINE_VERSION
from remediator.core.tokens import Keyring
from remediator.errors import ConfigurationError, StoreUnavailable
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guard_settings import guard_defaults, guards_off, guards_on, watchdog_max_silence
from remediator.extensions.notifiers.log import LogNotifier
from remediator.extensions.registry import Registry
from remediator.extensions.sources.base import Source
from remediator.pipeline.approve import void_outdated_requests
from remediator.pipeline.context import PipelineContext, PlaybookSet, Timeouts
from remediator.pipeline.ingest import IngestSettings
from remediator.pipeline.match import Index
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import LoadedConfig, load
from remediator.reporting.alert_series import last_hour_png
from remediator.reporting.messages import MessageRenderer
from remediator.runtime.access import AccessControl
from remediator.runtime.chat_loops import chat_loops
from remediator.runtime.checkpointing import run_checkpoint_loop
from remediator.runtime.cloud_events import CloudEventsExporter
from remediator.runtime.discovery import DiscoveryLoop
from remediator.runtime.event_observers import EventObservers, count_event, log_event
from remediator.runtime.health import INSTANCE, Health, run_health_loop
from remediator.runtime.heartbeat import run_heartbeat_loop
from remediator.runtime.kubernetes_events import KubernetesEventsExporter
from remediator.runtime.live_inventory import LiveInventory, with_known_targets
from remediator.runtime.maintenance import (
    REPLICA_TIMEOUT,
    MaintenanceSettings,
    require_compatible_replicas,
    run_maintenance_loop,
)
from remediator.runtime.metrics import Metrics
from remediator.runtime.monitors import FloodSettings, MonitorSettings, run_monitors_loop
from remediator.runtime.notification_reach import reach_problem
from remediator.runtime.outbox import Outbox, run_outbox_loop
from remediator.runtime.preflight import Capabilities, report_missing_rights
from remediator.runtime.pruning import run_pruning_loop
from remediator.runtime.reachability import report_unreachable
from remediator.runtime.reconcile import ReconcileSettings, run_reconcile_loop
from remediator.runtime.reload import ReloadSettings, reload_settings, run_reload_loop, signature
from remediator.runtime.retention import run_retention_loop
from remediator.runtime.run_export import ExportLoop, RunExporter
from remediator.runtime.scheduled_undo import run_scheduled_undo_loop
from remediator.runtime.settings import checkpoint_settings, pruning_settings, retention_settings
from remediator.runtime.signing_keys import SigningKeys, load_signing_keys, require_same_keys
from remediator.runtime.store_access import open_store
from remediator.runtime.worker import Worker, run_supervised
from remediator.storage import Store, StoreClock, Tx
from remediator.storage.repositories import audit, blocked_runs, playbooks, replicas, run_claims

log: Any = structlog.get_logger("remediator")


Role = Literal["all", "receive", "work"]


@dataclass(frozen=True, slots=True)
class Service:
    """A wired service, for the web application and tests."""

    config: Config
    context: PipelineContext
    worker: Worker
    metrics: Metrics
    access: AccessControl
    keyring: Keyring
    clients: ClientSet
    registry: Registry
    reload: ReloadSettings
    role: Role = "all"
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the service stops, so that event streams to browsers end."""

    @property
    def reaches_targets(self) -> bool:
        """Return whether this replica has access to targets: in every role but ``receive``."""
        return self.role != "receive"

    @property
    def health(self) -> Health:
        """Return the current problems of this process."""
        return self.metrics.health


MAX_CLOCK_OFFSET = timedelta(seconds=30)
"""How much the clocks of host and database may differ: leases and timers use the database's, logs use the host's."""


@asynccontextmanager
async def run_service(config: Config, role: Role = "all", settings_file: Path | None = None) -> AsyncIterator[Service]:
    """Run a service with its loops until the context ends.

    Args:
        config: the settings.
        role: ``receive`` only accepts notifications; ``work`` only processes them; ``all`` does both.
        settings_file: the file of the settings; its sections ``access`` and ``webhook`` are read again when it changes.

    Raises:
        ConfigurationError: the settings or the playbooks cannot be used.
        StoreError: the store cannot be used.
    """
    if config.store == "sqlite" and role != "all":
        raise ConfigurationError(
            f"role {role!r} cannot use the store 'sqlite', which has a single process; use 'all', or use PostgreSQL"
        )
    clock = SteadyClock()
    configure_clients(config)
    trace_context.configure(config.tracing is not None)
    registry = Registry.for_settings(config)
    async with AsyncExitStack() as stack:
        # take the signature before reading the files, so that no change is missed
        seen = signature((*config.playbooks, config.inventory))
        loaded = load(config.playbooks, config.inventory, registry.catalogue())
        store = open_store(config, clock, redactor_for(config, loaded.inventory, *registry.models(config)))
        stack.push_async_callback(store.close)
        live = LiveInventory(loaded.inventory)
        await live.load(store)
        store.redactor = redactor_for(config, live.inventory, *registry.models(config))
        ssh_configuration.use(own_folder(config.state, "ssh"))
        if config.store == "sqlite":  # otherwise use the time of the database
            clock.continue_from(await store.read(audit.newest_time))
        keys = load_signing_keys(config)
        sources = registry.make_sources(config)
        clients = _make_clients(config, registry, clock, stack, lambda: context.playbooks.inventory, sources)
        metrics = Metrics()
        metrics.health.watches["clock of this host"] = clock.problem
        in_use = replace(loaded, inventory=live.inventory)
        context = _make_context(config, registry, StoreClock(store, clock), store, clients, in_use, metrics)
        offset = abs(store.clock_offset)
        if offset > MAX_CLOCK_OFFSET:
            raise StoreUnavailable(
                f"the clocks of this host and of the database differ by {offset.total_seconds():.0f} s; "
                "synchronize both with NTP, then start again"
            )
        await require_compatible_replicas(context)
        await store.write(lambda tx: _record_start(tx, context, config, registry, loaded, role, keys))
        index = Index(loaded.playbooks, config.watchdog.alertname)
        worker = Worker(context, index, ingest_settings(config, sources))
        access = AccessControl.load(config, settings_file)
        context.current_person, context.allow_link_only = access.person, config.approvals.allow_link_only
        service = Service(
            config=config,
            context=context,
            worker=worker,
            metrics=metrics,
            access=access,
            keyring=keys.links,
            clients=clients,
            registry=registry,
            reload=reload_settings(config, registry, worker, metrics, store, access, live, seen),
            role=role,
        )
        chart = None if clients.prometheus is None else partial(last_hour_png, clients.prometheus, store)
        channels = registry.make_channels(config.channels)
        if problem := reach_problem(channels):
            log.warning(problem)
        outbox = Outbox(
            channels=channels,
            fallback=LogNotifier({}),
            policy=config.approvals,
            quiet_hours={name: item.quiet_hours for name, item in config.channels.items() if item.quiet_hours},
            renderer=MessageRenderer(keys.links, config.public_url.rstrip("/")),
            access=access,
            chart=chart,
            on_result=partial(_note_result, service.health, "channel"),
        )
        stack.push_async_callback(outbox.aclose)
        for name, loop in _loops(service, outbox, keys).items():
            supervised = run_supervised(name, loop, clock.sleep, service.health)
            stack.push_async_callback(_stop, asyncio.create_task(supervised, name=name))
        at_start = {
            "preflight": report_missing_rights(
                loaded.playbooks,
                loaded.inventory,
                Capabilities(clients.platforms, context.actions, context.checks),
            ),
            "reachability": report_unreachable(clients, loaded.inventory, channels),
        }
        for name, work in at_start.items():
            stack.push_async_callback(_stop, asyncio.create_task(work, name=name))
        yield service


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def read_only_context(config: Config, store: Store, clock: Clock | None = None) -> AsyncIterator[PipelineContext]:
    """Provide a pipeline context without loops, on the caller's store, for commands that change nothing."""
    clock = clock or SteadyClock()
    configure_clients(config)
    registry = Registry.for_settings(config)
    async with AsyncExitStack() as stack:
        loaded = load(config.playbooks, config.inventory, registry.catalogue())
        loaded = replace(loaded, inventory=await with_known_targets(store, loaded.inventory))
        sources = registry.make_sources(config)
        clients = _make_clients(config, registry, clock, stack, lambda: loaded.inventory, sources)
        yield _make_context(config, registry, clock, store, clients, loaded, Metrics())


def _make_clients(
    config: Config,
    registry: Registry,
    clock: Clock,
    stack: AsyncExitStack,
    inventory: Callable[[], Inventory],
    sources: Mapping[str, Source],
) -> ClientSet:
    platforms = registry.make_platforms()
    prometheus = None if config.prometheus is None else Prometheus(config.prometheus)
    peers = [peer for source in sources.values() for peer in source.peers]
    for client in (*platforms.values(), *peers, *((prometheus,) if prometheus else ())):
        stack.push_async_callback(client.aclose)
    return ClientSet(
        platforms=platforms,
        prometheus=prometheus,
        alertmanagers=tuple(peer for peer in sources[ALERTMANAGER].peers if isinstance(peer, Alertmanager)),
        sources={name: source.peers for name, source in sources.items() if name != ALERTMANAGER},
        ignored_labels=frozenset(config.identity_ignore_labels),
        clock=clock,
        folder=config.base_dir,
        state=config.state,
        requests=config.requests,
        commands=config.commands,
        inventory=inventory,
    )


def _make_context(
    config: Config,
    registry: Registry,
    clock: Clock,
    store: Store,
    clients: ClientSet,
    loaded: LoadedConfig,
    metrics: Metrics,
) -> PipelineContext:
    timing = config.timing
    events = EventObservers((partial(count_event, metrics), log_event))
    metrics.health.counters["events"] = lambda: (events.lost, events.error)
    return PipelineContext(
        store=store,
        clock=clock,
        ids=Ids(),
        replica=config.replica or f"{socket.gethostname()}-{os.getpid()}",
        playbooks=PlaybookSet(loaded.playbooks, loaded.inventory, config.environment),
        actions=registry.make_actions(clients),
        checks=registry.make_checks(clients),
        guards=guards_on(config, registry.make_guards(clients)),
        guard_defaults=guard_defaults(config, registry.guards),
        platforms=clients.platforms,
        timeouts=Timeouts(
            lease=timing.lease,
            guard_recheck_interval=timing.guard_recheck_interval,
            observe_within=timing.observe_within,
            probe_timeout=timing.probe_timeout,
            run_timeout=timing.run_timeout,
            recurrence_window=timing.recurrence_window,
            incident_window=timing.incident_window,
        ),
        on_event=events,
    )


def _note_result(health: Health, kind: str, name: str, error: str) -> None:
    if error:
        health.lost(f"{kind} {name}", error)
    else:
        health.works(f"{kind} {name}")


def ingest_settings(config: Config, sources: Mapping[str, Source]) -> IngestSettings:
    """Return how alerts become episodes in this installation."""
    return IngestSettings(
        sources=sources,
        watchdog_source=config.watchdog.source,
        ignore_labels=frozenset(config.identity_ignore_labels),
        resolve_grace=config.timing.resolve_grace,
        watchdog=config.watchdog.alertname,
        channels=config.watchdog.notify,
    )


def _record_start(
    tx: Tx,
    context: PipelineContext,
    config: Config,
    registry: Registry,
    loaded: LoadedConfig,
    role: Role,
    keys: SigningKeys,
) -> None:
    require_same_keys(tx, context.replica, keys, REPLICA_TIMEOUT)
    playbooks.add_versions(tx, loaded.playbooks)
    if context.store.name == "sqlite":
        run_claims.clear_leases(tx)  # this process holds the lock of the file, so every lease is from a stopped process
    replicas.record_heartbeat(tx, context.replica, __version__, ENGINE_VERSION, role)
    replicas.set_instance(tx, context.replica, INSTANCE)
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
    # The settings may have changed since the guards blocked these runs. All guards, because some may be off now.
    blocked_runs.schedule_now(tx, [guard.name for guard in registry.guards])
    versions = {playbook.name: playbook.content_hash for playbook in loaded.playbooks}
    off = {item.guard: item.reason for item in guards_off(config)}
    tx.append_audit(
        Draft(kind=Kind.CONFIG_LOADED, actor=context.actor, data={"playbooks": versions, "guards_off": off})
    )


def _loops(service: Service, outbox: Outbox, keys: SigningKeys) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
    """Return the loops for the role of this replica, by name."""
    worker, context, config, registry = service.worker, service.context, service.config, service.registry
    maintenance = MaintenanceSettings(
        service.role, inbox_retention=config.timing.inbox_retention, channels=config.watchdog.notify
    )
    always: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "health": lambda: run_health_loop(context, service.health),
        "reload": lambda: run_reload_loop(service.reload),
        "maintenance": lambda: run_maintenance_loop(context, maintenance),
        "discovery": _discovery_loop(service).run,
        "monitors": lambda: run_monitors_loop(context, _monitor_settings(config, registry), worker.poll),
    }
    if not service.reaches_targets:
        return always
    chats = chat_loops(context, config, service.access, service.keyring, service.clients, outbox.channels)
    checkpoints = replace(
        checkpoint_settings(config, registry, keys.audit), on_result=partial(_note_result, service.health, "witness")
    )
    pruning = pruning_settings(config)
    working = always | {
        "ingest": worker.run_ingest_loop,
        "advance": worker.run_advance_loop,
        "close": worker.run_close_loop,
        "outbox": lambda: run_outbox_loop(context, outbox, worker.poll),
        "scheduled undo": lambda: run_scheduled_undo_loop(context, worker.poll),
        "pruning": lambda: run_pruning_loop(context, pruning, service.metrics.count_pruned),
        "checkpoints": lambda: run_checkpoint_loop(context, checkpoints),
    }
    working |= chats
    for name, source in worker.ingest.sources.items():
        reconcile = ReconcileSettings(source.peers, config.timing.reconcile, receiver=source.receiver, source=name)
        label = "reconcile" if name == ALERTMANAGER else f"reconcile {name}"
        working[label] = partial(run_reconcile_loop, context, worker.ingest, reconcile)
    for exporter in _exporters(config, context):
        working[f"export {exporter.name}"] = ExportLoop(context, exporter, service.health).run
    heartbeat = config.heartbeat
    if heartbeat is not None:
        working["heartbeat"] = lambda: run_heartbeat_loop(
            context, heartbeat, lambda now: service.metrics.heartbeat.set(now.timestamp())
        )
    retention = retention_settings(config)
    if retention is not None:
        working["retention"] = lambda: run_retention_loop(context, retention)
    return working


def _discovery_loop(service: Service) -> DiscoveryLoop:
    return DiscoveryLoop(
        context=service.context,
        live=service.reload.live,
        discoverers=service.registry.make_discoverers(service.clients),
        protect=service.reload.protect,
        guards=service.reload.guards,
        channels=service.config.watchdog.notify,
        health=service.health,
        looks=service.reaches_targets,
    )


def _exporters(config: Config, context: PipelineContext) -> Iterator[RunExporter]:
    """Yield where the settings send entries about runs.

    Raises:
        ConfigurationError: a package is missing.
    """
    if config.cloud_events is not None:
        yield CloudEventsExporter(config.cloud_events, config.audit_origin)
    if config.kubernetes_events:
        yield KubernetesEventsExporter(context)
    if config.tracing is not None:
        try:
            from remediator.runtime.run_traces import RunTraceExporter  # noqa: PLC0415 - an extra
        except ModuleNotFoundError:
            raise ConfigurationError(
                "tracing: OpenTelemetry is not installed; install remediator[opentelemetry]"
            ) from None
        yield RunTraceExporter(config.tracing, context.store, config.environment)


def _monitor_settings(config: Config, registry: Registry) -> MonitorSettings:
    defaults = guard_defaults(config, registry.guards)
    storm: Any = registry.catalogue().guards["storm"].model_validate(defaults.get("storm", {}))
    storm_off = any(item.guard == "storm" for item in guards_off(config))
    return MonitorSettings(
        state=config.state,
        max_silence=watchdog_max_silence(config),
        channels=config.watchdog.notify,
        storm=None if storm_off else FloodSettings(storm.alerts, storm.within, storm.cooldown),
    )
