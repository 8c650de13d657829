"""The Docker Engine's API, over its unix socket, TCP with TLS, or a socket proxy.

There is no exec, no privileged creation, no pull and no build in here, and volumes are never removed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from remediator.clients.docker.container_spec import check_privileges
from remediator.clients.docker.models import (
    Container,
    ContainerPin,
    Document,
    Engine,
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
from remediator.clients.http import MEBIBYTE, Answer, HttpClient, HttpRefused
from remediator.errors import BadAnswer, InputError, Refused, TargetError

OLDEST = (1, 40)
NEWEST = (1, 51)
SIGNALS = frozenset({"HUP", "INT", "QUIT", "TERM", "KILL", "USR1", "USR2", "TTIN", "TTOU", "WINCH"})
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:@/-]*")
_CONTAINER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_MAX_LOGS = 4 * MEBIBYTE

T = TypeVar("T")


class DockerRefused(Refused):
    """The Engine, or a proxy in front of it, said no; ``status`` is the HTTP status.

    500 means that it tried and failed: a container whose restart was refused so may have been stopped by it.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _Message(msgspec.Struct):
    message: str


class _Created(msgspec.Struct, rename="pascal"):
    id: str


class Docker:
    """One Docker Engine.

    Raises, from every method, what `HttpClient.call` raises, and `DockerRefused` for its refusals. Containers are best
    named by their id, which is never used again; methods that change one take ``expected`` and raise `TargetError`,
    having done nothing, when it was started anew since that look at it. The Engine cannot compare by itself, so a
    restart in the millisecond between the look and the call would still be missed.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.url = endpoint.url
        self._timeout = endpoint.timeout.total_seconds()
        self._http = HttpClient(endpoint, max_bytes=32 * MEBIBYTE)
        self._version = ""

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def engine(self) -> Engine:
        """Its version."""
        return (await self._get("/version", None)).json(Engine)

    async def containers(self, labels: Mapping[str, str | None], *, all_: bool = True) -> tuple[Listed, ...]:
        """The containers with all of these labels (None: whatever it says), stopped ones too unless told otherwise.

        Raises:
            InputError: no label at all, which would mean every container of the host.
        """
        if not labels:
            raise InputError("containers are found by labels; none were given")
        filters = {"label": [name if value is None else f"{name}={value}" for name, value in labels.items()]}
        answer = await self._get("/containers/json", {"all": int(all_), "filters": _json(filters)})
        return answer.json(tuple[Listed, ...])

    async def container(self, container: str) -> Container:
        """One container, by id or name."""
        return (await self._get(f"/containers/{_container(container)}/json", None)).json(Container)

    async def document(self, container: str) -> Document:
        """One container as the Engine describes it, with its secrets: for recreating it only."""
        return (await self._get(f"/containers/{_container(container)}/json", None)).json(dict[str, Any])

    async def start(self, container: str) -> bool:
        """Start it; False if it ran already."""
        return await self._unless_so(f"/containers/{_container(container)}/start", {}, None)

    async def stop(self, container: str, *, stop_timeout: int = 10, expected: ContainerPin | None = None) -> bool:
        """Stop it, by force after ``stop_timeout`` seconds; False if it did not run.

        The answer is waited for that much longer than the endpoint's timeout.
        """
        await self._check(container, expected)
        path = f"/containers/{_container(container)}/stop"
        return await self._unless_so(path, {"t": stop_timeout}, stop_timeout + self._timeout)

    async def restart(self, container: str, *, stop_timeout: int = 10, expected: ContainerPin | None = None) -> None:
        """Stop it as `stop` does, if it runs, and start it."""
        await self._check(container, expected)
        path = f"/containers/{_container(container)}/restart"
        await self._call("POST", path, params={"t": stop_timeout}, seconds=stop_timeout + self._timeout)

    async def signal(self, container: str, signal: str, *, expected: ContainerPin | None = None) -> None:
        """Send one of `SIGNALS` to its first process."""
        if signal not in SIGNALS:
            raise InputError(f"signal {signal!r} is not allowed; allowed are {', '.join(sorted(SIGNALS))}")
        await self._check(container, expected)
        await self._call("POST", f"/containers/{_container(container)}/kill", params={"signal": f"SIG{signal}"})

    async def logs(
        self, container: str, lines: int = 100, *, until: datetime | None = None, max_bytes: int = _MAX_LOGS
    ) -> Logs:
        """The last lines that it wrote (before ``until``), as many of them as fit; also of one that has ended."""
        tty = (await self.container(container)).config.tty
        while True:
            answer = await self._logs(container, lines, until, max_bytes)
            if not answer.cut or lines <= 1:
                return _logs(answer, tty)
            lines = max(lines // 4, 1)

    async def _logs(self, container: str, lines: int, until: datetime | None, max_bytes: int) -> Answer:
        path = f"/containers/{_container(container)}/logs"
        parameters = {"stdout": 1, "stderr": 1, "tail": lines, **({"until": _seconds(until)} if until else {})}
        return await self._get(path, parameters, max_bytes=max_bytes, cut=True)

    async def stats(self, container: str) -> Stats:
        """Its use of resources now."""
        path = f"/containers/{_container(container)}/stats"
        return (await self._get(path, {"stream": "false", "one-shot": "true"})).json(RawStats).plain()

    async def events(
        self, since: datetime, until: datetime, labels: Mapping[str, str] | None = None
    ) -> tuple[Event, ...]:
        """What happened to containers between two instants of the past, as far as the Engine remembers.

        It keeps the last 256 events of everything, so an empty answer about a busy host proves nothing.
        """
        filters = {"type": ["container"], "label": [f"{name}={value}" for name, value in (labels or {}).items()]}
        parameters = {"since": _seconds(since), "until": _seconds(until), "filters": _json(filters)}
        answer = await self._get("/events", parameters)
        try:
            return tuple(_event(msgspec.json.decode(line, type=RawEvent)) for line in answer.body.splitlines() if line)
        except (msgspec.DecodeError, OverflowError) as error:
            raise BadAnswer(f"{answer.call} answered something unexpected: {error}") from None

    async def create(self, name: str, body: Document) -> str:
        """Create a container and return its id. See `docker_recreate.successor` for the body.

        Raises:
            InputError: it asks for privileges.
        """
        check_privileges(body)
        answer = await self._call("POST", "/containers/create", params={"name": _container(name)}, json=body)
        return answer.json(_Created).id

    async def rename(self, container: str, name: str) -> None:
        """Give a container another name; refused (409) if that is taken."""
        path = f"/containers/{_container(container)}/rename"
        await self._call("POST", path, params={"name": _container(name)})

    async def remove(self, container: str) -> None:
        """Remove a stopped container and keep its volumes; refused (409) if it runs."""
        await self._call("DELETE", f"/containers/{_container(container)}", params={"v": "false", "force": "false"})

    async def connect(self, network: str, container: str, settings: Document) -> None:
        """Connect a container to one more network, with these endpoint settings."""
        body = {"Container": _container(container), "EndpointConfig": settings}
        await self._call("POST", f"/networks/{_container(network)}/connect", json=body)

    async def images(self, *, reference: str) -> tuple[ListedImage, ...]:
        """The images on the host whose name is like this: ``app``, ``app:*``, ``registry/app:1.2``."""
        filters = {"reference": [_name(reference.removesuffix("*")) + "*" * reference.endswith("*")]}
        answer = await self._get("/images/json", {"filters": _json(filters)})
        return answer.json(tuple[ListedImage, ...])

    async def image(self, image: str) -> Image:
        """One image, by id or name; refused (404) if it is not on the host."""
        return (await self._get(f"/images/{_name(image)}/json", None)).json(Image)

    async def image_document(self, image: str) -> Document:
        """One image as the Engine describes it: for recreating a container of it only."""
        return (await self._get(f"/images/{_name(image)}/json", None)).json(dict[str, Any])

    async def _check(self, container: str, expected: ContainerPin | None) -> None:
        if expected is None:
            return
        try:
            found = (await self.container(container)).pin
        except DockerRefused as error:
            if error.status != 404:
                raise
            raise TargetError(f"container {container} is gone; nothing was done") from None
        if found != expected:
            raise TargetError(f"container {container} was started anew since the plan was made; nothing was done")

    async def _unless_so(self, path: str, parameters: Mapping[str, Any], seconds: float | None) -> bool:
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
            raise _explained(error, f"{method} {path}") from None

    async def _negotiate(self) -> str:
        """The newest version of the API that both sides speak."""
        try:
            answer = await self._http.get("/_ping")
        except HttpRefused as error:
            raise _explained(error, "GET /_ping") from None
        offered = answer.headers.get("Api-Version", "")
        if not re.fullmatch(r"\d+\.\d+", offered):
            raise BadAnswer(f"{self.url} does not say which version of the Docker API it speaks")
        spoken = min(tuple(map(int, offered.split("."))), NEWEST)
        if spoken < OLDEST:
            raise DockerRefused(f"{self.url} speaks version {offered} of the Docker API; at least 1.40 is needed", 400)
        return ".".join(map(str, spoken))


def endpoint_url(docker_host: str, *, tls: bool) -> str:
    """The url of an `Endpoint` for what DOCKER_HOST says: ``unix:///path``, ``tcp://host:port``.

    Raises:
        InputError: another kind of address, such as ssh.
    """
    scheme, _, rest = docker_host.partition("://")
    if scheme in ("unix", "http", "https") and rest:
        return docker_host
    if scheme == "tcp" and rest:
        return f"{'https' if tls else 'http'}://{rest}"
    raise InputError(f"{docker_host!r} is not an address of a Docker Engine: use unix:///path or tcp://host:port")


def _explained(error: HttpRefused, call: str) -> DockerRefused:
    try:
        reason = msgspec.json.decode(error.text, type=_Message).message
    except msgspec.DecodeError:
        reason = error.text[:300] or "no text"
    return DockerRefused(f"Docker: {call}: {error.status}: {reason}", error.status)


def _container(name: str) -> str:
    """The name or id, if it can stand in a path."""
    if not _CONTAINER.fullmatch(name):
        raise InputError(f"{name!r} is not the name or id of a container or network")
    return name


def _name(image: str) -> str:
    if not _NAME.fullmatch(image) or ".." in image:
        raise InputError(f"{image!r} is not the name or id of an image")
    return image


def _json(value: Mapping[str, Sequence[str]]) -> str:
    return msgspec.json.encode(value).decode()


def _seconds(instant: datetime) -> str:
    return f"{instant.timestamp():.6f}"


def _event(event: RawEvent) -> Event:
    at = datetime.fromtimestamp(event.time_nano / 1e9, UTC)
    return Event(at, event.type, event.action, event.actor.id, event.actor.attributes or {})


def _logs(answer: Answer, tty: bool) -> Logs:
    pieces = [("stdout", answer.body)] if tty else demultiplex(answer.body)

    def joined(*streams: str) -> str:
        return b"".join(piece for stream, piece in pieces if stream in streams).decode("utf-8", "replace")

    return Logs(joined("stdout", "stderr"), joined("stdout"), joined("stderr"), answer.cut)
