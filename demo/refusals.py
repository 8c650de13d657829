"""Refusals and their reasons: RedisDown in a change freeze, with a stop and a silence, and above the rate limit.

Each time Redis is killed for real and stays down, because a guard refuses the remedy. The remediator gives the reason,
and the demonstration checks independently that nothing was done. Then the obstacle is removed, and Redis is fixed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo import changed
from demo.probe import Probe
from demo.stack import processes
from demo.stack.settings import ROOT, StackError, from_environment

PATIENCE = 240.0
"""Timeouts in seconds: until the refusal, and until the healing afterwards."""
ALERT = "RedisDown"


@dataclass(frozen=True)
class Refusal:
    """One refused remedy and its result."""

    what: str
    reason: str
    text: str
    dead: bool
    """Whether Redis was still down some time after the refusal."""
    healed: bool
    """Whether Redis served again after the obstacle was removed."""

    @property
    def well(self) -> bool:
        """Return whether the remedy was refused with a reason, nothing was done, and Redis was fixed in the end."""
        return bool(self.reason) and self.dead and self.healed


def show(probe: Probe, console: Console) -> list[Refusal]:
    """Run all refusals on a running stack, and restore the settings at the end."""
    told = []
    for scene in (_freeze, _silence, _budget):
        told.append(scene(probe, console))
        console.print()
    return told


def table(refusals: list[Refusal]) -> Table:
    """Print the table for the end of the demonstration."""
    shown = Table(title="Refused remedies", title_justify="left")
    for column in ("case", "reason", "explanation", "nothing done", "healed afterwards"):
        shown.add_column(column, overflow="fold")
    for item in refusals:
        shown.add_row(item.what, item.reason, item.text, "yes" if item.dead else "NO", "yes" if item.healed else "NO")
    return shown


def _freeze(probe: Probe, console: Console) -> Refusal:
    """Refuse during a freeze window that covers today."""
    now = datetime.now(UTC)
    window = {"name": "year-end freeze", "from": f"{now - timedelta(days=1):%Y-%m-%d}"}
    window["to"] = f"{now + timedelta(days=1):%Y-%m-%d}"
    _rule(console, "RedisDown during a freeze")
    with _guards(probe, {"freeze": {"timezone": "UTC", "windows": [window]}}):
        _kill(probe, console)
        held = _held(probe, console, "freeze:frozen")
    return Refusal("during a freeze", *held, healed=_heals(probe, console))


def _silence(probe: Probe, console: Console) -> Refusal:
    """Refuse with a stop, then with a silence.

    The stop comes first, because Alertmanager does not send an alert that is silenced from the start.
    """
    _rule(console, "RedisDown while an operator has set a stop and then silenced the alert")
    paused = _remediator(probe, "stop", "create", "--reason", "an operator looks first").split(":")[0]
    _say(console, f"remediator stop create: {paused}")
    _kill(probe, console)
    _wait(lambda: _blocked(probe, "kill_switch:stopped") is not None, "the refusal by the kill switch")
    silence = _post_silence(probe)
    _say(console, f"the alert is silenced in Alertmanager ({silence}), and the stop released")
    _remediator(probe, "stop", "release", paused)
    held = _held(probe, console, "still_firing:suppressed")
    _call(probe, "DELETE", f"/api/v2/silence/{silence}", None)
    return Refusal("stopped, then silenced", *held, healed=_heals(probe, console))


def _budget(probe: Probe, console: Console) -> Refusal:
    """Refuse above a limit of three runs an hour. Earlier runs of the demonstration count too."""
    _rule(console, "RedisDown for the fourth time in an hour, with a limit of three")
    with _guards(probe, {"rate_limit": {"target": ["3/1h"]}}):
        for _ in range(4):
            _kill(probe, console)
            _wait(
                lambda: _blocked(probe, "rate_limit:used_up") is not None or _serves(probe),
                "a refusal or a healed Redis",
            )
            if _blocked(probe, "rate_limit:used_up") is not None:
                break
            _rest(probe)
        held = _held(probe, console, "rate_limit:used_up")
    return Refusal("a fourth time within 3/1h", *held, healed=_heals(probe, console))


def _held(probe: Probe, console: Console, reason: str) -> tuple[str, str, bool]:
    """Return the reason, its text, and whether Redis is still down two seconds later."""
    _wait(lambda: _blocked(probe, reason) is not None, f"refused: {reason}")
    run = _blocked(probe, reason)
    text = "" if run is None else str(run["detail"].get("text", ""))
    _say(console, f"refused: {text}")
    time.sleep(2)
    return reason, text, not _serves(probe)


def _blocked(probe: Probe, reason: str) -> dict[str, Any] | None:
    found = (run for run in probe.runs(ALERT) if f"{run['blocked_by']}:{run['detail'].get('guard_reason')}" == reason)
    return next(found, None)


def _serves(probe: Probe) -> bool:
    return probe.redis_serves() is not None


def _heals(probe: Probe, console: Console) -> bool:
    _say(console, "the obstacle is removed")
    try:
        _wait(lambda: _serves(probe), "healed")
        _rest(probe)
    except StackError:
        return False
    _say(console, "[green]healed, checked independently[/green]")
    return True


def _rest(probe: Probe) -> None:
    _wait(lambda: probe.at_rest(ALERT) and probe.unwatched(ALERT, changed.RECURRENCE_WINDOW), "rest")


def _kill(probe: Probe, console: Console) -> None:
    _say(console, f"kill -9 of Redis (pid {probe.signal('redis', signal.SIGKILL)})")


def _guards(probe: Probe, guards: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Run the stack with other guard settings and restore the old ones at the end, also after an error."""
    now = yaml.safe_load(probe.settings.remediator_yaml.read_text())
    return changed.settings(probe, {"guards": {**now["guards"], **guards}})


def _remediator(probe: Probe, *argv: str) -> str:
    command = [sys.executable, "-m", "remediator", *argv, "--config", str(probe.settings.remediator_yaml)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        raise StackError(f"remediator {argv[0]}: {done.stderr.strip()}")
    return done.stdout


def _post_silence(probe: Probe) -> str:
    now = datetime.now(UTC)
    body = {
        "matchers": [{"name": "alertname", "value": ALERT, "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(hours=1)).isoformat(),
        "createdBy": "demo",
        "comment": "operators are working on it",
    }
    return str(json.loads(_call(probe, "POST", "/api/v2/silences", body))["silenceID"])


def _call(probe: Probe, method: str, path: str, body: Any) -> bytes:
    url = f"http://127.0.0.1:{probe.settings.ports.alertmanager}{path}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


def _wait(condition: Callable[[], bool], what: str) -> None:
    processes.wait(condition, what, PATIENCE)


def _rule(console: Console, title: str) -> None:
    console.rule(title, align="left")


def _say(console: Console, text: str) -> None:
    console.print(f"  {text if text.startswith('[') else escape(text)}", highlight=False)


def main() -> int:
    """Run on a stack that is already up ('make up'). Return 0 if every remedy was refused and later done."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        probe = Probe(from_environment(os.environ))
        if not processes.running(probe.settings):
            raise StackError("the stack is not running; start it with 'make up'")
        processes.wait(probe.watchdog_heard, "the Watchdog alert at the remediator", PATIENCE)
        refusals = show(probe, console)
    except StackError as error:
        console.print(escape(str(error)), style="red")
        return 1
    console.print(table(refusals))
    return 0 if all(item.well for item in refusals) else 1


if __name__ == "__main__":
    sys.exit(main())
