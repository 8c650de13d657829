"""The gunicorn worker: uvicorn's, which leaves the access log to the app and does not wait for ever at the end."""

from typing import Any, ClassVar

from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]


class Worker(UvicornWorker):  # type: ignore[misc]
    """Ends within gunicorn's graceful timeout, so that gunicorn never has to kill it."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = UvicornWorker.CONFIG_KWARGS | {
        "access_log": False,
        "server_header": False,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.config.timeout_graceful_shutdown = max(1, self.cfg.graceful_timeout - 2)
