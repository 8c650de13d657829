"""The ``remediator inventory`` commands: the services that can be targets, written and discovered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click

from remediator.cli import _output
from remediator.cli._options import config_option, format_option
from remediator.clients.prometheus.client import Prometheus
from remediator.config import Config, configure_clients
from remediator.errors import InputError, StoreUnavailable
from remediator.extensions.clientset import ClientSet
from remediator.extensions.registry import Registry
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.discovered import merge, values_of
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import load_config, load_error, load_inventory, shown
from remediator.reporting.formatting import plural
from remediator.runtime.discovery import Outcome, look_up
from remediator.runtime.live_inventory import LiveInventory
from remediator.runtime.store_access import read_only_connection
from remediator.storage.repositories import discovered
from remediator.storage.repositories.discovered import Turn


@click.group("inventory")
def command() -> None:
    """List and show services, and compare discovered targets."""


@command.command("list")
@config_option
@click.option("--source", metavar="DISCOVERY", help="Only services of this discovery (default: all services).")
@format_option("text", "json")
def list_(config_path: Path, source: str | None, format_: str) -> None:
    """List the written and discovered services, and the skipped targets.

    Discovered services come from the last good lookup of the service.

    \b
    Examples:
      remediator inventory list
      remediator inventory list --source web-hosts --format json
    """
    live, turns = _load(load_config(config_path, Config))
    rows = [row for row in _rows(live.inventory) if source in (None, row["source"])]
    if format_ == "json":
        states = {name: {"problem": turns[name].problem} for name in live.written.discover}
        left = [{"discovery": each.discovery, "target": each.target, "reason": each.reason} for each in live.left_out]
        _output.data({"services": rows, "discoveries": states, "left_out": left})
        return
    columns = ("SERVICE", "PLATFORM", "SOURCE", "OWNER", "DEPENDS ON")
    values = ((row["name"], row["platform"], row["source"], row["owner"], ", ".join(row["depends_on"])) for row in rows)
    _output.table(columns, (tuple(value or "-" for value in row) for row in values), "no service")
    _output.lines(_states(live, turns))


def _rows(inventory: Inventory) -> Iterator[dict[str, Any]]:
    for name in sorted(inventory.services):
        service = inventory.services[name]
        yield {
            "name": name,
            "platform": service.platform.kind,
            "source": inventory.source_of(name) or "written",
            "owner": service.owner,
            "depends_on": list(service.depends_on),
        }


def _states(live: LiveInventory, turns: Mapping[str, Turn]) -> Iterator[str]:
    """Yield the state of each discovery, and the skipped targets."""
    for name in live.written.discover:
        state = turns[name].problem or ("" if name in live.sets else "not looked up yet; the running service does it")
        services = plural(len(live.inventory.found_by(name)), "service")
        yield f"discovery {name}: {services}{f'; {state}' if state else ''}"
    yield from (str(each) for each in live.left_out)


def _load(config: Config) -> tuple[LiveInventory, dict[str, Turn]]:
    """Return the inventory with the targets that the store has, and the last lookup of each discovery."""
    parsed = load_inventory(config.inventory)
    if parsed.model is None:
        raise load_error(f"{shown(config.inventory)} cannot be used", parsed.diagnostics)
    live = LiveInventory(parsed.model)
    turns = dict.fromkeys(parsed.model.discover, Turn())
    if parsed.model.discover:
        try:
            with read_only_connection(config) as connection:
                sets = discovered.load(connection)
                turns = {name: discovered.last_turn(connection, name) for name in parsed.model.discover}
        except StoreUnavailable as error:
            _output.echo(f"discovered services are not known: {error}", err=True)
        else:
            live.use(parsed.model, sets, merge(parsed.model, sets))
    return live, turns


@command.command("show")
@config_option
@click.argument("name", metavar="SERVICE")
@click.option("--all", "all_", is_flag=True, help="Show default values, too.")
def show(config_path: Path, name: str, all_: bool) -> None:
    """Show one service with all its values, and where each value comes from.

    \b
    Example:
      remediator inventory show web-17
    """
    live, _ = _load(load_config(config_path, Config))
    if name not in live.inventory:
        reasons = [str(each) for each in live.left_out]
        hint = did_you_mean(name, live.inventory.services)
        raise InputError("; ".join((f"unknown service {name!r}", *reasons[:3], *filter(None, (hint,)))))
    source = live.inventory.source_of(name)
    found = [f"{name}: {f'discovered by {source}' if source else 'written in the inventory'}"]
    for path, value, origin in values_of(live.inventory, name):
        if origin != "default" or all_:
            found.append(f"  {path}: {value}  ({origin})")
    _output.lines(found)


@command.command("diff")
@config_option
@click.argument("names", metavar="[DISCOVERY]…", nargs=-1)
@format_option("text", "json")
def diff(config_path: Path, names: tuple[str, ...], format_: str) -> None:
    """Look up targets now, and show the differences; change nothing.

    Exit status: 0 all lookups are good; 1 a lookup failed or exceeds a limit, and would change nothing.

    \b
    Examples:
      remediator inventory diff
      remediator inventory diff web-hosts
    """
    config = load_config(config_path, Config)
    live, _ = _load(config)
    known = live.written.discover
    for name in names:
        if name not in known:
            raise InputError(
                f"unknown discovery {name!r}; {did_you_mean(name, known) or 'the inventory has no discovery'}"
            )
    with _output.working("looking up targets"):
        found = asyncio.run(_look_up(config, live, names or tuple(known)))
    if format_ == "json":
        _output.data({name: _as_data(outcome) for name, outcome in found.items()})
    else:
        _output.lines((line for name, outcome in found.items() for line in _changes(name, outcome)), "no discovery")
    if any(outcome.limit for outcome in found.values()):
        raise SystemExit(1)


async def _look_up(config: Config, live: LiveInventory, names: tuple[str, ...]) -> dict[str, Outcome]:
    configure_clients(config)
    async with AsyncExitStack() as stack:
        prometheus = None if config.prometheus is None else Prometheus(config.prometheus)
        if prometheus is not None:
            stack.push_async_callback(prometheus.aclose)
        made = Registry.for_settings(config).make_discoverers(ClientSet(prometheus=prometheus))
        of = live.written.discover
        return {name: await look_up(live, name, of[name], made[of[name].kind]) for name in names}


def _as_data(outcome: Outcome) -> dict[str, Any]:
    lists = {key: list(getattr(outcome, key)) for key in ("added", "removed", "changed", "left_out")}
    return {"problem": outcome.problem, **lists}


def _changes(name: str, outcome: Outcome) -> Iterator[str]:
    counts = f"{len(outcome.added)} added, {len(outcome.removed)} removed, {len(outcome.changed)} changed"
    yield f"{name}: {f'nothing would change: {outcome.problem}' if outcome.problem else counts}"
    for mark, services in (("+", outcome.added), ("-", outcome.removed), ("~", outcome.changed)):
        yield from (f"  {mark} {service}" for service in services)
    yield from (f"  ! {each}" for each in outcome.left_out)
