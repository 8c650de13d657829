"""Measure ``remediator report`` over 90 days of history with 1,000 alerts a day: ``python -m bench.report``

Goal: at most 10 s. The history is generated first, and that time does not count.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.history_fixture import END, make, open_
from remediator.reporting.period import render, statistics


def main() -> None:
    """Generate the history, and then measure counting and drawing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--alerts", type=int, default=1000, help="alerts a day (default: 1000)")
    parser.add_argument("--keep", type=Path, help="write the page there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.db"
        make(path, asked.days * asked.alerts, asked.days)
        request = statistics.ReportRequest(END - timedelta(days=asked.days), END, "bench", 30)
        engine = open_(path)
        with engine.connect() as connection:
            begun = time.perf_counter()
            report = statistics.build_report(connection, request)
            counted = time.perf_counter()
            page = render.html(report)
            drawn = time.perf_counter()
        engine.dispose()
    if asked.keep is not None:
        asked.keep.write_text(page)
    result: dict[str, Any] = {
        "runs": asked.days * asked.alerts,
        "counted_s": round(counted - begun, 2),
        "drawn_s": round(drawn - counted, 2),
        "report_s": round(drawn - begun, 2),
    }
    print(json.dumps(result) if asked.json else "\n".join(f"{key:16} {value}" for key, value in result.items()))


if __name__ == "__main__":
    main()
