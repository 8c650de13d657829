"""Proxy for Docker's socket. It allows only the calls that remediator needs, for labelled containers only.

    python -m remediator.clients.docker.socket_proxy

Settings are environment variables:

- ``DOCKER_SOCKET``: default ``/var/run/docker.sock``.
- ``ALLOWED_LABEL``: the label of containers that may be read or changed; default ``remediator.service``.
- ``LISTEN``: default ``0.0.0.0:2375``.
- ``READ_ONLY``: ``1`` denies all changes.

Access to the socket is root access. A list of paths is no protection: a client that may create any container controls
the host. Therefore, a container is created only if `successor_spec` or `clone_spec` derive it from an existing one,
with an image of the same repository. The proxy forwards its own encoding of the checked body and query, so that the
Engine cannot read them differently. For example, of ``force=1&force=0`` the Engine uses the first value, and other
programs the last.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from remediator.clients.docker.container_spec import clone_spec, successor_spec, with_labels
from remediator.clients.docker.replace import ADDED, NUMBER, REPLACES, UNDONE
from remediator.core import untrusted_json
from remediator.errors import RemediatorError

ID = r"[a-zA-Z0-9][a-zA-Z0-9_.-]*"
FREE_LABELS = (ADDED, NUMBER, REPLACES, UNDONE)
ALWAYS = (("GET", r"/_ping"), ("GET", r"/version"))
IMAGES = (("GET", r"/images/json"), ("GET", r"/images/[a-zA-Z0-9][a-zA-Z0-9_.:@/-]*/json"))
READS = (("GET", rf"/containers/(?P<id>{ID})/(json|logs|stats)"),)
CHANGES = (
    ("POST", rf"/containers/(?P<id>{ID})/(start|stop|restart|rename)"),
    ("DELETE", rf"/containers/(?P<id>{ID})"),
)
PARAMETERS = (
    (r"/containers/json", ("all", "filters", "limit", "size")),
    (r"/images/json", ("all", "filters")),
    (r"/containers/[^/]+/json", ("size",)),
    (r"/containers/[^/]+/logs", ("stdout", "stderr", "since", "until", "timestamps", "tail", "follow")),
    (r"/containers/[^/]+/stats", ("stream", "one-shot")),
    (r"/containers/[^/]+/(stop|restart)", ("t",)),
    (r"/containers/[^/]+/rename", ("name",)),
    (r"/containers/create", ("name",)),
    (r"/containers/[^/]+", ("v", "force")),
)
"""The query parameters of each path. Others are denied: a start with ``checkpoint-dir`` reads a folder of the host."""
LIMIT = 1024 * 1024
KEPT_HEADERS = ("content-type", "api-version", "server")


class Denied(Exception):
    """The call is denied; the message states the reason."""

    status = 403


class NotFound(Denied):
    """No container has this name and the label. The answer does not reveal containers without the label."""

    status = 404


@dataclass(frozen=True)
class Proxy:
    """The proxy of one Engine.

    The order of checks:

    1. No parameter is given twice, and each is known.
    2. A call that reads is allowed by path and label. With ``READ_ONLY``, nothing else is.
    3. Only labelled containers are changed.
    4. Only copies are created.
    5. Only networks of the same service are used.

    All other calls are denied.
    """

    engine: httpx.AsyncClient
    label: str
    read_only: bool

    async def __call__(self, request: Request) -> Response:
        """Check one call and forward it."""
        path = re.sub(r"^/v\d+\.\d+(?=/)", "", request.url.path)
        version = request.url.path.removesuffix(path)
        try:
            parameters = request.query_params.multi_items()
            query = dict(parameters)
            if len(query) < len(parameters):
                raise Denied("a parameter is given twice")
            known = next((names for pattern, names in PARAMETERS if re.fullmatch(pattern, path)), ())
            unknown = sorted(query.keys() - set(known))
            if unknown:
                raise Denied(f"the parameter {unknown[0][:64]!r} is not allowed")
            checked, content = await self._checked(request, path, query)
        except Denied as denied:
            return PlainTextResponse(f"{request.method} {path}: {denied}", denied.status)
        except (RemediatorError, httpx.HTTPError) as error:
            return PlainTextResponse(f"{request.method} {path}: {error}", 502)
        return await self._forward(request.method, version + checked, query, content)

    async def _checked(self, request: Request, path: str, query: dict[str, str]) -> tuple[str, bytes | None]:
        """Return the path and the body to forward.

        The path names the container by the ID that was checked, never by its name. Between the check and the call,
        another container could get the name.

        Raises:
            Denied: the call is not allowed.
        """
        method = request.method
        if _one_of((*ALWAYS, *IMAGES), method, path):
            return path, None
        if (method, path) == ("GET", "/containers/json"):
            query["filters"] = self._list(query)
            return path, None
        if found := _one_of(READS, method, path):
            if _on(query, "follow") or (path.endswith("/stats") and _on({"stream": "true", **query}, "stream")):
                raise Denied("streaming answers are not allowed")
            return _by_id(found, await self._document(found["id"])), None
        if self.read_only:
            raise Denied("not allowed")
        if found := _one_of(CHANGES, method, path):
            document = await self._document(found["id"])
            if method == "DELETE" and (_on(query, "force") or _on(query, "v")):
                raise Denied("removing running containers or volumes is not allowed")
            return _by_id(found, document), None
        if (method, path) == ("POST", "/containers/create"):
            return path, await self._creation(await _body(request))
        if re.fullmatch(rf"/networks/{ID}/connect", path) and method == "POST":
            return path, await self._connection(path.split("/")[2], await _body(request))
        raise Denied("not allowed")

    def _list(self, query: Mapping[str, str]) -> str:
        """Return the filters to forward, in an encoding of our own: the Engine has several for them."""
        filters = _decoded(query.get("filters", "{}"))
        labels = filters.get("label") if isinstance(filters, dict) else None
        names = [str(label).split("=")[0] for label in labels] if isinstance(labels, list) else []
        if self.label not in names:
            raise Denied(f"containers can be listed only by the label {self.label}")
        return json.dumps(filters)

    async def _document(self, container: str) -> Mapping[str, Any]:
        """Return the Engine's document of a container with the label.

        Raises:
            NotFound: there is no container with this ID and the label.
        """
        answer = await self.engine.get(f"/containers/{container}/json")
        document = answer.json() if answer.is_success else {}
        if self.label not in ((document.get("Config") or {}).get("Labels") or {}):
            raise NotFound(f"there is no such container with the label {self.label}")
        return document

    async def _creation(self, body: Mapping[str, Any]) -> bytes:
        filters = json.dumps({"label": [self.label]})
        listed = await self.engine.get("/containers/json", params={"all": 1, "filters": filters})
        for each in listed.json():
            document = await self._document(each["Id"])
            image = (await self.engine.get(f"/images/{document['Image']}/json")).json()
            if await self._same_repository(document, str(body.get("Image"))) and _is_copy(body, document, image):
                return json.dumps(body).encode()
        raise Denied("the body is not a copy of an existing container")

    async def _same_repository(self, document: Mapping[str, Any], wanted: str) -> bool:
        """Return whether the wanted image and the container's image have a repository in common."""
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.:@/-]*", wanted) or ".." in wanted:
            return False
        names = []
        for image in (document["Image"], wanted):
            answer = await self.engine.get(f"/images/{image}/json")
            if not answer.is_success:
                return False
            names.append({_repository(tag) for tag in answer.json().get("RepoTags") or ()})
        return bool(names[0] & names[1])

    async def _connection(self, network: str, body: Mapping[str, Any]) -> bytes:
        """Allow only networks of other containers of the same service."""
        document = await self._document(str(body.get("Container")))
        service = document["Config"]["Labels"][self.label]
        filters = json.dumps({"label": [f"{self.label}={service}"]})
        listed = await self.engine.get("/containers/json", params={"all": 1, "filters": filters})
        known = {name for each in listed.json() for name in each["NetworkSettings"]["Networks"]}
        settings = body.get("EndpointConfig") or {}
        if network not in known or set(settings) - {"Aliases"}:
            raise Denied("no container of this service is in this network")
        return json.dumps({"Container": document["Id"], "EndpointConfig": settings}).encode()

    async def _forward(self, method: str, path: str, query: Mapping[str, str], content: bytes | None) -> Response:
        headers = {"content-type": "application/json"} if content is not None else {}
        try:
            url = httpx.URL(path=path, params=dict(query))
            answer = await self.engine.request(method, url, content=content, headers=headers)
        except httpx.TimeoutException:
            return PlainTextResponse("the Docker Engine did not answer", 504)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return PlainTextResponse(f"the Docker Engine is unreachable: {error}", 502)
        kept = {name: answer.headers[name] for name in KEPT_HEADERS if name in answer.headers}
        return Response(answer.content, answer.status_code, kept)


