"""Reload playbooks, inventory, people and credentials while the service runs: all new files, or none.

Changes are detected by the metadata of the files; SIGHUP reloads at once. Files with an error change nothing: the last
valid set stays active, and messages, metrics, log and audit log name the error. Open runs keep the version with which
they started. People, groups and webhook credentials are read again too (:mod:`remediator.runtime.access`). The rest of
the settings file is read only at the start.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from remediator.audit import Draft, Kind
from remediator.config import Config, redactor_for
from remediator.core import progress
from remediator.core.message import MessageKind
from remediator.errors import ConfigurationError
from remediator.extensions.registry import Registry
from remediator.pipeline.approve import void_outdated_requests
from remediator.pipeline.context import PlaybookSet
from remediator.pipeline.match import Index
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import LoadedConfig, load
from remediator.runtime.access import AccessControl
from remediator.runtime.live_inventory import LiveInventory
from remediator.runtime.metrics import Metrics
from remediator.runtime.worker import Worker
from remediator.storage import Store, Tx
from remediator.storage.repositories import blocked_runs, outbox, playbooks, replicas, runs

log: Any = structlog.get_logger("remediator.runtime.reload")

_SHARE = 50
"""Checking the files may take this fraction of the time: if it takes a second, the next check is 50 s later."""
_SHOWN = 5

Signature = tuple[tuple[str, int, int, int, int], ...]


class Signatures(NamedTuple):
    """The metadata of all files that are reloaded.

    Args:
        sources: of the playbooks and the inventory.
        access: of the files of people, groups and credentials.
    """

    sources: Signature
    access: Signature = ()


@dataclass(slots=True)
class ReloadSettings:
    """The reloaded parts, and the result so far. The object survives failures of the loop, so no change is lost.

    Args:
        worker: its playbooks are replaced.
        metrics: count the results.
        read: reads all files; raises ConfigurationError.
        protect: called with an inventory before it is used, so that its secrets are redacted.
        guards: names of the guards; the runs that they block are evaluated again with the new files.
        channels: notified of files that cannot be used.
        seen: signatures of the files before the active ones were read.
        access: people, groups and credentials; its files are read again too.
        live: the inventory in use, with its discovered targets.
        poll: seconds between two checks.
    """

    worker: Worker
    metrics: Metrics
    read: Callable[[], LoadedConfig]
    protect: Callable[[Inventory], None]
    guards: Sequence[str]
    channels: Sequence[str]
    seen: Signatures
    access: AccessControl
    live: LiveInventory
    poll: float = 1.0
    rejected: tuple[str, ...] = ()
    """The reasons why the current files cannot be used; empty while they are active."""
    sources: Sequence[Path] = ()
    """Files and folders of playbooks, and the inventory."""
    _requested: asyncio.Event = field(default_factory=asyncio.Event)

    def signatures(self) -> Signatures:
        """Return the metadata of all files."""
        return Signatures(signature(self.sources), signature(self.access.paths))

    def request(self) -> None:
        """Reload now (SIGHUP); the result is recorded even if nothing has changed."""
        self._requested.set()

    async def wait(self, seconds: float) -> bool:
        """Wait for the next check. Return whether a reload was requested."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._requested.wait(), seconds)
        requested = self._requested.is_set()
        self._requested.clear()
        return requested


def reload_settings(
    config: Config,
    registry: Registry,
    worker: Worker,
    metrics: Metrics,
    store: Store,
    access: AccessControl,
    live: LiveInventory,
    seen: Signature,
) -> ReloadSettings:
    """Return the reload settings of a service.

    Args:
        seen: signature of the playbooks and the inventory before the active ones were read.
        live: the inventory in use.
    """

    def protect(inventory: Inventory) -> None:
        store.redactor = redactor_for(
            config, access.config, worker.context.playbooks.inventory, inventory, *registry.models(config)
        )

    return ReloadSettings(
        worker=worker,
        metrics=metrics,
        sources=(*config.playbooks, config.inventory),
        read=lambda: load(config.playbooks, config.inventory, registry.catalogue()),
        protect=protect,
        guards=[guard.name for guard in registry.guards],
        channels=config.watchdog.notify,
        seen=Signatures(seen),  # people and credentials are read once more: nothing was noted before they were read
        access=access,
        live=live,
    )


def signature(paths: Sequence[Path]) -> Signature:
    """Return the metadata of the files; it changes when a file does, without reading the file."""
    files: list[str] = []
    for path in map(str, paths):
        if not os.path.isdir(path):
            files.append(path)
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            files += [os.path.join(folder, name) for name in names if name.endswith((".yaml", ".yml"))]
    found = []
    for file in files:
        with suppress(OSError):  # the file is being replaced; the next check sees the new one
            about = os.stat(file)
            found.append((file, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns))
    return tuple(sorted(found))


async def run_reload_loop(settings: ReloadSettings) -> None:
    """Reload when files have changed, as soon as they have stopped changing."""
    latest, pause = settings.seen, settings.poll
    while True:
        progress.report(pause)
        requested = await settings.wait(pause)
        begun = time.perf_counter()
        before, latest = latest, await asyncio.to_thread(settings.signatures)
        pause = max(settings.poll, _SHARE * (time.perf_counter() - begun))
        stable = latest == before  # an editor or a checkout may still be writing
        if requested or (stable and latest != settings.seen):
            await reload(settings, latest, requested=requested)


