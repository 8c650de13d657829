"""How long ``remediator report`` takes over a long past: ``python -m bench.report [--runs N] [--days N]``."""

from __future__ import annotations

import tempfile
import time
from datetime import timedelta
from pathlib import Path

import click

from bench.history_fixture import END, make, open_
from remediator.reporting.period import render, statistics


@click.command()
@click.option("--runs", default=100_000, show_default=True)
@click.option("--days", default=365, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Write the page there.")
def main(runs: int, days: int, keep: Path | None) -> None:
    """Make the past, then count and draw it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "past.db"
        make(path, runs, days)
        asked = statistics.ReportRequest(END - timedelta(days=days), END, "bench", 30)
        with open_(path).connect() as connection:
            start = time.perf_counter()
            report = statistics.build_report(connection, asked)
            counted = time.perf_counter()
            page = render.html(report)
        drawn = time.perf_counter()
    click.echo(f"{runs} runs: counted in {counted - start:.2f} s, drawn in {(drawn - counted) * 1000:.0f} ms")
    if keep is not None:
        keep.write_text(page)


if __name__ == "__main__":
    main()
