"""``remediator backtest``: Prometheus' memory of alerts against playbooks."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import click

from remediator.authoring.backtest import History
from remediator.authoring.backtest.history import remembered
from remediator.cli._history_options import Asked, history_options, show
from remediator.cli._options import config_option, format_option
from remediator.clients.endpoints import Endpoint
from remediator.clients.prometheus.client import Prometheus
from remediator.config import Config
from remediator.core.clock import SystemClock, before, parse_duration
from remediator.errors import ConfigurationError
from remediator.playbooks.loader import load_config


@click.command("backtest")
@config_option
@format_option
@click.option("--prometheus", "url", help="Its address; default: the settings file's.")
@click.option("--step", default="1m", show_default=True, help="How finely to look; shorter firings may be missed.")
@history_options
def command(
    config_path: Path,
    format_: str,
    url: str | None,
    step: str,
    since: str,
    playbooks: tuple[Path, ...],
    against: str | None,
    svg: Path | None,
) -> None:
    """What playbooks would have done with the alerts that fired, as Prometheus' ALERTS series tells. Nothing is done.

    \b
    Examples:
      remediator backtest --prometheus http://127.0.0.1:9090 --since 30d
      remediator backtest --against HEAD~1 --svg backtest.svg
    """
    config = load_config(config_path, Config)
    endpoint = config.prometheus if url is None else Endpoint(url=url)
    if endpoint is None:
        raise ConfigurationError("the settings file names no Prometheus; give one with --prometheus")
    end = SystemClock().now()
    history = asyncio.run(_fetch(endpoint, before(end, since), end, parse_duration(step), config))
    show(Asked(config, playbooks, against, svg, format_), history)


async def _fetch(endpoint: Endpoint, start: datetime, end: datetime, step: timedelta, config: Config) -> History:
    prometheus = Prometheus(endpoint)
    try:
        return await remembered(prometheus, start, end, step, config.watchdog.alertname)
    finally:
        await prometheus.aclose()
