"""Raw requests to the running Docker socket proxy. Its engine renames containers between check and call."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest

from tests.support.servers import Server
from tests.support.servers.remediator import ROOT

pytestmark = pytest.mark.promise(8)
LABEL = "remediator.service"
OURS, THEIRS = "1" * 64, "2" * 64


class RenamingEngine:
    """An engine on a Unix socket. After each look-up of a container, ``app`` and ``vault`` exchange their names."""

    def __init__(self, path: Path) -> None:
        self.names = {"app": OURS, "vault": THEIRS}
        self.calls: list[str] = []
        """Calls that reached the engine, without the look-ups ``/containers/ID/json`` of the proxy itself."""
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def address_string(self) -> str:
                return "unix"

            def handle_one_call(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, document = engine.answer(self.command, self.path)
                body = b"" if status == 204 else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = handle_one_call

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class UnixServer(ThreadingMixIn, UnixStreamServer):
            daemon_threads = True

        self._server = UnixServer(str(path), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, target: str) -> tuple[int, Any]:
        """Answer a call with the engine's current state."""
        path = unquote(re.sub(r"^/v[\d.]+", "", urlsplit(target).path))
        found = re.fullmatch(r"/containers/([^/]+)/json", path)
        if found is None or method != "GET":
            self.calls.append(f"{method} {target}")
            return 204, None
        identity = self.names.get(found[1], found[1])
        self.names = {"app": self.names["vault"], "vault": self.names["app"]}
        if identity not in (OURS, THEIRS):
            return 404, {"message": "no such container"}
        return 200, {"Id": identity, "Config": {"Labels": {LABEL: "app"} if identity == OURS else {}}}


class Proxy(Server):
    """The proxy as a separate process."""

    def environment(self) -> Mapping[str, str]:
        settings = {"DOCKER_SOCKET": str(self.folder / "engine.sock"), "LISTEN": f"127.0.0.1:{self.port}"}
        return {**os.environ, "PYTHONPATH": str(ROOT), **settings}

    def command(self) -> list[str]:
        return [sys.executable, "-m", "remediator.clients.docker.socket_proxy"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, RenamingEngine]]:
    """Run the engine and the proxy in front of it."""
    folder = tmp_path_factory.mktemp("proxy")
    engine = RenamingEngine(folder / "engine.sock")
    proxy = Proxy(folder)
    try:
        proxy.start()
        yield proxy, engine
    finally:
        proxy.stop()
        engine.stop()


