"""Playbooks and inventory that change while the service runs: all of the new ones, or none.

Files are looked at by what the file system says of them, so nothing has to be told; SIGHUP asks at once. A set that
cannot be used changes nothing: the last good one stays in force, and people, metrics, log and audit say where it is
broken. Open runs keep the version that they began with. The settings file is read only at the start.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from remediator.audit import Draft, Kind
from remediator.config import Config, redactor_for
from remediator.errors import ConfigurationError
from remediator.extensions.registry import Registry
from remediator.pipeline.approve import void_outdated_requests
from remediator.pipeline.context import PlaybookSet
from remediator.pipeline.match import Index
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import LoadedConfig, load
from remediator.runtime.metrics import Metrics
from remediator.runtime.worker import Worker
from remediator.storage import Store, Tx
from remediator.storage.repositories import blocked_runs, outbox, playbooks, replicas, runs

log: Any = structlog.get_logger("remediator.runtime.reload")

_SHARE = 50
"""Looking at files may take this fraction of the time: a second for ten thousand files becomes a rarer look."""
_SHOWN = 5

Signature = tuple[tuple[str, int, int, int, int], ...]


@dataclass(slots=True)
class ReloadSettings:
    """What is watched, and what became of it. Kept over failures of the loop, so that no change is lost.

    Args:
        loops: whose playbooks are replaced.
        metrics: where the last look's result is counted.
        paths: files and folders of playbooks, and the inventory.
        read: reads all of them, or raises ConfigurationError.
        protect: told of an inventory before it is used, so that its secrets are cut out of what is written.
        guards: the guards' names; runs that they hold are looked at again with the new files.
        channels: who is told of files that cannot be used.
        seen: what the files looked like before those in force were read.
        poll: seconds between two looks.
    """

    loops: Worker
    metrics: Metrics
    paths: Sequence[Path]
    read: Callable[[], LoadedConfig]
    protect: Callable[[Inventory], None]
    guards: Sequence[str]
    channels: Sequence[str]
    seen: Signature
    poll: float = 1.0
    refused: tuple[str, ...] = ()
    """Why the files as they are now cannot be used; empty while they are in force."""
    _asked: asyncio.Event = field(default_factory=asyncio.Event)

    def ask(self) -> None:
        """Look now, and say what came of it even if nothing has changed: SIGHUP."""
        self._asked.set()


def reload_settings(
    config: Config, registry: Registry, loops: Worker, metrics: Metrics, store: Store, seen: Signature
) -> ReloadSettings:
    """What reloading needs in a service with these loops.

    Args:
        seen: what the files looked like before those in force were read.
    """

    def protect(inventory: Inventory) -> None:
        store.redactor = redactor_for(config, loops.context.playbooks.inventory, inventory)

    return ReloadSettings(
        loops=loops,
        metrics=metrics,
        paths=(*config.playbooks, config.inventory),
        read=lambda: load(config.playbooks, config.inventory, registry.catalogue()),
        protect=protect,
        guards=[guard.name for guard in registry.guards],
        channels=config.watchdog.notify,
        seen=seen,
    )


def signature(paths: Sequence[Path]) -> Signature:
    """What tells a changed set of files from an unchanged one, without reading them."""
    found = []
    for path in paths:
        for file in _files(str(path)):
            with suppress(OSError):  # it is just being replaced: the next look sees what came
                about = os.stat(file)
                found.append((file, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns))
    return tuple(sorted(found))


def _files(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(folder, name) for name in names if name.endswith((".yaml", ".yml")))


async def run_reload_loop(reloading: ReloadSettings) -> None:
    """Take what changes in the files into use, as soon as they have stopped changing."""
    latest, rest = reloading.seen, reloading.poll
    while True:
        asked = await _pause(reloading, rest)
        begun = time.perf_counter()
        before, latest = latest, await asyncio.to_thread(signature, reloading.paths)
        rest = max(reloading.poll, _SHARE * (time.perf_counter() - begun))
        still = latest == before  # an editor or a checkout may be in the middle of writing
        if asked or (still and latest != reloading.seen):
            await reload(reloading, latest, asked)


async def _pause(reloading: ReloadSettings, seconds: float) -> bool:
    """Wait; True if somebody asked meanwhile."""
    with suppress(TimeoutError):
        await asyncio.wait_for(reloading._asked.wait(), seconds)
    asked = reloading._asked.is_set()
    reloading._asked.clear()
    return asked


async def reload(reloading: ReloadSettings, now: Signature, asked: bool) -> None:
    """Read everything again; use all of it or nothing.

    Args:
        now: what the files looked like before they are read.
        asked: a person asked, so it is recorded although nothing has changed.
    """
    try:
        loaded = await asyncio.to_thread(reloading.read)
    except ConfigurationError as error:
        await _refuse(reloading, error.findings or (str(error),), asked)
    else:
        await _use(reloading, loaded, asked)
    reloading.seen = now


async def _refuse(reloading: ReloadSettings, findings: tuple[str, ...], asked: bool) -> None:
    """Said once for each state of the files: an author who saves ten times with the same mistake is told once."""
    if findings == reloading.refused and not asked:
        return
    context, news = reloading.loops.context, findings != reloading.refused
    short = [finding.partition("\n")[0] for finding in findings]
    for finding in findings:
        log.error(f"playbooks not reloaded, the last good ones stay in force: {finding}")

    def work(tx: Tx) -> None:
        replicas.set_rejected_config(tx, context.replica, short)
        data = {"findings": short, "asked": asked}
        tx.append_audit(Draft(kind=Kind.CONFIG_REJECTED, actor=context.actor, data=data))
        if news:
            _tell(tx, reloading, f"Playbooks not reloaded, the last good ones stay in force: {_listed(short)}", short)

    await context.store.write(work)
    reloading.metrics.reloads.labels("refused").inc()
    reloading.metrics.reload_ok.set(0)
    reloading.refused = findings


def _listed(findings: Sequence[str]) -> str:
    more = f"; and {len(findings) - _SHOWN} more" if len(findings) > _SHOWN else ""
    return "; ".join(findings[:_SHOWN]) + more


async def _use(reloading: ReloadSettings, loaded: LoadedConfig, asked: bool) -> None:
    context = reloading.loops.context
    versions = {playbook.name: playbook.content_hash for playbook in loaded.playbooks}
    before = {playbook.name: playbook.content_hash for playbook in context.playbooks.active}
    same = versions == before and loaded.inventory == context.playbooks.inventory
    if same and not asked and not reloading.refused:
        return  # only comments, or the order of keys
    changed = sorted(name for name in versions.keys() | before.keys() if versions.get(name) != before.get(name))
    data = {"playbooks": versions, "changed": changed, "inventory": loaded.inventory != context.playbooks.inventory}
    reloading.protect(loaded.inventory)

    def work(tx: Tx) -> set[str]:
        playbooks.add_versions(tx, loaded.playbooks)
        replicas.set_rejected_config(tx, context.replica, None)
        tx.append_audit(Draft(kind=Kind.CONFIG_LOADED, actor=context.actor, data={**data, "asked": asked}))
        blocked_runs.schedule_now(tx, reloading.guards)  # what held them may be written differently now
        if reloading.refused:
            _tell(tx, reloading, "Playbooks are good again and in force", ())
        return {run.playbook_hash for run in runs.list_page(tx.connection, 10_000, open_only=True)}

    needed = await context.store.write(work)
    _swap(reloading, loaded, needed)
    await context.store.write(lambda tx: void_outdated_requests(tx, context))
    reloading.metrics.reloads.labels("loaded").inc()
    reloading.metrics.reload_ok.set(1)
    reloading.refused = ()
    log.info("playbooks reloaded", changed=changed, inventory=data["inventory"])


def _swap(reloading: ReloadSettings, loaded: LoadedConfig, needed: set[str]) -> None:
    """From one statement to the next on the loop's thread: nothing sees half of it."""
    context = reloading.loops.context
    book = PlaybookSet(loaded.playbooks, loaded.inventory, context.playbooks.environment)
    for version in context.playbooks.versions():
        if version.content_hash in needed:
            book.add_version(version)
    index = Index(loaded.playbooks, reloading.loops.index.watchdog)
    context.playbooks, reloading.loops.index = book, index


def _tell(tx: Tx, reloading: ReloadSettings, text: str, findings: Sequence[str]) -> None:
    content = {"about": "playbooks", "text": text, "findings": list(findings)}
    outbox.enqueue(tx, reloading.loops.context.ids, "notice", None, content, reloading.channels)