async def reload(settings: ReloadSettings, now: Signatures, *, requested: bool) -> None:
    """Read people and credentials again, and all playbooks and the inventory if one of them has changed; use all of
    them or none.

    Args:
        settings: what is reloaded.
        now: signatures of the files before they are read.
        requested: a person requested it, so all files are read and the result is recorded even if nothing has changed.
    """
    await _reload_access(settings)
    if requested or now.sources != settings.seen.sources:
        try:
            loaded = await asyncio.to_thread(settings.read)
        except ConfigurationError as error:
            await _reject(settings, error.findings or (str(error),), requested=requested)
        else:
            async with settings.live.lock:
                await _apply(settings, loaded, requested=requested)
    settings.seen = now


async def _reload_access(settings: ReloadSettings) -> None:
    """Read people, groups and credentials again, whether or not the playbooks can be used: a removal must not wait."""
    access, context = settings.access, settings.worker.context
    try:
        rules = await asyncio.to_thread(access.read)
    except ConfigurationError as error:
        findings = error.findings or (str(error),)
        if findings != access.rejected:
            log.error("access rules not reloaded, the last valid ones stay active", findings=findings[:_SHOWN])
            short = [finding.partition("\n")[0] for finding in findings]

            def refuse(tx: Tx) -> None:
                tx.append_audit(Draft(kind=Kind.CONFIG_REJECTED, actor=context.actor, data={"findings": short}))
                text = f"People and credentials not reloaded, the last valid ones stay active: {short[0]}"
                _notify(tx, settings, text, short)

            await context.store.write(refuse)
        access.rejected = findings
        return
    settings.protect(context.playbooks.inventory)  # a new token must not reach the log with its own change
    if await context.store.write(lambda tx: access.replace(tx, rules, context.actor)):
        tokens = sum(len(each.tokens) for each in rules.credentials.values())
        log.info("access rules reloaded", people=len(rules.people.people), webhook_tokens=tokens)
    access.rules, access.rejected = rules, ()


async def _reject(settings: ReloadSettings, findings: tuple[str, ...], *, requested: bool) -> None:
    """Report files with errors, once per state of the files: saving the same error ten times notifies once."""
    if findings == settings.rejected and not requested:
        return
    context, is_new = settings.worker.context, findings != settings.rejected
    short = [finding.partition("\n")[0] for finding in findings]
    for finding in findings:
        log.error("playbooks not reloaded, the last valid ones stay active", finding=finding)
    more = f"; and {len(short) - _SHOWN} more" if len(short) > _SHOWN else ""

    def work(tx: Tx) -> None:
        replicas.set_rejected_config(tx, context.replica, short)
        data = {"findings": short, "asked": requested}
        tx.append_audit(Draft(kind=Kind.CONFIG_REJECTED, actor=context.actor, data=data))
        if is_new:
            text = f"Playbooks not reloaded; the last valid playbooks stay active: {'; '.join(short[:_SHOWN])}{more}"
            _notify(tx, settings, text, short)

    await context.store.write(work)
    settings.metrics.reloads.labels("refused").inc()
    settings.metrics.reload_ok.set(0)
    settings.rejected = findings


async def _apply(settings: ReloadSettings, loaded: LoadedConfig, *, requested: bool) -> None:
    worker, context = settings.worker, settings.worker.context
    versions = {playbook.name: playbook.content_hash for playbook in loaded.playbooks}
    before = {playbook.name: playbook.content_hash for playbook in context.playbooks.active}
    live = settings.live
    inventory_changed = loaded.inventory != live.written
    if versions == before and not inventory_changed and not requested and not settings.rejected:
        return  # the change affects only comments or the order of keys
    changed = sorted(name for name in versions.keys() | before.keys() if versions.get(name) != before.get(name))
    data = {"playbooks": versions, "changed": changed, "inventory": inventory_changed}
    merged = await live.merged(loaded.inventory, live.sets)
    settings.protect(merged.inventory)

    def work(tx: Tx) -> set[str]:
        playbooks.add_versions(tx, loaded.playbooks)
        replicas.set_rejected_config(tx, context.replica, None)
        tx.append_audit(Draft(kind=Kind.CONFIG_LOADED, actor=context.actor, data={**data, "asked": requested}))
        blocked_runs.schedule_now(tx, settings.guards)  # the new files may no longer block these runs
        if settings.rejected:
            _notify(tx, settings, "Playbooks are valid again and active.", ())
        return {run.playbook_hash for run in runs.list_page(tx.connection, 10_000, only=runs.OPEN_ONLY)}

    needed = await context.store.write(work)
    active = PlaybookSet(loaded.playbooks, merged.inventory, context.playbooks.environment)
    for version in context.playbooks.versions():
        if version.content_hash in needed:
            active.add_version(version)
    index = Index(loaded.playbooks, worker.index.watchdog)
    # Without an await in between: no other task of the event loop sees only a part of them replaced.
    context.playbooks, worker.index = active, index
    live.use(loaded.inventory, live.sets, merged)
    await context.store.write(lambda tx: void_outdated_requests(tx, context))
    settings.metrics.reloads.labels("loaded").inc()
    settings.metrics.reload_ok.set(1)
    settings.rejected = ()
    log.info("playbooks reloaded", changed=changed, inventory_changed=inventory_changed)


def _notify(tx: Tx, settings: ReloadSettings, text: str, findings: Sequence[str]) -> None:
    content = {"about": "playbooks", "text": text, "findings": list(findings)}
    outbox.enqueue(tx, settings.worker.context.ids, MessageKind.NOTICE, None, content, settings.channels)