def send(proxy: Proxy, raw: bytes) -> int:
    """Send raw bytes. Return the status of the first answer, 0 without one."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as connection:
        connection.sendall(raw)
        head = connection.recv(4096)
    return int(head.split(b" ")[1]) if head.startswith(b"HTTP/") else 0


def request(target: str, method: str = "POST", headers: str = "Host: proxy\r\n", body: bytes = b"") -> bytes:
    """Return the bytes of a request."""
    return f"{method} {target} HTTP/1.1\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_only_the_checked_container_is_called_while_names_change(running: tuple[Proxy, RenamingEngine]) -> None:
    """During a hundred renames, each of a hundred calls reaches the labelled container or no container."""
    proxy, engine = running
    engine.calls.clear()
    for number in range(100):
        verb = ("stop", "restart", "start")[number % 3]
        assert send(proxy, request(f"/v1.43/containers/{('app', 'vault')[number % 2]}/{verb}")) in (204, 404)
    assert len(engine.calls) >= 20
    assert all(f"/containers/{OURS}/" in call for call in engine.calls), engine.calls


SNEAKY = {
    "dots": f"/containers/{OURS}/../{THEIRS}/stop",
    "encoded dots": f"/containers/{OURS}/%2e%2e/{THEIRS}/stop",
    "encoded slash": f"/containers/{OURS}%2f..%2f{THEIRS}/stop",
    "twice encoded": f"/containers/{OURS}%252f..%252f{THEIRS}/stop",
    "question mark in the name": f"/containers/{THEIRS}%3fx/stop",
    "question mark hides the verb": f"/containers/{OURS}/stop%3f/../../{THEIRS}/kill",
    "fragment": f"/containers/{THEIRS}/stop%23/containers/{OURS}/json",
    "absolute target": f"http://other/containers/{THEIRS}/stop",
    "another version": f"/v1.43/v1.43/containers/{THEIRS}/stop",
    "digits of another script": f"/v\u0661.\u0664/containers/{THEIRS}/stop",
    "double slash": f"//containers//{THEIRS}//stop",
    "semicolon": f"/containers/{OURS};{THEIRS}/stop",
    "newline": f"/containers/{OURS}%0a/{THEIRS}/stop",
    "null": f"/containers/{THEIRS}%00/stop",
    "exec": f"/containers/{OURS}/exec",
    "attach": f"/containers/{OURS}/attach",
    "kill": f"/containers/{OURS}/kill",
    "update": f"/containers/{OURS}/update",
    "build": "/build?remote=http://evil.example",
    "volume": "/volumes/create",
    "pull": "/images/create?fromImage=evil",
    "prune": "/containers/prune",
}


@pytest.mark.parametrize("name", SNEAKY)
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
def test_no_spelling_of_a_path_reaches_another_container(
    running: tuple[Proxy, RenamingEngine], name: str, method: str
) -> None:
    """However a path is spelled, the engine gets no change of a container without the label."""
    proxy, engine = running
    engine.calls.clear()
    status = send(proxy, request(quote(SNEAKY[name], safe="/%?:;#=.", encoding="utf-8"), method))
    assert engine.calls == [] and status >= 400, (status, engine.calls)


@pytest.mark.parametrize(
    "query",
    [
        "t=1&t=99",
        "checkpoint=a&checkpoint-dir=/etc",
        "detachKeys=ctrl-c",
        "name=vault",
        "unknown=1",
    ],
)
def test_only_the_parameters_that_the_platform_needs_are_forwarded(
    running: tuple[Proxy, RenamingEngine], query: str
) -> None:
    """Other parameters are refused: for example, a start from a checkpoint reads a folder of the host."""
    proxy, engine = running
    engine.calls.clear()
    engine.names = {"app": OURS, "vault": THEIRS}
    assert send(proxy, request(f"/containers/app/start?{query}")) == 403
    assert engine.calls == []


@pytest.mark.parametrize(
    "filters",
    ['{"label":["other"]}', '{"label":{"remediator.service":false}}', '{"label":["remediator.service"],"label":[]}',
     '{"label!":["remediator.service"]}', "[]", "7", "null",
     '{"label":"remediator.service"}', '{"label":[["remediator.service"]]}'],
)  # fmt: skip
def test_containers_without_the_label_are_not_listed(running: tuple[Proxy, RenamingEngine], filters: str) -> None:
    """A list has only containers with the label, however its filter is written."""
    proxy, engine = running
    engine.calls.clear()
    assert send(proxy, request(f"/containers/json?filters={quote(filters)}", "GET")) == 403
    assert engine.calls == []


def test_the_engine_gets_the_filter_that_was_checked(running: tuple[Proxy, RenamingEngine]) -> None:
    """The proxy encodes the checked filter again, so that the engine cannot read it differently."""
    proxy, engine = running
    engine.calls.clear()
    filters = '{"label": ["other"], "label": ["remediator.service=app"]}'
    assert send(proxy, request(f"/containers/json?all=1&filters={quote(filters)}", "GET")) in (200, 204)
    [call] = engine.calls
    assert unquote(call).count("label") == 1 and "other" not in call


@pytest.mark.parametrize(
    "headers",
    ["Host: a/containers/x\r\n", "Host: proxy\r\nX-Original-URL: /containers/x/kill\r\n", "Host: a?b\r\n",
     "Host: a#b\r\n"],
)  # fmt: skip
def test_headers_do_not_change_what_is_called(running: tuple[Proxy, RenamingEngine], headers: str) -> None:
    """Only the target of the request decides which call is made, and no header changes it."""
    proxy, engine = running
    engine.calls.clear()
    send(proxy, request(f"/containers/{THEIRS}/stop", "POST", headers))
    send(proxy, request(f"/containers/{OURS}/kill", "POST", headers))
    assert engine.calls == []
