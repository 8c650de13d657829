"""``python -m demo.stack up|down|status|logs|restart-remediator``."""

from __future__ import annotations

import os
import sys

from demo.stack import processes
from demo.stack.settings import Settings, StackError, from_environment


def main(arguments: list[str]) -> int:
    """Run the command. Return 0 for success, 1 for failure, 2 for wrong usage."""
    if not arguments or arguments[0] not in VERBS or (len(arguments) > 1 and arguments[0] != "logs"):
        print(f"usage: python -m demo.stack {'|'.join(VERBS)}   (logs takes a program's name)", file=sys.stderr)
        return 2
    try:
        return VERBS[arguments[0]](from_environment(os.environ), *arguments[1:2])
    except StackError as error:
        print(error, file=sys.stderr)
        return 1


def _up(settings: Settings) -> int:
    processes.up(settings)
    print(urls(settings))
    return 0


def _down(settings: Settings) -> int:
    processes.down(settings)
    print(f"stopped; its files are in {settings.state}")
    return 0


def _status(settings: Settings) -> int:
    _demand(settings)
    for process in processes.processes(settings):
        print(f"{process['name']:16} {process['statename']:9} {process['description']}")
    return 0


def _logs(settings: Settings, name: str = "") -> int:
    known = sorted(path.stem for path in (settings.state / "logs").glob("*.log"))
    if name and name not in known:
        raise StackError(f"no log of {name!r}; logs: {', '.join(known) or 'none'}")
    for each in [name] if name else known:
        print(processes.tail(settings, each, 200 if name else 10), end="\n\n")
    return 0


def _restart_remediator(settings: Settings) -> int:
    _demand(settings)
    processes.restart(settings, "remediator")
    print("the remediator was restarted and is ready")
    return 0


def _demand(settings: Settings) -> None:
    if not processes.running(settings):
        raise StackError("the stack is not running; start it with 'make up'")


def urls(settings: Settings) -> str:
    """Return the addresses, one per line."""
    ports = settings.ports
    return "\n".join(
        (
            f"app           http://127.0.0.1:{ports.nginx}/items        (through nginx)",
            f"prometheus    http://127.0.0.1:{ports.prometheus}",
            f"alertmanager  http://127.0.0.1:{ports.alertmanager}",
            f"remediator    http://127.0.0.1:{ports.remediator}/api/v1/runs",
            f"settings      {settings.remediator_yaml}",
            f"logs          {settings.state}/logs",
        )
    )


VERBS = {"up": _up, "down": _down, "status": _status, "logs": _logs, "restart-remediator": _restart_remediator}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
