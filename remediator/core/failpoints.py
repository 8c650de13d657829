"""Failpoints: places where a test can end or pause this process. Without ``REMEDIATOR_CRASH_AT`` they do nothing.

``REMEDIATOR_CRASH_AT=kill@before:run.transition/running`` ends the process (SIGKILL) before the first commit that moves
a run to *running*. ``stop@after:action.intended#2`` pauses it (SIGSTOP) after the second commit of an intent. The names
are ``before:`` and ``after:`` with what is committed, with ``call`` for the call of an action, or ``answer`` for a 2xx.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable

_WANTED = os.environ.get("REMEDIATOR_CRASH_AT", "")
_HOW = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
_passed = 0


def reach(moment: str, names: Callable[[], Iterable[str]]) -> None:
    """Pass a failpoint. ``names`` returns its names, and is called only if a failpoint is set."""
    if _WANTED:
        global _passed  # one counter, because one process has at most one failpoint
        how, _, place = _WANTED.partition("@")
        place, _, number = place.partition("#")
        if place in {f"{moment}:{name}" for name in names()}:
            _passed += 1
            if _passed == int(number or 1):
                os.kill(os.getpid(), _HOW[how])
