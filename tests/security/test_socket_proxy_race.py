"""The Docker socket proxy forwards the checked request: a rename between check and call changes nothing."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from remediator.clients.docker.socket_proxy import Proxy

pytestmark = pytest.mark.promise(8)
LABEL = "remediator.service"


class RenamingEngine:
    """A Docker Engine in which the name ``app`` belongs to another container after the first look-up."""

    def __init__(self) -> None:
        self.names = {"app": "1" * 64}
        self.called: list[str] = []

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer one call. After a look-up of a container, its name belongs to another one."""
        self.called.append(f"{request.method} {request.url.path}")
        if request.method == "GET" and request.url.path.endswith("/json"):
            name = request.url.path.split("/")[2]
            identity = self.names.get(name, name)
            labels = {LABEL: "app"} if identity == "1" * 64 else {}
            self.names["app"] = "2" * 64
            return httpx.Response(200, json={"Id": identity, "Config": {"Labels": labels}})
        return httpx.Response(204)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/containers/app/stop"), ("POST", "/v1.43/containers/app/restart"), ("DELETE", "/containers/app"),
     ("GET", "/containers/app/logs")],
)  # fmt: skip
async def test_a_rename_after_the_check_reaches_no_other_container(method: str, path: str) -> None:
    """The forwarded call names the container by the ID that was checked."""

    engine = RenamingEngine()
    async with httpx.AsyncClient(transport=httpx.MockTransport(engine.answer), base_url="http://docker") as behind:
        proxy = Proxy(behind, LABEL, read_only=False)
        app = Starlette(routes=[Route("/{path:path}", proxy.__call__, methods=["GET", "POST", "DELETE"])])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://proxy") as client:
            await client.request(method, path)
    assert engine.called[-1] == f"{method} {path.replace('app', '1' * 64)}"
