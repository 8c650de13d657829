"""Render the result of a backtest as text, JSON and a chart, and compare two results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from remediator.authoring.backtest import ASSUMPTIONS, BacktestResult, ReplayedRun
from remediator.core.clock import rfc3339
from remediator.reporting import charts

_BAR = 40
_MOST = 20
_DAY = timedelta(days=1)


def figures(result: BacktestResult) -> dict[str, Any]:
    """Return the figures for JSON."""
    hours = Counter(run.at.replace(minute=0, second=0, microsecond=0) for run in result.runs)
    busiest = max(hours, key=lambda hour: (hours[hour], hour), default=None)
    return {
        "source": result.history.source,
        "from": rfc3339(result.history.start),
        "to": rfc3339(result.history.end),
        "notifications": len(result.history.events),
        "episodes": result.episodes,
        "unmatched": dict(sorted(result.unmatched.items())),
        "runs": len(result.runs),
        "actions": sum(len(run.actions) for run in result.runs),
        "approval_requests": sum(run.approval_requests for run in result.runs),
        "blocked_by_guard": _counted(guard for run in result.runs for guard in run.blocked_by),
        "predictions": _counted(run.prediction.value for run in result.runs),
        "by_playbook": {name: _of(result, name) for name in sorted({run.playbook for run in result.runs})},
        "busiest_hour": None if busiest is None else {"hour": rfc3339(busiest), "runs": hours[busiest]},
        "by_day": {day.date().isoformat(): count for day, count in _days(result)},
        "assumptions": list(ASSUMPTIONS),
    }


def _counted(items: Any) -> dict[str, int]:
    return dict(sorted(Counter(items).items()))


def _of(result: BacktestResult, playbook: str) -> dict[str, int]:
    mine = [run for run in result.runs if run.playbook == playbook]
    return {
        "runs": len(mine),
        "actions": sum(len(run.actions) for run in mine),
        "approval_requests": sum(run.approval_requests for run in mine),
        "blocked": sum(bool(run.blocked_by) for run in mine),
    }


def _days(result: BacktestResult) -> list[tuple[datetime, int]]:
    day, counts = result.history.start.replace(hour=0, minute=0, second=0, microsecond=0), Counter[datetime]()
    for run in result.runs:
        counts[run.at.replace(hour=0, minute=0, second=0, microsecond=0)] += 1
    found = []
    while day <= result.history.end:
        found.append((day, counts[day]))
        day += _DAY
    return found


def text(result: BacktestResult) -> str:
    """Return text for a terminal."""
    found = figures(result)
    lines = [f"history   {found['source']}, {found['from'][:16]}Z to {found['to'][:16]}Z"]
    lines.append(f"alerts    {found['episodes']} episodes in {found['notifications']} notifications")
    lines += [f"          {count} x {name}: no playbook" for name, count in found["unmatched"].items()]
    lines.append(f"runs      {found['runs']}{_in_brackets(found['predictions'])}")
    lines.append(f"actions   {found['actions']}")
    lines.append(f"approvals {found['approval_requests']} requested")
    lines.append(f"blocked   {sum(found['blocked_by_guard'].values())}{_in_brackets(found['blocked_by_guard'])}")
    busiest = found["busiest_hour"]
    lines.append(f"busiest   {busiest['hour'][:13]}h: {busiest['runs']} runs" if busiest else "busiest   none")
    rows = found["by_playbook"]
    width = max(map(len, ("playbook", *rows)))
    lines += ["", f"{'playbook':{width}}  runs  actions  asked  blocked"] if rows else ["", "no run"]
    for name, row in rows.items():
        counts = f"{row['runs']:4}  {row['actions']:7}  {row['approval_requests']:5}  {row['blocked']:7}"
        lines.append(f"{name:{width}}  {counts}")
    lines += ["", "runs per day"]
    days = _days(result)
    most = max((count for _, count in days), default=0)
    scale = _BAR / most if most else 0
    lines += [f"{day:%m-%d} {'█' * round(count * scale)}{f' {count}' if count else ''}" for day, count in days]
    return "\n".join([*lines, "", "assumptions:", *(f"  {item}" for item in ASSUMPTIONS)])


def _in_brackets(counts: dict[str, int]) -> str:
    return f" ({', '.join(f'{count} {name}' for name, count in counts.items())})" if counts else ""


def svg(result: BacktestResult) -> str:
    """Return the number of runs per day as a standalone SVG."""
    days = _days(result)
    label = f"Runs per day, {days[0][0]:%Y-%m-%d} to {days[-1][0]:%Y-%m-%d}" if days else "No days"
    columns = [(f"{day:%Y-%m-%d}", {"now": count}) for day, count in days]
    return f"{charts.stacked_columns(columns, {'now': 'runs'}, label, standalone=True)}\n"


def difference(before: BacktestResult, after: BacktestResult) -> dict[str, Any]:
    """Return the differences between two sets of playbooks for the same history."""
    old, new = figures(before), figures(after)
    numbers = ("runs", "actions", "approval_requests")
    counts = {name: [old[name], new[name]] for name in numbers if old[name] != new[name]}
    guards = sorted(old["blocked_by_guard"].keys() | new["blocked_by_guard"].keys())
    blocks = {name: [old["blocked_by_guard"].get(name, 0), new["blocked_by_guard"].get(name, 0)] for name in guards}
    return {
        "counts": counts,
        "blocked_by_guard": {name: pair for name, pair in blocks.items() if pair[0] != pair[1]},
        "only_before": [_line(run) for run in _without(before.runs, after.runs)],
        "only_after": [_line(run) for run in _without(after.runs, before.runs)],
    }


def _without(these: Sequence[ReplayedRun], those: Sequence[ReplayedRun]) -> list[ReplayedRun]:
    """Return the runs without an equal run in the other list."""
    others = {_key(run) for run in those}
    return [run for run in these if _key(run) not in others]


def _key(run: ReplayedRun) -> tuple[Any, ...]:
    minute = run.at.replace(second=0, microsecond=0)
    return minute, run.playbook, run.target, run.actions, run.approval_requests, run.blocked_by


def _line(run: ReplayedRun) -> str:
    calls = ", ".join(run.actions) or "no action"
    held = f"; blocked by {', '.join(sorted(run.blocked_by))}" if run.blocked_by else ""
    asked = f"; {run.approval_requests} approval requests" if run.approval_requests else ""
    return f"{rfc3339(run.at)[:16]}Z {run.playbook} on {run.target}: {run.prediction}, {calls}{asked}{held}"


def difference_text(found: dict[str, Any]) -> str:
    """Return text for a terminal."""
    pairs = [
        *found["counts"].items(),
        *((f"blocked by {name}", pair) for name, pair in found["blocked_by_guard"].items()),
    ]
    lines = [f"{name.replace('_', ' ')}: {old} → {new}" for name, (old, new) in pairs]
    for sign, key in (("-", "only_before"), ("+", "only_after")):
        lines += [f"{sign} {line}" for line in found[key][:_MOST]]
        if len(found[key]) > _MOST:
            lines.append(f"{sign} and {len(found[key]) - _MOST} more")
    return "\n".join(lines or ["no difference"])