def _by_id(found: re.Match[str], document: Mapping[str, Any]) -> str:
    """Return the path with the container's ID instead of the name from the client.

    Raises:
        Denied: the Engine's answer has no valid ID.
    """
    identity = str(document.get("Id", ""))
    if not re.fullmatch(ID, identity):
        raise Denied("the Docker Engine did not name the container")
    return found.string[: found.start("id")] + identity + found.string[found.end("id") :]


def _one_of(rules: tuple[tuple[str, str], ...], method: str, path: str) -> re.Match[str] | None:
    found = (re.fullmatch(pattern, path) for verb, pattern in rules if verb == method and ".." not in path)
    return next((match for match in found if match), None)


def _on(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "false").lower() not in ("", "0", "false")


async def _body(request: Request) -> Mapping[str, Any]:
    content = b""
    async for piece in request.stream():
        content += piece
        if len(content) > LIMIT:
            raise Denied(f"the body is longer than {LIMIT} bytes")
    body = _decoded(content)
    if not isinstance(body, dict):
        raise Denied("the body is not a JSON object")
    return body


def _decoded(text: str | bytes) -> Any:
    try:
        return untrusted_json.decode(text)
    except ValueError:
        raise Denied("invalid JSON") from None


def _is_copy(body: Mapping[str, Any], document: Mapping[str, Any], image: Mapping[str, Any]) -> bool:
    """Return whether the body equals the specification derived from this container, apart from its own labels."""
    makers = (lambda: successor_spec(document, image, str(body["Image"])), lambda: clone_spec(document, image))
    return any(_equal(body, make) for make in makers)


