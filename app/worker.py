"""The gunicorn worker: uvicorn's, which leaves the access log to the app and neither waits for ever nor outlives its
master."""

import ctypes
import os
import signal
import sys
from typing import Any, ClassVar

from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Worker(UvicornWorker):  # type: ignore[misc]
    """Ends within gunicorn's graceful timeout, so that gunicorn never has to kill it."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = UvicornWorker.CONFIG_KWARGS | {
        "access_log": False,
        "server_header": False,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.config.timeout_graceful_shutdown = max(1, self.cfg.graceful_timeout - 2)

    def init_process(self) -> None:
        end_with(self.ppid)
        super().init_process()


def end_with(parent: int) -> None:
    """Have the kernel send SIGTERM to this process when its parent ends.

    A master that was killed (by kill -9, or for want of memory) leaves its workers: unlike gunicorn's own kinds of
    worker, uvicorn's does not look. Orphans would serve on, with nobody to reload or replace them, and hold the port,
    so that no other master could start, ever.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os.kill(os.getpid(), signal.SIGTERM)
