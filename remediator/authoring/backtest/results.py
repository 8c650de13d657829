"""What came of a backtest, for people and for machines: figures, a chart, and two versions side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from remediator.authoring.backtest import ASSUMED, Outcome, WouldRun
from remediator.core.clock import rfc3339
from remediator.reporting import charts

_BAR = 40
_MOST = 20
_DAY = timedelta(days=1)


def figures(outcome: Outcome) -> dict[str, Any]:
    """As JSON."""
    hours = Counter(_hour(run.at) for run in outcome.runs)
    busiest = max(hours, key=lambda hour: (hours[hour], hour), default=None)
    return {
        "source": outcome.history.source,
        "from": rfc3339(outcome.history.start),
        "to": rfc3339(outcome.history.end),
        "notifications": len(outcome.history.events),
        "episodes": outcome.episodes,
        "unmatched": dict(sorted(outcome.unmatched.items())),
        "runs": len(outcome.runs),
        "actions": sum(len(run.actions) for run in outcome.runs),
        "approvals_asked": sum(run.asked for run in outcome.runs),
        "blocked_by_guard": _counted(guard for run in outcome.runs for guard in run.blocked),
        "results": _counted(run.status for run in outcome.runs),
        "by_playbook": {name: _of(outcome, name) for name in sorted({run.playbook for run in outcome.runs})},
        "busiest_hour": None if busiest is None else {"hour": rfc3339(busiest), "runs": hours[busiest]},
        "by_day": {day.date().isoformat(): count for day, count in _days(outcome)},
        "assumed": list(ASSUMED),
    }


def _counted(items: Any) -> dict[str, int]:
    return dict(sorted(Counter(items).items()))


def _of(outcome: Outcome, playbook: str) -> dict[str, int]:
    mine = [run for run in outcome.runs if run.playbook == playbook]
    return {
        "runs": len(mine),
        "actions": sum(len(run.actions) for run in mine),
        "approvals_asked": sum(run.asked for run in mine),
        "blocked": sum(bool(run.blocked) for run in mine),
    }


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _days(outcome: Outcome) -> list[tuple[datetime, int]]:
    day, counts = outcome.history.start.replace(hour=0, minute=0, second=0, microsecond=0), Counter[datetime]()
    for run in outcome.runs:
        counts[run.at.replace(hour=0, minute=0, second=0, microsecond=0)] += 1
    found = []
    while day <= outcome.history.end:
        found.append((day, counts[day]))
        day += _DAY
    return found


def text(outcome: Outcome) -> str:
    """For a terminal."""
    said = figures(outcome)
    lines = [f"history   {said['source']}, {said['from'][:16]}Z to {said['to'][:16]}Z"]
    lines.append(f"alerts    {said['episodes']} episodes in {said['notifications']} notifications")
    lines += [f"          {count} x {name}: no playbook" for name, count in said["unmatched"].items()]
    lines.append(f"runs      {said['runs']}{_in_brackets(said['results'])}")
    lines.append(f"actions   {said['actions']}")
    lines.append(f"approvals {said['approvals_asked']} asked")
    lines.append(f"blocked   {sum(said['blocked_by_guard'].values())}{_in_brackets(said['blocked_by_guard'])}")
    busiest = said["busiest_hour"]
    lines.append(f"busiest   {busiest['hour'][:13]}h: {busiest['runs']} runs" if busiest else "busiest   none")
    lines += ["", *_table(said["by_playbook"]), "", *_bars(_days(outcome)), "", "assumed, since history does not tell:"]
    return "\n".join([*lines, *(f"  {item}" for item in ASSUMED)])


def _in_brackets(counts: dict[str, int]) -> str:
    return f" ({', '.join(f'{count} {name}' for name, count in counts.items())})" if counts else ""


def _table(rows: dict[str, dict[str, int]]) -> list[str]:
    if not rows:
        return ["no playbook would have run"]
    width = max(len("playbook"), *map(len, rows))
    lines = [f"{'playbook':{width}}  runs  actions  asked  blocked"]
    for name, row in rows.items():
        counts = f"{row['runs']:4}  {row['actions']:7}  {row['approvals_asked']:5}  {row['blocked']:7}"
        lines.append(f"{name:{width}}  {counts}")
    return lines


def _bars(days: Sequence[tuple[datetime, int]]) -> list[str]:
    most = max((count for _, count in days), default=0)
    scale = _BAR / most if most else 0
    return [
        "runs a day",
        *(f"{day:%m-%d} {'█' * round(count * scale)}{f' {count}' if count else ''}" for day, count in days),
    ]


def svg(outcome: Outcome) -> str:
    """Return the number of runs per day as a standalone SVG."""
    days = _days(outcome)
    label = f"Runs per day, {days[0][0]:%Y-%m-%d} to {days[-1][0]:%Y-%m-%d}" if days else "No days"
    columns = [(f"{day:%Y-%m-%d}", {"now": count}) for day, count in days]
    return f"{charts.stacked_columns(columns, {'now': 'runs'}, label, standalone=True)}\n"


def difference(before: Outcome, after: Outcome) -> dict[str, Any]:
    """What two versions of the playbooks would have done differently with the same history."""
    old, new = figures(before), figures(after)
    numbers = ("runs", "actions", "approvals_asked")
    counts = {name: [old[name], new[name]] for name in numbers if old[name] != new[name]}
    guards = sorted(old["blocked_by_guard"].keys() | new["blocked_by_guard"].keys())
    blocks = {name: [old["blocked_by_guard"].get(name, 0), new["blocked_by_guard"].get(name, 0)] for name in guards}
    return {
        "counts": counts,
        "blocked_by_guard": {name: pair for name, pair in blocks.items() if pair[0] != pair[1]},
        "only_before": [_line(run) for run in _without(before.runs, after.runs)],
        "only_after": [_line(run) for run in _without(after.runs, before.runs)],
    }


def _without(these: Sequence[WouldRun], those: Sequence[WouldRun]) -> list[WouldRun]:
    """Runs that the others do not have, or have with another course."""
    others = {_key(run) for run in those}
    return [run for run in these if _key(run) not in others]


def _key(run: WouldRun) -> tuple[Any, ...]:
    minute = run.at.replace(second=0, microsecond=0)
    return minute, run.playbook, run.target, run.status, run.actions, run.asked, run.blocked


def _line(run: WouldRun) -> str:
    did = ", ".join(run.actions) or "nothing done"
    held = f"; held by {', '.join(sorted(run.blocked))}" if run.blocked else ""
    asked = f"; people asked {run.asked} x" if run.asked else ""
    return f"{rfc3339(run.at)[:16]}Z {run.playbook} on {run.target}: {run.status}, {did}{asked}{held}"


def difference_text(found: dict[str, Any]) -> str:
    """For a terminal."""
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
