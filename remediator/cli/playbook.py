"""The ``remediator playbook`` commands: for authors of playbooks, and to change a playbook's mode."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path

import click

from remediator.authoring import explain, formatter, json_schema, rehearsal, runbook_import, scaffold
from remediator.authoring.backtest import History
from remediator.authoring.backtest.history import prometheus_history, stored_history
from remediator.authoring.lint.alerting import read_alerts
from remediator.authoring.runbook_pages import FORMATS
from remediator.cli import _output
from remediator.cli._completion import complete_playbooks
from remediator.cli._history_options import Comparison, history_options, show
from remediator.cli._options import config_option, format_option, since_option
from remediator.cli._playbook_modes import list_, set_mode
from remediator.cli._plugins import plugins_option, registry_for
from remediator.clients.endpoints import Endpoint
from remediator.clients.prometheus.client import Prometheus
from remediator.config import Config, configure_clients
from remediator.core.clock import SystemClock, before, parse_duration
from remediator.core.text import label_text
from remediator.errors import ConfigurationError, InputError, RemediatorError
from remediator.playbooks.diagnostics import Severity
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import load_config, load_error, load_playbooks, read, read_model, yaml_files
from remediator.reporting import run_timeline
from remediator.runtime.store_access import read_only_connection

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group("playbook")
def command() -> None:
    """Write, document and replay playbooks; change their modes."""


@command.command("new")
@click.argument("name")
@click.option("--alert", default="", help="Name of the alert (default: NAME in CamelCase).")
@click.option("--target", default="", help="Service of the inventory (default: the service that the alert rule names).")
@click.option("--action", default="", help="Action of the step (default: service.restart).")
@click.option(
    "--output-dir", "folder", type=_FOLDER, default=Path("playbooks"), help="Folder to write to (default: playbooks)."
)
@click.option("--inventory", type=_FILE, help="Inventory file (default: inventory.yaml near the folder).")
@click.option(
    "--alerting",
    type=click.Path(path_type=Path, exists=True),
    help="Prometheus rule file or folder (default: alerting near the folder).",
)
def new(
    name: str, alert: str, target: str, action: str, folder: Path, inventory: Path | None, alerting: Path | None
) -> None:
    """Write a commented playbook and its test.

    The playbook does nothing until you change its mode. Existing files are never overwritten.

    \b
    Examples:
      remediator playbook new cache-slow --alert CacheSlow --target redis
      remediator playbook new cache-full --target redis --action redis.memory_purge
    """
    inventory = inventory or _near(folder, "inventory.yaml")
    if inventory is None:
        raise InputError(f"no inventory.yaml in or near {folder}; give it with --inventory")
    path = folder / f"{name}.yaml"
    rules = alerting or _near(folder, "alerting")
    known = [] if rules is None else read_alerts([rules]).alerts
    alerts = [scaffold.KnownAlert(item.name, item.labels.get("service", ""), item.expression) for item in known]
    services = read(inventory, Inventory)
    settings = _near(folder, "remediator.yaml")
    config = None if settings is None else read_model(settings, Config).model  # lint reports its errors
    channels = () if config is None else tuple(config.channels)
    start = scaffold.make_scaffold(name, alert, target, services, alerts, channels)
    if action:
        catalogue = registry_for(None, [folder]).catalogue()
        start = scaffold.with_action(start, action, services.service(start.target), catalogue, Config)
    _write_new(path, scaffold.playbook(start, _schema_path(folder, "playbook")))
    _write_new(folder / f"{name}.test.yaml", scaffold.test(start, _schema_path(folder, "test")))
    _output.echo(f"{path}: for alert {start.alert}, target {start.target}, mode shadow")
    if known and start.alert not in {item.name for item in known}:
        _output.echo(f"{rules} has no alert rule {start.alert!r} yet; lint warns until it exists")
    _output.echo(f"next: edit it, then run: remediator lint {path} && remediator test {path}")


@command.command("import")
@click.argument("runbook", type=_FILE)
@click.option("--section", default="", help="Heading of the part to read (default: the whole file).")
@click.option("--alert", default="", help="Name of the alert (default: a gap).")
@click.option("--target", default="", help="Service of the inventory (default: a gap).")
@click.option(
    "--output-dir", "folder", type=_FOLDER, default=Path("playbooks"), help="Folder to write to (default: playbooks)."
)
def import_(runbook: Path, section: str, alert: str, target: str, folder: Path) -> None:
    """Write a playbook skeleton from the headings and shell blocks of a Markdown runbook.

    Each command becomes a diagnosis or a step. Missing information is a gap, and lint refuses the file until every gap
    is filled. No command is run. Existing files are never overwritten.

    \b
    Examples:
      remediator playbook import runbook.md
      remediator playbook import runbook.md --section "Redis is down" --alert RedisDown --target redis
    """
    try:
        text = runbook.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {runbook}: {error}") from None
    made = runbook_import.make_skeleton(text, runbook.name, section, alert, target)
    path = folder / f"{made.name}.yaml"
    _write_new(path, runbook_import.skeleton_text(made))
    known = sum(entry.name != runbook_import.GAP for entry in (*made.diagnoses, *made.steps, *made.proofs))
    count = len(made.diagnoses) + len(made.steps) + len(made.proofs)
    _output.echo(
        f"{path}: {count} commands, {known} with a suggestion; fill each GAP, then run: remediator lint {path}"
    )


@command.command("fmt")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a file has another format.")
def fmt(paths: tuple[Path, ...], check: bool) -> None:
    """Put the YAML files in PATHS into one format; content and comments stay.

    PATHS are files and folders (default: playbooks). Inventories, settings and test files can be formatted too.

    \b
    Examples:
      remediator playbook fmt
      remediator playbook fmt playbooks/redis-down.yaml inventory.yaml
      remediator playbook fmt --check
    """
    chosen = list(paths) or [Path("playbooks")]
    if not paths and not chosen[0].is_dir():
        raise InputError(
            "no folder 'playbooks' here; name files or folders, for example: playbook fmt deploy/playbooks"
        )
    files = [file for path in chosen for file in yaml_files(path)]
    changed, problems = 0, []
    for file in files:
        try:
            if formatter.format_file(file, check):
                changed += 1
                _output.echo(f"{file}: {'not formatted' if check else 'formatted'}")
        except (InputError, ConfigurationError) as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    _output.echo(f"{len(files)} files, {changed} {'not formatted' if check else 'changed'}")
    if check and changed:
        raise SystemExit(1)


def _near(folder: Path, name: str) -> Path | None:
    places = (folder / name, folder.resolve().parent / name, Path(name))
    return next((place for place in places if place.exists()), None)


def _schema_path(folder: Path, kind: str) -> str:
    found = _near(folder, f"docs/schema/{kind}.json")
    return "" if found is None else os.path.relpath(found.resolve(), folder.resolve())


def _write_new(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{path} already exists; nothing was written") from None


@command.command("docs")
@plugins_option
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True))
@format_option(*FORMATS)
@click.option("--output-dir", type=_FOLDER, help="Folder to write one file per playbook to (default: standard output).")
@click.option("--check", is_flag=True, help="With --output-dir: write nothing; exit with 1 if a page is not current.")
def docs(config_path: Path | None, paths: tuple[Path, ...], format_: str, output_dir: Path | None, check: bool) -> None:
    """Write the runbook page of each playbook in PATHS, with a flowchart.

    PATHS are files and folders (default: playbooks).

    \b
    Examples:
      remediator playbook docs playbooks/redis-down.yaml
      remediator playbook docs --format html --output-dir site
      remediator playbook docs --output-dir docs/playbooks --check
    """
    chosen = list(paths) or [Path("playbooks")]
    catalogue = registry_for(config_path, chosen).catalogue()
    found = load_playbooks(chosen, catalogue, None)
    errors = [item for item in found.diagnostics if item.severity is Severity.ERROR]
    if errors:
        raise load_error("the playbooks cannot be used", errors)
    ending, make = FORMATS[format_]
    pages = {f"{playbook.name}{ending}": make(playbook, catalogue) for playbook in found.playbooks}
    if output_dir is None:
        _output.echo("\n".join(pages.values()), nl=False)
    elif check:
        _check_pages(output_dir, pages, ending)
    else:
        output_dir.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            (output_dir / name).write_text(text, encoding="utf-8")
            _output.echo(output_dir / name)


def _check_pages(folder: Path, pages: dict[str, str], ending: str) -> None:
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: no such folder; write the pages first, without --check")
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob(f"*{ending}")}
    stale = sorted(name for name in pages.keys() | there.keys() if pages.get(name) != there.get(name))
    for name in stale:
        _output.echo(f"{folder / name}: {'not current' if name in pages else 'no playbook has this name'}")
    if stale:
        raise SystemExit(1)


@command.command("schema")
@plugins_option
@click.argument("kind", type=click.Choice(json_schema.KINDS), required=False)
@click.option("--output-dir", type=_FOLDER, help="Folder to write all schemas to (default: print the schema of KIND).")
def schema(config_path: Path | None, kind: str | None, output_dir: Path | None) -> None:
    """Print the JSON Schema of one KIND of file, for completion in an editor.

    Name the schema in the first line of a file: "# yaml-language-server: $schema=PATH".

    \b
    Examples:
      remediator playbook schema playbook > playbook.json
      remediator playbook schema --output-dir docs/schema
    """
    catalogue = registry_for(config_path).catalogue()
    if output_dir is not None:
        output_dir.mkdir(parents=True, exist_ok=True)
        for name, content in json_schema.committed(json_schema.KINDS, catalogue, Config).items():
            (output_dir / name).write_text(content, encoding="utf-8")
    elif kind is not None:
        _output.echo(json_schema.text(json_schema.schema(kind, catalogue, Config)), nl=False)
    else:
        raise click.UsageError(f"give a kind ({', '.join(json_schema.KINDS)}), or a folder with --output-dir")


@command.command("replay")
@config_option
@format_option("text", "json")
@since_option
@history_options
def replay(
    config_path: Path, format_: str, since: str, playbooks: tuple[Path, ...], against: str | None, svg: Path | None
) -> None:
    """Replay the stored notifications with the playbooks; change nothing.

    The production pipeline runs on a virtual clock. The assumptions are printed with the result.

    \b
    Examples:
      remediator playbook replay --since 7d
      remediator playbook replay --playbooks changed/ --against main
    """
    config = load_config(config_path, Config)
    end = SystemClock().now()
    with read_only_connection(config) as connection:
        history = stored_history(connection, before(end, since), end)
    show(Comparison(config, playbooks, against, svg, format_), history)


@command.command("backtest")
@config_option
@format_option("text", "json")
@click.option("--prometheus", "url", help="URL, such as http://127.0.0.1:9090 (default: from the settings file).")
@click.option("--step", default="1m", help="Time resolution; shorter firings may be missed (default: 1m).")
@since_option
@history_options
def backtest(
    config_path: Path,
    format_: str,
    url: str | None,
    step: str,
    since: str,
    playbooks: tuple[Path, ...],
    against: str | None,
    svg: Path | None,
) -> None:
    """Replay the alerts in the history of Prometheus with the playbooks; change nothing.

    The history is the series ALERTS.

    \b
    Examples:
      remediator playbook backtest --prometheus http://127.0.0.1:9090 --since 30d
      remediator playbook backtest --against HEAD~1 --svg backtest.svg
    """
    config = load_config(config_path, Config)
    endpoint = config.prometheus if url is None else Endpoint(url=url)
    if endpoint is None:
        raise ConfigurationError("no Prometheus in the settings file; give its URL with --prometheus")
    configure_clients(config)
    end = SystemClock().now()
    history = asyncio.run(_fetch(endpoint, before(end, since), end, parse_duration(step), config))
    show(Comparison(config, playbooks, against, svg, format_), history)


async def _fetch(endpoint: Endpoint, start: datetime, end: datetime, step: timedelta, config: Config) -> History:
    async with aclosing(Prometheus(endpoint)) as prometheus:
        return await prometheus_history(prometheus, start, end, step, config.watchdog.alertname)


@command.command("trigger")
@config_option
@format_option("text", "json")
@click.argument("name", shell_complete=complete_playbooks)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=VALUE",
    help="Label of the alert, such as severity=critical; can be repeated (default: the labels that the playbook "
    "requires).",
)
@click.option("--timeout", type=click.FloatRange(1, 600), default=60.0, help="Seconds to wait (default: 60).")
def trigger(config_path: Path, format_: str, name: str, labels: tuple[str, ...], timeout: float) -> None:
    """Rehearse a playbook with a synthetic alert; change nothing.

    The production pipeline runs in mode shadow, with the real target, checks and diagnoses, and with a separate store.
    The service does not have to run. Exit status 1 if the playbook could not be planned or verified.

    \b
    Examples:
      remediator playbook trigger checkout-down
      remediator playbook trigger disk-full --label mountpoint=/data
    """
    config = load_config(config_path, Config)
    wrong = [item for item in labels if not item.partition("=")[1]]
    if wrong:
        raise click.UsageError(f"invalid label {wrong[0]!r}; expected NAME=VALUE, for example severity=critical")
    given = {item.partition("=")[0]: item.partition("=")[2] for item in labels}
    try:
        result = asyncio.run(rehearsal.rehearse(config, name, given, timeout))
    except TimeoutError:
        raise RemediatorError(f"the plan was not ready within {timeout:g} s; try a longer --timeout") from None
    if format_ == "json":
        timeline = run_timeline.as_data(result.timeline)
        data = {"labels": result.labels, **timeline, "explanation": explain.as_json(result.explanation)}
        _output.data({**data, "problem": result.problem})
    else:
        _output.lines(_rehearsal_lines(result))
    if result.problem:
        raise SystemExit(1)


def _rehearsal_lines(result: rehearsal.Rehearsal) -> Iterator[str]:
    found = result.explanation
    yield f"receive  {{{label_text(result.labels)}}}"
    yield f"match    {found.playbook}, target {found.target or '?'}"
    for item in result.timeline.evidence:
        yield f"{'cause' if item.phase == 'conclude' else 'evidence':<8} {item.name}: {item.status}: {item.summary}"
    for step in () if found.plan is None else found.plan.steps:
        yield f"plan     {step.id}: {step.call.summary}"
    for guard, verdict in () if found.decision is None else found.decision.verdicts:
        expected = " (expected: the alert of a rehearsal does not fire)" if guard == rehearsal.EXPECTED_BLOCK else ""
        yield f"guard    {guard}: {verdict.sentence}{expected if verdict.answer != 'allow' else ''}"
    for check in () if found.plan is None else found.plan.checks:
        yield f"verify   {check.check}"
    yield f"result   {result.problem or 'the plan is ready; nothing was changed'}"


command.add_command(list_)
command.add_command(set_mode)
