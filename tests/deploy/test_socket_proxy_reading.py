"""The proxy and the Engine interpret a request in the same way: the Engine gets exactly what the proxy checked."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import httpx
import pytest

from remediator.clients.docker.socket_proxy import LIMIT, application

MINE = {"Id": "mine", "Config": {"Labels": {"remediator.service": "web"}}}


@dataclass
class Asked:
    """The requests that the stand-in for the Engine received, verbatim."""

    socket: str
    lines: list[str] = field(default_factory=list)


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Asked]:
    """Run a stand-in for the Engine that has one container, which is ours, and answers every request."""
    asked = Asked(str(tmp_path / "engine.sock"))

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            asked.lines.append(f"{self.command} {self.path}")
            body = json.dumps(MINE if self.path.endswith("/mine/json") else []).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, format: str, *args: object) -> None:
            """Write nothing."""

    server = ThreadingUnixStreamServer(asked.socket, Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield asked
    server.shutdown()
    server.server_close()


@pytest.fixture
async def client(context: Asked) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of the proxy."""
    app = application(context.socket, "remediator.service", read_only=False)
    made = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://proxy")
    async with app.router.lifespan_context(app), made:
        yield made


FILTERS = '{"label": ["remediator.service"]}'


@pytest.mark.parametrize(
    ("method", "path", "params"),
    [
        ("DELETE", "/containers/mine", [("force", "1"), ("force", "0")]),
        ("DELETE", "/containers/mine", [("v", "true"), ("v", "false")]),
        ("GET", "/containers/json", [("filters", "{}"), ("filters", FILTERS)]),
        ("GET", "/containers/json", [("filters", "x")]),
        ("GET", "/containers/json", [("filters", "[" * 15_000)]),
        ("GET", "/containers/mine/logs", [("stdout", "1"), ("follow", "1")]),
        ("GET", "/containers/mine/stats", []),
    ],
)
async def test_what_two_readers_could_read_differently_is_refused(
    context: Asked, client: httpx.AsyncClient, method: str, path: str, params: list[tuple[str, str]]
) -> None:
    """A repeated parameter, invalid filters and an endless answer get 403, and the Engine gets no request."""
    answer = await client.request(method, path, params=params)
    assert answer.status_code == 403, answer.text
    assert f"{method} {path}" not in " ".join(line.partition("?")[0] for line in context.lines)


async def test_the_query_that_was_judged_is_the_one_that_is_sent(context: Asked, client: httpx.AsyncClient) -> None:
    """The proxy encodes the query again, so that both read the same parameters."""
    answer = await client.request("POST", "/containers/mine/rename?name=a;v=1%26force=1")
    assert answer.status_code == 200, answer.text
    assert context.lines[-1] == "POST /containers/mine/rename?name=a%3Bv%3D1%26force%3D1"


@pytest.mark.parametrize("body", [b'{"Image": "' + b"a" * LIMIT + b'"}', b"[" * 100_000, b"[]", b"\xff"])
async def test_an_invalid_body_creates_nothing(context: Asked, client: httpx.AsyncClient, body: bytes) -> None:
    """A body that is too long, too deep, not an object or not text gets 403, and the Engine gets no request."""
    answer = await client.post("/containers/create", content=body)
    assert answer.status_code == 403, answer.text
    assert not [line for line in context.lines if "create" in line]
