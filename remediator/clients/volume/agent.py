"""Agent in the pod of a service: it reads the service's data folder and moves its backups to quarantine, nothing else.

    python -m remediator.clients.volume.agent

Settings are environment variables: ``DATA``, ``BACKUPS``, ``PATTERN`` (default ``*.rdb``) and ``QUARANTINE`` name the
folders; ``TOKEN_FILE`` has the bearer token; ``LISTEN`` (default ``0.0.0.0:8096``) is the address.

Callers cannot choose a folder. Each request repeats the folders of the inventory, and a request that differs from the
settings of the agent is denied. A stolen token therefore can list and quarantine backups, but reads no content.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from remediator.clients.host.disk import File, Pin
from remediator.clients.host.folders import Folders
from remediator.clients.volume.files import LocalVolume
from remediator.core import untrusted_json
from remediator.core.local_files import read_text
from remediator.errors import Refused, RemediatorError

LIMIT = 4 * 1024 * 1024
"""Longest request, in bytes."""


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request: the folders of the inventory, and the arguments of the operation."""

    folders: Folders
    name: str = ""
    batch: str = ""
    sha256: str = ""
    """Checksum of the list of the batch."""
    files: tuple[File, ...] = ()
    pins: tuple[Pin, ...] = ()
    now: datetime | None = None
    seconds: float = 60.0
    """A change stops after the current file when this time has passed."""


async def _take(volume: LocalVolume, call: Call) -> Any:
    if call.now is None:
        raise Refused("the time of the batch is missing")
    return await volume.take(call.pins, call.batch, call.now)


OPERATIONS: Mapping[str, Callable[[LocalVolume, Call], Awaitable[Any]]] = {
    "usage": lambda volume, _: volume.usage(),
    "space": lambda volume, _: volume.space(),
    "backups-usage": lambda volume, _: volume.backups_usage(),
    "backups": lambda volume, _: volume.backups(),
    "backup-problem": lambda volume, call: volume.backup_problem(call.name),
    "same-filesystem": lambda volume, _: volume.is_quarantine_on_same_filesystem(),
    "batches": lambda volume, _: volume.batches(),
    "pins": lambda volume, call: volume.pins(call.files),
    "take": _take,
    "delete": lambda volume, call: volume.delete(call.batch, call.sha256),
    "restore": lambda volume, call: volume.restore(call.batch, call.sha256),
}
"""The operations of the agent, by the last part of the path."""


class Agent:
    """The agent for one set of folders.

    The order of checks: token, size of the body, shape of the body, folders; then the operation.
    """

    def __init__(self, folders: Folders, token_file: Path) -> None:
        self._volume = LocalVolume(folders)
        self._token_file = token_file

    async def __call__(self, request: Request) -> Response:
        """Do one operation and return its result as JSON, or its error as text.

        401: wrong token. 400: not a request of this version. 403 and 409: the operation was refused, or its target has
        a problem. 503: the file of the token cannot be read. 504: it did not end in time.
        """
        try:  # read again: a Secret can change while the agent runs
            token = read_text(self._token_file).strip()
        except (OSError, UnicodeDecodeError) as error:
            return PlainTextResponse(
                f"{_unreadable(self._token_file, error)}; restore it, then repeat the request", 503
            )
        shown = request.headers.get("authorization", "")
        if not token or not hmac.compare_digest(shown.encode(), f"Bearer {token}".encode()):
            return PlainTextResponse("the token is missing or wrong", 401)
        content = b""
        async for piece in request.stream():
            content += piece
            if len(content) > LIMIT:
                return PlainTextResponse(f"the body is longer than {LIMIT} bytes", 413)
        try:
            call = untrusted_json.decode(content, Call)
        except msgspec.DecodeError as error:
            return PlainTextResponse(f"not a request of this version: {error}", 400)
        if call.folders != self._volume.folders:
            message = f"the inventory has {_text(call.folders)}, but the agent has {_text(self._volume.folders)}"
            return PlainTextResponse(f"{message}; make both the same", 403)
        operation = OPERATIONS[request.path_params["operation"]]
        try:
            result = await asyncio.wait_for(operation(self._volume, call), call.seconds)
        except TimeoutError:
            return PlainTextResponse(f"not finished after {call.seconds:g} s", 504)
        except Refused as error:
            return PlainTextResponse(str(error), 403)
        except RemediatorError as error:
            return PlainTextResponse(str(error), 409)
        return Response(msgspec.json.encode(result), media_type="application/json")


def app(folders: Folders, token_file: Path) -> Starlette:
    """Return the agent as an application, with ``/healthz`` for probes."""
    agent = Agent(folders, token_file)

    async def endpoint(request: Request) -> Response:
        if request.path_params["operation"] not in OPERATIONS:
            return PlainTextResponse("no such operation", 404)
        return await agent(request)

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/v1/{operation}", endpoint, methods=["POST"]), Route("/healthz", health)])


def _text(folders: Folders) -> str:
    found = {name: getattr(folders, name) for name in ("data", "backups", "pattern", "quarantine")}
    return ", ".join(f"{name} {value}" for name, value in found.items() if value)


def _unreadable(token_file: Path, error: OSError | UnicodeDecodeError) -> str:
    why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
    return f"cannot read the token file '{token_file}': {why}"


def _path(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value.startswith("/"):
        raise SystemExit(f"volume agent: {name} is {value!r}; set it to an absolute path, for example {name}=/data")
    return value


def main() -> None:
    """Serve until the process receives a signal."""
    data, backups, quarantine = (_path(os.environ, name) for name in ("DATA", "BACKUPS", "QUARANTINE"))
    folders = Folders(data, backups, os.environ.get("PATTERN", "*.rdb"), quarantine)
    token_file = Path(_path(os.environ, "TOKEN_FILE"))
    try:
        read_text(token_file)
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(
            f"volume agent: {_unreadable(token_file, error)}; set TOKEN_FILE to the file with the token"
        ) from None
    host, _, port = os.environ.get("LISTEN", "0.0.0.0:8096").rpartition(":")
    uvicorn.run(app(folders, token_file), host=host, port=int(port), access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
