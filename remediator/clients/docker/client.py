"""Docker Engine API client, over a unix socket, TCP with TLS, or the socket proxy.

It has no exec, no privileged containers, no pull and no build, and it never removes volumes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from remediator.clients.docker.container_spec import check_privileges
from remediator.clients.docker.models import (
    Container,
    ContainerPin,
    Document,
    Event,
    Image,
    Listed,
    ListedImage,
    Logs,
    RawEvent,
    RawStats,
    Stats,
    demultiplex,
)
from remediator.clients.endpoints import Endpoint
from remediator.clients.http import Answer, HttpClient, HttpRefused
from remediator.core import untrusted_json
from remediator.core.sizes import MEBIBYTE
from remediator.errors import BadAnswer, InputError, Refused, TargetError

OLDEST = (1, 40)
NEWEST = (1, 51)
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:@/-]*")
_CONTAINER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_MAX_LOGS = 4 * MEBIBYTE


class DockerRefused(Refused):
    """The Engine, or a proxy in front of it, rejected the call; ``status`` is the HTTP status.

    500 means that the Engine tried and failed: a restart with this answer may have stopped the container.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _Message(msgspec.Struct):
    message: str


class _Created(msgspec.Struct, rename="pascal"):
    id: str


class Docker:
    """A client of one Docker Engine.

    Every method raises what `HttpClient.call` raises, and `DockerRefused` if the Engine rejects the call. Name
    containers by their ID, which is never reused. Methods that change a container take ``expected``: if another user
    restarted the container since, they raise `TargetError` and change nothing. The Engine cannot compare, so a restart
    in the millisecond between check and call is missed.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.url = endpoint.url
        self._timeout = endpoint.timeout.total_seconds()
        self._http = HttpClient(endpoint, max_bytes=32 * MEBIBYTE)
        self._version = ""

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def containers(self, labels: Mapping[str, str | None], *, all_: bool = True) -> tuple[Listed, ...]:
        """Return the containers with all of these labels (None: any value). With ``all_``, include stopped ones.

        Raises:
            InputError: no label is given, which would select every container of the host.
        """
        if not labels:
            raise InputError("containers are selected by labels: give at least one")
        filters = {"label": [name if value is None else f"{name}={value}" for name, value in labels.items()]}
        answer = await self._get("/containers/json", {"all": int(all_), "filters": _json(filters)})
        return answer.json(tuple[Listed, ...])

    async def container(self, container: str) -> Container:
        """Return one container, by ID or name."""
        return (await self._get(f"/containers/{_container(container)}/json", None)).json(Container)

    async def document(self, container: str) -> Document:
        """Return the Engine's document of a container, secrets included. Use it only to recreate the container."""
        return (await self._get(f"/containers/{_container(container)}/json", None)).json(dict[str, Any])

    async def start(self, container: str) -> bool:
        """Start a container. Return False if it was running already."""
        return await self._post_unless_done(f"/containers/{_container(container)}/start", {}, None)

    async def stop(self, container: str, *, stop_timeout: int = 10, expected: ContainerPin | None = None) -> bool:
        """Stop a container; the Engine kills it after ``stop_timeout`` seconds. Return False if it was not running.

        The timeout of the call is ``stop_timeout`` plus the endpoint's timeout.
        """
        await self._check(container, expected)
        path = f"/containers/{_container(container)}/stop"
        return await self._post_unless_done(path, {"t": stop_timeout}, stop_timeout + self._timeout)

    async def restart(self, container: str, *, stop_timeout: int = 10, expected: ContainerPin | None = None) -> None:
        """Stop the container as `stop` does, if it is running, and start it."""
        await self._check(container, expected)
        path = f"/containers/{_container(container)}/restart"
        await self._call("POST", path, params={"t": stop_timeout}, seconds=stop_timeout + self._timeout)

    async def logs(
        self,
        container: str,
        lines: int = 100,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        timestamps: bool = False,
        max_bytes: int = _MAX_LOGS,
    ) -> Logs:
        """Return the last lines of output that fit ``max_bytes``, also of a stopped container.

        Args:
            container: ID or name.
            lines: maximum number of lines.
            since: only lines at or after this time.
            until: only lines before this time.
            timestamps: begin each line with its time (RFC 3339).
            max_bytes: maximum size of the answer.
        """
        tty = (await self.container(container)).config.tty
        limits = {"since": since, "until": until}
        asked = {name: _seconds(at) for name, at in limits.items() if at is not None} | {"timestamps": int(timestamps)}
        while True:
            answer = await self._logs(container, lines, asked, max_bytes)
            if not answer.cut or lines <= 1:
                return _logs(answer, tty)
            lines = max(lines // 4, 1)

    async def _logs(self, container: str, lines: int, asked: Mapping[str, str | int], max_bytes: int) -> Answer:
        path = f"/containers/{_container(container)}/logs"
        parameters = {"stdout": 1, "stderr": 1, "tail": lines, **asked}
        return await self._get(path, parameters, max_bytes=max_bytes, cut=True)

    async def stats(self, container: str) -> Stats:
        """Return the current resource usage of a container."""
        path = f"/containers/{_container(container)}/stats"
        return (await self._get(path, {"stream": "false", "one-shot": "true"})).json(RawStats).plain()

    async def events(
        self, since: datetime, until: datetime, labels: Mapping[str, str] | None = None
    ) -> tuple[Event, ...]:
        """Return the container events between two times in the past.

        The Engine keeps its last 256 events of any kind, so on a busy host an empty answer proves nothing.
        """
        filters = {"type": ["container"], "label": [f"{name}={value}" for name, value in (labels or {}).items()]}
        parameters = {"since": _seconds(since), "until": _seconds(until), "filters": _json(filters)}
        answer = await self._get("/events", parameters)
        try:
            found = [untrusted_json.decode(line, RawEvent) for line in answer.body.splitlines() if line]
            return tuple(each.plain() for each in found)
        except (msgspec.DecodeError, OverflowError) as error:
            raise BadAnswer(f"{answer.call}: unexpected answer: {error}") from None

    async def create(self, name: str, body: Document) -> str:
        """Create a container and return its ID. `container_spec.successor_spec` makes the body.

        Raises:
            InputError: the body requests privileges.
        """
        check_privileges(body)
        answer = await self._call("POST", "/containers/create", params={"name": _container(name)}, json=body)
        return answer.json(_Created).id

    async def rename(self, container: str, name: str) -> None:
        """Rename a container. The Engine rejects a name in use (409)."""
        path = f"/containers/{_container(container)}/rename"
        await self._call("POST", path, params={"name": _container(name)})

    async def remove(self, container: str) -> None:
        """Remove a stopped container and keep its volumes. The Engine rejects a running one (409)."""
        await self._call("DELETE", f"/containers/{_container(container)}", params={"v": "false", "force": "false"})

    async def connect(self, network: str, container: str, settings: Document) -> None:
        """Connect a container to another network, with these endpoint settings."""
        body = {"Container": _container(container), "EndpointConfig": settings}
        await self._call("POST", f"/networks/{_container(network)}/connect", json=body)

    async def images(self, *, reference: str) -> tuple[ListedImage, ...]:
        """Return the images on the host that match a name: ``app``, ``app:*``, ``registry/app:1.2``."""
        filters = {"reference": [_name(reference.removesuffix("*")) + "*" * reference.endswith("*")]}
        answer = await self._get("/images/json", {"filters": _json(filters)})
        return answer.json(tuple[ListedImage, ...])

    async def image(self, image: str) -> Image:
        """Return one image, by ID or name. The Engine rejects an unknown one (404)."""
        return (await self._get(f"/images/{_name(image)}/json", None)).json(Image)

    async def image_document(self, image: str) -> Document:
        """Return the Engine's document of an image. Use it only to recreate a container."""
        return (await self._get(f"/images/{_name(image)}/json", None)).json(dict[str, Any])

    async def dry_call(self, method: str, path: str) -> None:
        """Send a call for a container that does not exist, to find out whether it is allowed."""
        parameters = {"name": "dry-call"} if path.endswith("/rename") else {}
        await self._call(method, path, params={"tail": 0, "stdout": 1} if path.endswith("/logs") else parameters)

    async def _check(self, container: str, expected: ContainerPin | None) -> None:
        if expected is None:
            return
        try:
            found = await self.container(container)
        except DockerRefused as error:
            if error.status != 404:
                raise
            raise TargetError(f"container {container!r} does not exist any more; nothing was changed") from None
        if not found.matches(expected):
            raise TargetError(f"container {container!r} was restarted after planning; nothing was changed")

    async def _post_unless_done(self, path: str, parameters: Mapping[str, Any], seconds: float | None) -> bool:
        try:
            await self._call("POST", path, params=parameters, seconds=seconds)
        except DockerRefused as error:
            if error.status == 304:
                return False
            raise
        return True

    async def _get(self, path: str, parameters: Mapping[str, Any] | None, **limits: Any) -> Answer:
        return await self._call("GET", path, params=parameters, **limits)

    async def _call(self, method: str, path: str, **request: Any) -> Answer:
        if not self._version:
            self._version = await self._negotiate()
        try:
            return await self._http.call(method, f"/v{self._version}{path}", **request)
        except HttpRefused as error:
            raise _refused(error, f"{method} {path}") from None

    async def _negotiate(self) -> str:
        """Return the newest API version that both sides support."""
        try:
            answer = await self._http.get("/_ping")
        except HttpRefused as error:
            raise _refused(error, "GET /_ping") from None
        offered = answer.headers.get("Api-Version", "")
        if not re.fullmatch(r"\d+\.\d+", offered):
            raise BadAnswer(f"{self.url} does not report its Docker API version")
        version = min(tuple(map(int, offered.split("."))), NEWEST)
        if version < OLDEST:
            raise DockerRefused(
                f"{self.url} supports version {offered} of the Docker API; at least 1.40 is required", 400
            )
        return ".".join(map(str, version))


def endpoint_url(docker_host: str, *, tls: bool) -> str:
    """Return the endpoint URL for a value of DOCKER_HOST: ``unix:///path`` or ``tcp://host:port``.

    Raises:
        InputError: another kind of address, such as ssh.
    """
    scheme, _, rest = docker_host.partition("://")
    if scheme in ("unix", "http", "https") and rest:
        return docker_host
    if scheme == "tcp" and rest:
        return f"{'https' if tls else 'http'}://{rest}"
    raise InputError(f"{docker_host!r} is not a supported Docker address: expected unix:///path or tcp://host:port")


def _refused(error: HttpRefused, call: str) -> DockerRefused:
    try:
        reason = untrusted_json.decode(error.text, _Message).message
    except msgspec.DecodeError:
        reason = error.text[:300] or "empty body"
    return DockerRefused(f"Docker: {call}: {error.status}: {reason}", error.status)


def _container(name: str) -> str:
    """Return a name or ID that is safe in a path."""
    if not _CONTAINER.fullmatch(name):
        raise InputError(f"{name!r} is not a valid name or ID of a container or network")
    return name


def _name(image: str) -> str:
    if not _NAME.fullmatch(image) or ".." in image:
        raise InputError(f"{image!r} is not a valid name or ID of an image")
    return image


def _json(value: Mapping[str, Sequence[str]]) -> str:
    return msgspec.json.encode(value).decode()


def _seconds(instant: datetime) -> str:
    return f"{instant.timestamp():.6f}"


def _logs(answer: Answer, tty: bool) -> Logs:
    pieces = [("stdout", answer.body)] if tty else demultiplex(answer.body)

    def joined(*streams: str) -> str:
        return b"".join(piece for stream, piece in pieces if stream in streams).decode("utf-8", "replace")

    return Logs(joined("stdout", "stderr"), joined("stdout"), joined("stderr"), answer.cut)
