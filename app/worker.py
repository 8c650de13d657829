"""The gunicorn worker: uvicorn's, without access log, with a bounded shutdown, and bound to the life of its master."""

import ctypes
import os
import signal
import sys
from typing import Any, ClassVar

from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Worker(UvicornWorker):  # type: ignore[misc]
    """A worker that ends within gunicorn's graceful timeout, so that gunicorn never kills it."""

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
    """Let the kernel send SIGTERM to this process when its parent ends.

    Unlike gunicorn's own workers, uvicorn's does not check whether its master still runs. After the master is killed
    (kill -9, out of memory), orphaned workers would keep serving and hold the port. No new master could start.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # the parent ended before the call
        os.kill(os.getpid(), signal.SIGTERM)
