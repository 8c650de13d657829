"""``python -m deploy.local up|down|status``."""

from __future__ import annotations

import sys

from deploy.local import stack
from deploy.local.settings import Settings, StackError, from_environment

USAGE = "usage: python -m deploy.local up|down|status"


def main(arguments: list[str]) -> int:
    """Do what is asked; 0 all well, 1 not, 2 wrong usage."""
    verbs = {"up": _up, "down": _down, "status": _status}
    if len(arguments) != 1 or arguments[0] not in verbs:
        print(USAGE, file=sys.stderr)
        return 2
    try:
        return verbs[arguments[0]](from_environment())
    except StackError as error:
        print(error, file=sys.stderr)
        return 1


def _up(settings: Settings) -> int:
    stack.up(settings)
    print(urls(settings))
    return 0


def _down(settings: Settings) -> int:
    stack.down(settings)
    print(f"stopped; everything that it wrote is in {settings.state}")
    return 0


def _status(settings: Settings) -> int:
    if not stack.running(settings):
        print("the stack does not run; 'make up' starts it")
        return 1
    for process in stack.processes(settings):
        print(f"{process['name']:16} {process['statename']:9} {process['description']}")
    return 0


def urls(settings: Settings) -> str:
    """Where to look."""
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