def _equal(body: Mapping[str, Any], make: Any) -> bool:
    bare = dict.fromkeys(FREE_LABELS)
    try:
        expected = with_labels(make(), bare).body
    except (RemediatorError, KeyError):
        return False
    labels = body.get("Labels")
    if not isinstance(labels, dict):
        return False
    kept = {name: value for name, value in labels.items() if name not in FREE_LABELS}
    given = {**body, "Labels": kept}
    return bool(json.loads(json.dumps(expected)) == given)


def _repository(tag: str) -> str:
    head, slash, last = tag.partition("@")[0].rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def application(socket: str, label: str, *, read_only: bool) -> Starlette:
    """Return the ASGI application of the proxy."""
    transport = httpx.AsyncHTTPTransport(uds=socket)
    engine = httpx.AsyncClient(transport=transport, base_url="http://docker", timeout=120)
    proxy = Proxy(engine, label, read_only)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> Any:
        async with engine:
            yield

    return Starlette(
        routes=[Route("/{path:path}", proxy.__call__, methods=["GET", "POST", "DELETE"])], lifespan=lifespan
    )


def main() -> None:
    """Serve until the process is stopped."""
    host, _, port = os.environ.get("LISTEN", "0.0.0.0:2375").rpartition(":")
    app = application(
        os.environ.get("DOCKER_SOCKET", "/var/run/docker.sock"),
        os.environ.get("ALLOWED_LABEL", "remediator.service"),
        read_only=os.environ.get("READ_ONLY") == "1",
    )
    uvicorn.run(app, host=host, port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
