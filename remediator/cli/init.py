"""The ``remediator init`` command."""

from __future__ import annotations

import asyncio
import getpass
import os
import re
from pathlib import Path

import click

from remediator.authoring.onboarding import project, selection
from remediator.authoring.onboarding.monitoring import Monitoring, find_monitoring
from remediator.authoring.onboarding.selection import Candidate
from remediator.authoring.onboarding.sources import BUILTIN
from remediator.authoring.onboarding.sources.base import Found, Surroundings
from remediator.cli import _output
from remediator.errors import InputError
from remediator.extensions.registry import Registry

_SHOWN = 10
_LISTEN = re.compile(r"(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}")


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--yes", is_flag=True, help="Ask no questions; use the best match.")
@click.option(
    "--from",
    "addresses",
    multiple=True,
    metavar="URL",
    help="Prometheus or Alertmanager, such as http://prometheus:9090; can be repeated (default: ports of this host).",
)
@click.option("--alert", default="", help="Alert for the first playbook, such as CheckoutDown (default: the best fit).")
@click.option(
    "--service", default="", help="Service for the first playbook (default: the service that the alert names)."
)
@click.option(
    "--supervisor",
    metavar="URL",
    help="Address of supervisord, such as unix:///run/supervisor.sock (default: its usual sockets).",
)
@click.option("--listen", default="", metavar="ADDRESS", help="Address of the service (default: 127.0.0.1:8095).")
@click.option("--person", default="", help="Your ID for the people file, such as ann@example.com (default: your user).")
def command(
    folder: Path,
    yes: bool,
    addresses: tuple[str, ...],
    alert: str,
    service: str,
    supervisor: str | None,
    listen: str,
    person: str,
) -> None:
    """Write a first installation for the services on this host.

    FOLDER is the folder to write to (default: this folder). The command reads Prometheus, Alertmanager, Kubernetes,
    Docker Compose, supervisord and systemd, and changes nothing in them. It writes settings, inventory, people, tokens,
    one playbook in mode shadow, and a configuration to paste into Alertmanager. It never overwrites a file.

    \b
    Examples:
      remediator init
      remediator init --yes --from http://prometheus:9090
      remediator init shop --alert CheckoutDown --service checkout
    """
    monitoring, found = asyncio.run(_look(addresses, Surroundings(dict(os.environ), folder, supervisor)))
    _output.echo("Found:")
    for note in monitoring.notes:
        _output.echo(f"  {note}")
    for name, each in found.items():
        _output.echo(f"  {name}: {each.text}")
    services = tuple(item for each in found.values() for item in each.services)
    options = selection.choose(monitoring, services, alert, service)
    chosen = options[0] if yes or len(options) == 1 else _ask(options)
    listen = listen or project.default_listen(monitoring)
    if not yes:
        listen = click.prompt("Address of the service", default=listen)
        person = click.prompt("Your ID, such as your e-mail address", default=person or getpass.getuser())
    if _LISTEN.fullmatch(listen) is None:
        raise InputError(f"invalid address {listen!r}; expected ADDRESS:PORT, for example 127.0.0.1:8095")
    http = asyncio.run(selection.probe(chosen, monitoring.targets))
    files = project.make_project(
        folder,
        chosen,
        monitoring,
        services,
        http,
        Registry().catalogue(),
        listen=listen,
        public_url=_url(listen),
        person=person or getpass.getuser(),
    )
    project.write_project(folder, files)
    _report(folder, chosen, list(files), monitoring)


async def _look(addresses: tuple[str, ...], surroundings: Surroundings) -> tuple[Monitoring, dict[str, Found]]:
    in_cluster = bool(surroundings.environment.get("KUBERNETES_SERVICE_HOST"))
    # This call comes first, because it refuses a wrong --from: no other work must have begun when the command fails.
    monitoring = await find_monitoring(addresses, in_cluster=in_cluster)
    sources = [kind() for kind in BUILTIN]
    found = await asyncio.gather(*(each.find(surroundings) for each in sources))
    return monitoring, {source.name: result for source, result in zip(sources, found, strict=True)}


def _ask(options: list[Candidate]) -> Candidate:
    """Let the person choose an alert."""
    _output.echo("Alerts about a service that was found:")
    for number, each in enumerate(options[:_SHOWN], start=1):
        _output.echo(f"  {number}. {each.alert.name}, about {each.service.name} ({each.label}={each.value})")
    if len(options) > _SHOWN:
        _output.echo(f"  and {len(options) - _SHOWN} more; choose one with --alert and --service")
    number = click.prompt("Alert for the first playbook", type=click.IntRange(1, min(len(options), _SHOWN)), default=1)
    return options[number - 1]


def _url(listen: str) -> str:
    """Return the URL of the service; for every address, the name of this host."""
    host, _, port = listen.rpartition(":")
    return f"http://{os.uname().nodename if host in ('0.0.0.0', '[::]') else host}:{port}"  # noqa: S104 - compared only


def _report(folder: Path, chosen: Candidate, files: list[str], monitoring: Monitoring) -> None:
    name = project.playbook_name(chosen.alert.name)
    settings = folder / "remediator.yaml"
    option = "" if folder == Path() else f" --config {settings}"
    _output.echo(f"Chosen: alert {chosen.alert.name}, target {chosen.service.name}, mode shadow")
    _output.echo("Written:")
    for file in (each for each in files if not each.startswith("schema/")):
        _output.echo(f"  {folder / file}")
    steps = (
        []
        if monitoring.watchdog
        else [f"add {folder / 'prometheus.remediator.yml'} to 'rule_files:' of Prometheus, and reload it"]
    )
    steps += [
        f"paste {folder / 'alertmanager.remediator.yml'} into the configuration of Alertmanager, and reload it",
        f"start the service:  remediator serve{option}",
        f"check everything:   remediator doctor{option}",
        f"rehearse:           remediator playbook trigger {name}{option}",
    ]
    _output.echo("Next:")
    for number, step in enumerate(steps, start=1):
        _output.echo(f"  {number}. {step}")
